"""A side that uses the CPU while it should be frozen: it cannot, or the result is void. Real processes."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.clock import process_cpu_ns, sleep_s
from harness.console.observer import PlainObserver
from harness.host.processes import read_stat
from harness.host.scheduling import CpuSets, available_cores
from harness.measurement.bench import Bench, Stretch
from harness.measurement.evidence import Evidence
from harness.measurement.outcome import validity_of
from harness.measurement.referee import Referee, ring_shape
from harness.options import BUDGETS
from zoo.schema import Split

COMMAND = (sys.executable, str(Path(__file__).with_name("misbehaving_sut.py")))
QUIET: dict[int, tuple[str, ...]] = dict.fromkeys(range(6), ())
MS = 1_000_000


def _start(referee: Referee, name: str, split: Split, fault: str) -> None:
    spec = {"fault": fault, "after": 0}
    referee.start_side(name, spec, ring_shape([split], 100, slots=64), command=COMMAND, timeout_s=30.0)


def _bench(referee: Referee, split: Split, fabricate: Callable[..., Any]) -> Bench:
    """Two sides: "burner" keeps a core busy whenever it may, "good" answers."""
    trial, _ = fabricate()
    bench = Bench(
        trial=trial,
        budget=BUDGETS["smoke"],
        referee=referee,
        split=split,
        evidence=Evidence(),
        observer=PlainObserver(io.StringIO()),
    )
    for name, fault in (("burner", "burns_beside"), ("good", "good")):
        _start(referee, name, split, fault)
        bench.joined(name)
    return bench


def _load(bench: Bench) -> None:
    bench.open_loop("good", Stretch(purpose="quad", index=0, rate_qps=50.0, seconds=1.5))


@pytest.mark.parametrize("control_groups", [True, False])
def test_a_frozen_burner_does_not_run_and_the_result_stands(
    control_groups: bool, split: Split, fabricate: Callable[..., Any]
) -> None:
    with Referee(control_groups=control_groups) as referee:
        bench = _bench(referee, split, fabricate)
        if not control_groups:
            assert referee.frozen_by["burner"] == "sigstop"
        frozen = referee.cpu_ns("burner")
        _load(bench)
        assert referee.cpu_ns("burner") == frozen
        bench.wake("burner")
        before = referee.cpu_ns("burner")
        sleep_s(0.4)
        assert referee.cpu_ns("burner") > before + 50 * MS
    assert validity_of(QUIET, len(QUIET), bench.remarks)[0].verdict == "valid"


@pytest.mark.parametrize("control_groups", [True, False])
def test_an_accomplice_who_wakes_a_frozen_side_fails_or_voids_the_result(
    control_groups: bool, split: Split, fabricate: Callable[..., Any]
) -> None:
    with Referee(control_groups=control_groups) as referee:
        bench = _bench(referee, split, fabricate)
        for pid in referee.pids("burner"):
            os.kill(pid, signal.SIGCONT)
        _load(bench)
        bench.wake("burner")
        by_control_group = referee.frozen_by["burner"] == "cgroup"
    validity, _ = validity_of(QUIET, len(QUIET), bench.remarks)
    if by_control_group:
        assert (validity.verdict, bench.remarks) == ("valid", [])
        return
    assert validity.verdict == "void"
    (remark,) = validity.reasons
    used_ms = int(remark.removeprefix("burner used ").partition(" ")[0])
    assert used_ms > 50
    assert remark == f"burner used {used_ms} ms of CPU time while it was frozen"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("takes_cores", "may run on cores [{other}], which it was not given"),
        ("takes_precedence", "raised the priority of 1 of its threads"),
    ],
)
def test_a_side_that_takes_more_of_the_machine_than_it_was_given_voids_the_result(
    fault: str, said: str, split: Split, fabricate: Callable[..., Any]
) -> None:
    own, *others = available_cores()
    if not others or (fault == "takes_precedence" and os.geteuid()):
        pytest.skip("needs two cores, and root to raise a priority")
    trial, _ = fabricate()
    with Referee() as referee:
        referee.cpus = CpuSets(sender=(own, *others), sut=(own,))
        bench = Bench(
            trial=trial, budget=BUDGETS["smoke"], referee=referee, split=split, evidence=Evidence(),
            observer=PlainObserver(io.StringIO()),
        )  # fmt: skip
        for name in ("good", fault):
            _start(referee, name, split, name)
            bench.joined(name)
        for name in ("good", fault, "good"):
            bench.wake(name)
    assert bench.remarks == [f"{fault} {said.format(other=', '.join(map(str, others)))}"]
    assert validity_of(QUIET, len(QUIET), bench.remarks)[0].verdict == "void"


def test_a_burner_without_session_parent_and_environment_is_frozen_and_killed_with_its_side(split: Split) -> None:
    with Referee() as referee:
        _start(referee, "sut", split, "burns_hidden")
        if referee.frozen_by["sut"] != "cgroup":
            pytest.skip("no cgroup v2 that this user may write to")
        (hidden,) = [pid for pid in referee.pids("sut") if not Path(f"/proc/{pid}/environ").read_bytes()]
        referee.freeze("sut")
        frozen = process_cpu_ns(hidden)
        sleep_s(0.3)
        assert process_cpu_ns(hidden) == frozen
    stat = read_stat(hidden)
    assert stat is None or stat.state in "ZX"
