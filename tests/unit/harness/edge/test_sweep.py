"""Command lines from end to end with a measurement that is made up: exit codes, resumption, what is left behind."""

from __future__ import annotations

import dataclasses
import functools
import signal
import sys

import pytest
from rich.console import Console

import run
from harness.edge.failures import explain
from harness.edge.sweep import Outcome, holm_calls, summary_table
from harness.errors import ExitCode, SutFailure
from harness.host.environment import describe_environment, hardware_class, source_sha256
from harness.record.reader import find_records, read_record

TRIAL_FIELDS = ("model", "sizes", "dataset", "dataset_options", "dataset_fingerprint", "training", "weights", "backend",
                "device", "scope", "opts", "scenario", "query_sizes", "sla", "seed", "budget")  # fmt: skip


environment_once = functools.cache(describe_environment)


class Bench:
    """Stands for the measuring part: calls are counted, and a trial can be told to go wrong."""

    def __init__(self, fabricate):
        self.fabricate = fabricate
        self.seen: list[tuple[str, tuple[str, ...]]] = []
        self.trouble: dict[tuple[str, tuple[str, ...]], BaseException] = {}
        self.shifts: dict[str, float] = {}
        self.verdict = "valid"

    def measure(self, trial, options, observer):
        key = (trial.model, tuple(trial.opts))
        self.seen.append(key)
        if key in self.trouble:
            raise self.trouble[key]
        fields = {name: getattr(trial, name) for name in TRIAL_FIELDS}
        made, measurement = self.fabricate(**fields, shift=self.shifts.get(trial.model, 0.0))
        assert made.trial_id == trial.trial_id
        hardware = hardware_class(options.keep_awake)
        result = dataclasses.replace(measurement.result, source_sha256=source_sha256(), hardware_class=hardware)
        result = dataclasses.replace(result, validity=dataclasses.replace(result.validity, verdict=self.verdict))
        observer.done(result)
        return dataclasses.replace(measurement, result=result, environment=environment_once())


@pytest.fixture
def bench(fabricate, monkeypatch, tmp_path):
    bench = Bench(fabricate)
    monkeypatch.setattr("harness.measure.measure", bench.measure)
    monkeypatch.setattr("harness.record.writer.write_plots", lambda folder, result, queries: [])
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    yield bench
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def command(bench, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["run.py", "tracking=none", *arguments])
        code = run.main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_single_run_writes_one_record_and_nothing_else(command, tmp_path):
    code, out, err = command("model=din", "opt=[fusion]")
    assert (code, err) == (0, "")
    (path,) = find_records(tmp_path / "records")
    assert f"record: {path}" in out and "MLflow: off" in out and "verdict: faster" in out
    assert [p.name for p in tmp_path.iterdir()] == ["records"]
    assert set(read_record(path).result.trial["opts"]) == {"fusion"}


def test_a_single_run_always_measures(command, bench):
    assert command("model=din")[0] == command("model=din")[0] == 0
    assert len(bench.seen) == 2


def test_a_sweep_runs_to_its_end_and_is_resumed(command, bench, tmp_path):
    """Of four trials one crashes and one fails its gate: the worst code by precedence is the gate's."""
    bench.trouble["wdl", ("fusion",)] = SutFailure("the candidate died (signal 11)")
    bench.shifts["din"] = 0.3
    sweep = ("-m", "model=wdl,din", "opt=[],[fusion]")
    code, out, err = command(*sweep)
    assert code == ExitCode.GATE_FAILED
    assert bench.seen == [("wdl", ()), ("wdl", ("fusion",)), ("din", ()), ("din", ("fusion",))]
    assert "error: the candidate died (signal 11)" in err and "Traceback" not in err
    assert len(find_records(tmp_path / "records")) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["records"]
    summary = out[out.index("sweep") :]
    assert summary.count("din/planted") == 2 and "failed" in summary and "fail" in summary

    bench.trouble.clear()
    bench.seen.clear()
    code, out, _ = command(*sweep)
    assert bench.seen == [("wdl", ("fusion",))] and code == ExitCode.GATE_FAILED
    assert out.count("skipped, its valid record is") == 3 and len(find_records(tmp_path / "records")) == 4


def test_an_experiment_that_is_a_sweep_runs_each_of_its_trials_once(command, bench):
    assert command("-m", "experiment=backends", "backend=torch")[0] == 0
    assert [model for model, _ in bench.seen] == ["wdl", "din", "dien", "dlrm"]
    assert all("fusion" in opts for _, opts in bench.seen)


def test_a_harmed_record_is_measured_again(command, bench, tmp_path):
    command("-m", "model=wdl,din")
    (find_records(tmp_path / "records")[0] / "result.json").write_text("{}")
    bench.seen.clear()
    command("-m", "model=wdl,din")
    assert len(bench.seen) == 1


def test_a_framework_of_another_version_is_another_measurement(command, bench, monkeypatch):
    command("-m", "model=wdl")
    monkeypatch.setattr("harness.edge.sweep.here", lambda: {"torch": "9.9"})
    bench.seen.clear()
    code, out, _ = command("-m", "model=wdl")
    assert code == 0 and len(bench.seen) == 1 and out.count("was measured with torch ") == 1


def test_a_void_measurement_is_recorded_and_is_no_success(command, bench, tmp_path):
    """Not even where its gate failed, too: 5 is the first code after 2. The next sweep measures it again."""
    bench.verdict = "void"
    bench.shifts["din"] = 0.3
    code, out, _ = command("-m", "model=wdl,din", "opt=[fusion]")
    assert code == ExitCode.REFUSED and len(find_records(tmp_path / "records")) == 2
    assert out.count("verdict: none, the measurement is void (exit code 5)") == 2 and "verdict: faster" not in out
    summary = out[out.index("sweep") :]
    assert summary.count("void") == 2 and "faster" not in summary
    bench.verdict = "valid"
    bench.shifts.clear()
    bench.seen.clear()
    code, out, _ = command("-m", "model=wdl,din", "opt=[fusion]")
    assert code == ExitCode.OK and len(bench.seen) == 2 and out.count(" is void, and is not taken") == 2


def test_noisy_records_are_measured_again_by_request(command, bench):
    bench.verdict = "noisy_host"
    command("-m", "model=wdl")
    bench.seen.clear()
    assert command("-m", "model=wdl")[0] == 0 and bench.seen == []
    bench.verdict = "valid"
    code, out, _ = command("-m", "model=wdl", "resume=quiet")
    assert code == 0 and len(bench.seen) == 1 and out.count("on a noisy host, and is not taken") == 1
    assert command("-m", "model=wdl", "resume=never")[0] == 0 and len(bench.seen) == 2


def test_ctrl_c_ends_the_sweep_and_the_same_command_goes_on(command, bench, tmp_path):
    bench.trouble["din", ()] = KeyboardInterrupt()
    code, out, err = command("-m", "model=wdl,din,dlrm")
    assert code == 130 and bench.seen == [("wdl", ()), ("din", ())]
    assert "interrupted" in err and "goes on where this one stopped" in err and "wdl/planted" in out
    assert len(list((tmp_path / "records").iterdir())) == 1
    bench.trouble.clear()
    bench.seen.clear()
    assert command("-m", "model=wdl,din,dlrm")[0] == 0
    assert bench.seen == [("din", ()), ("dlrm", ())]


def test_ctrl_c_of_a_single_run_leaves_nothing(command, bench, tmp_path):
    bench.trouble["wdl", ()] = KeyboardInterrupt()
    code, _, err = command("model=wdl")
    assert code == 130 and "starts it again" in err and list(tmp_path.iterdir()) == []


def test_sigterm_cleans_up_as_well(command, monkeypatch, tmp_path):
    def killed(trial, options, observer):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("harness.measure.measure", killed)
    with pytest.raises(SystemExit) as ended:
        command("model=wdl")
    assert ended.value.code == 143 and list(tmp_path.iterdir()) == []


def test_bad_configuration_is_found_before_the_first_trial(command, bench, tmp_path):
    code, out, err = command("-m", "model=wdl,din", "opt=[],[fusion]", "scenario.sla_ms=-1")
    assert code == 2 and bench.seen == [] and out == ""
    assert err.startswith("error: scenario.sla_ms=-1") and len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_training_without_the_seeds_of_its_gate_is_refused_before_there_are_data(command, bench, monkeypatch):
    def loaded(*_):
        raise AssertionError("data were loaded")

    monkeypatch.setattr("harness.measurement.preparation.load_dataset", loaded)
    code, out, err = command("-m", "scope=train", "model=wdl", "opt=[fusion],[bf16]")
    assert code == ExitCode.BAD_CONFIGURATION and bench.seen == [] and out == ""
    assert err.startswith("error: opt: 'bf16' trains with other mathematics") and "training.seeds=5" in err


def test_an_unforeseen_error_is_one_line_unless_asked_for_more(command, bench, monkeypatch):
    bench.trouble["wdl", ()] = ZeroDivisionError("division by zero")
    code, _, err = command("model=wdl")
    assert code == 1 and err.startswith("error: ZeroDivisionError: division by zero") and "Traceback" not in err
    assert "Traceback" in command("model=wdl", "hydra.verbose=true")[2]
    monkeypatch.setenv("RECARENA_TRACEBACK", "1")
    assert "Traceback" in command("model=wdl")[2]


def test_results_that_cannot_be_kept_are_still_printed(command, bench, monkeypatch, tmp_path):
    def full(folder, result, queries):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.record.writer.write_plots", full)
    code, out, err = command("model=wdl", "opt=[fusion]")
    assert code == 1 and "verdict: faster" in out and "No space left on device" in err
    assert list(tmp_path.iterdir()) == []


def outcome(fabricate, p_value, speedup=2.0):
    result = fabricate(speedup=speedup)[1].result
    ratio = dataclasses.replace(result.ratio, lbt_p=p_value)
    return dataclasses.replace(result, ratio=ratio)


def test_holm_over_the_sweep(fabricate):
    """0.01, 0.02, 0.03: Holm multiplies by 3, 2, 1 (0.03, 0.04, 0.04); with 0.04 added the second is 0.06."""
    three = [outcome(fabricate, p) for p in (0.03, 0.01, 0.02)]
    assert holm_calls(three) == ["faster"] * 3
    four = [*three, outcome(fabricate, 0.04)]
    assert holm_calls(four) == ["no difference", "faster", "no difference", "no difference"]
    assert holm_calls([None, fabricate(opts={})[1].result, outcome(fabricate, 0.01, 0.5)]) == ["-", "-", "slower"]
    unknown = outcome(fabricate, None)
    unknown = dataclasses.replace(unknown, ratio=dataclasses.replace(unknown.ratio, lbt_ci=None))
    assert holm_calls([unknown]) == ["indicative"]


def test_what_is_void_is_not_of_the_family(fabricate):
    """0.03 is significant alone, and not among four (Holm: 0.03 x 2 = 0.06)."""
    void = [outcome(fabricate, p) for p in (0.001, 0.04)]
    void = [dataclasses.replace(r, validity=dataclasses.replace(r.validity, verdict="void")) for r in void]
    assert holm_calls([outcome(fabricate, 0.03), *void]) == ["faster", "void", "void"]
    assert holm_calls([outcome(fabricate, 0.03), outcome(fabricate, 0.04)])[0] == "no difference"


def test_the_summary_shows_failures_too(fabricate):
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(
            summary_table(
                [
                    Outcome(code=ExitCode.OK, result=fabricate()[1].result),
                    Outcome(code=ExitCode.FAILED, error=explain(SutFailure("it died"))),
                ]
            )
        )
    text = capture.get()
    assert "2.00 [1.90, 2.10]" in text and "error: it died" in text
