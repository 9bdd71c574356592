"""What a run says: plain lines into a pipe, bars on a terminal, and tables made from results alone."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.console.observer import PlainObserver, TerminalObserver, observer_for
from harness.console.report import interval, marks, number, plan_table, ratio_verdict, result_table


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1234.5, 3, "1,234"), (0.5, 3, "0.500"), (12.34, 3, "12.3"), (None, 3, "-"), (0, 3, "0"),
        (0.716424, 5, "0.71642"), (-3.14159, 3, "-3.14"), (1e6, 3, "1,000,000"),
    ],
)  # fmt: skip
def test_numbers(value, digits, text):
    assert number(value, digits) == text


@given(st.floats(min_value=1e-3, max_value=1e9))
def test_a_printed_number_is_the_number(value):
    printed = float(number(value).replace(",", ""))
    assert printed == pytest.approx(value, rel=0.006, abs=0.0006)


def test_intervals_and_verdicts():
    assert interval((1.0, 2.5)) == "[1.00, 2.50]" and interval(None) == "-"
    assert ratio_verdict(2.0, (1.5, 2.5)) == "faster"
    assert ratio_verdict(0.5, (0.4, 0.6)) == "slower"
    assert ratio_verdict(1.1, (0.9, 1.3)) == "no difference"
    assert ratio_verdict(1.1, None) == "indicative"
    assert ratio_verdict(None, None) == "-"


def test_plain_lines_tell_each_tenth_once(fabricate):
    stream = io.StringIO()
    observer = PlainObserver(stream)
    observer.stage("search", total=20.0)
    for _ in range(40):
        observer.advance(0.5, "410 qps, 0.7 % late")
    observer.stage("floor")
    observer.advance(1.0)
    observer.warn("the host is noisy")
    observer.note("record: [somewhere]")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "search: 20 s" and lines[1] == "search: 2/20 s  410 qps, 0.7 % late"
    assert len([line for line in lines if line.startswith("search: ") and "/20" in line]) == 10
    assert lines[-3:] == ["floor", "warning: the host is noisy", "record: [somewhere]"]
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()


def test_a_pipe_gets_plain_lines_and_a_terminal_bars():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    assert isinstance(observer_for(io.StringIO()), PlainObserver)
    assert isinstance(observer_for(Terminal()), TerminalObserver)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_reader_that_has_gone_ends_no_measurement(fabricate, terminal):
    """As of ``run.py | head``, or of a log on a full disk: an hour of measuring is not lost for it."""

    class Gone(io.StringIO):
        def isatty(self):
            return terminal

        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

        def flush(self):
            raise OSError(28, "No space left on device")

    observer = observer_for(Gone())
    observer.stage("quads", total=4.0)
    observer.advance(2.0, "240 qps, 0.9 % late")
    observer.plan(fabricate()[1].result.plan, 3.0, 2.0)
    observer.warn("the host is noisy")
    observer.done(fabricate()[1].result)
    observer.note("record: somewhere")
    observer.close()


def test_bars_show_stage_note_and_time(fabricate):
    stream = io.StringIO()
    observer = TerminalObserver(Console(file=stream, force_terminal=True, width=140))
    observer.stage("quads", total=4.0)
    observer.advance(1.0, "240 qps, 0.9 % late")
    observer.warn("[red]not markup[/red]")
    observer.stage("latency", total=None)
    observer.done(fabricate()[1].result)
    observer.close()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "quads" in text and "240 qps, 0.9 % late" in text and "[red]not markup[/red]" in text
    assert "latency-bound throughput" in text


def table_text(result) -> str:
    console = Console(width=130, no_color=True)
    with console.capture() as capture:
        console.print(result_table(result))
    return capture.get()


def test_final_table(fabricate):
    result = fabricate(opts={"bf16": {}})[1].result
    text = table_text(result)
    for part in ("120 [115, 125]", "240 [230, 250]", "2.00 [1.90, 2.10]", "1.80 [1.76, 1.84]", "verdict: faster",
                 "gate: pass, timed answers pass", "floor: p50 0.110 ms, p99 0.400 ms, 9,000 qps",
                 "validity: valid, 0 quads voided", "Bayes AUC of the data set: 0.81000",
                 "emulated on this hardware: bf16", "opt=[bf16]", "p99 <= 100 ms"):  # fmt: skip
        assert part in text


def test_final_table_of_a_baseline_alone(fabricate):
    text = table_text(fabricate(opts={})[1].result)
    assert "120 [115, 125]" in text and "candidate" not in text and "verdict" not in text


def test_what_could_not_be_measured_is_said(fabricate):
    result = fabricate()[1].result
    zero = dataclasses.replace(result.baseline, lbt_qps=0.0, lbt_ci=None, lbt_status="unreachable")
    beyond = dataclasses.replace(result.candidate, lbt_ci=None, lbt_status="beyond_range")
    ratio = dataclasses.replace(result.ratio, lbt=None, lbt_ci=None, reason="the baseline meets the SLA at no rate")
    text = table_text(dataclasses.replace(result, baseline=zero, candidate=beyond, ratio=ratio))
    assert "0 (late at every rate)" in text and ">= 240" in text
    assert "verdict: - (the baseline meets the SLA at no rate)" in text


def test_the_plan_names_options_that_were_changed_and_marks(fabricate):
    line = fabricate()[1].result.plan[0]
    lines = [
        dataclasses.replace(line, options={"fc": True, "recurrent": False}),
        dataclasses.replace(line, name="theirs", options={"depth": 3}, emulated=True, fallbacks=(), division="open"),
        dataclasses.replace(line, name="executor", fallbacks=(), built={"summary": "2 workers of 1 thread"}),
        dataclasses.replace(line, name="bf16", claims=tuple(f"top.{i}.dtype" for i in range(9)), options={}),
    ]
    console = Console(width=150, no_color=True)
    with console.capture() as capture:
        console.print(plan_table(lines, 3.21, 1.5))
    text = capture.get()
    assert "fusion (recurrent=False)" in text and "fallback: top.1.impl" in text
    assert "2 workers of 1 thread" in text
    assert "theirs (depth=3)" in text and "emulated; open" in text
    assert "top.5.dtype and 3 more" in text and "slack: baseline 1.50, candidate 3.21" in text


def test_the_plan_tells_what_was_built(fabricate):
    built = {"hot_rows": 1200, "hot_share_of_calibration": 0.75}
    line = dataclasses.replace(fabricate()[1].result.plan[0], emulated=False, fallbacks=(), built=built)
    assert marks(line) == "hot rows 1,200; hot share of calibration 0.750"
