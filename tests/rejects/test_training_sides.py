"""Sides of a training that crash, hang, or report an error: what the referee says, and that nothing is left."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from harness.errors import SutFailure
from harness.training.sides import TrainingSides

COMMAND = (sys.executable, "-m", "tests.rejects.misbehaving_training")


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainingSides]:
    monkeypatch.setattr("harness.training.sides.STALL_S", 1.0)
    with TrainingSides(command=COMMAND) as started:
        yield started


def start(sides: TrainingSides, fault: str) -> int:
    return sides.start("candidate", {"fault": fault, "environment": {}}).pid


def test_what_cannot_be_built_says_why(sides: TrainingSides) -> None:
    with pytest.raises(SutFailure, match=r"'candidate' could not be built(.|\n)*has no such weight"):
        start(sides, "unbuilt")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("train", r"failed when it was told to train(.|\n)*index 7 is out of bounds"),
        ("read", r"ended when it was told to read \(exited with code 3\)"),
        ("hold", r"hangs: it was told to hold"),
    ],
)
def test_a_side_that_goes_wrong_under_way(sides: TrainingSides, command: str, said: str) -> None:
    pid = start(sides, command)
    assert sides.order("candidate", "compute") == 7
    with pytest.raises(SutFailure, match=said):
        sides.order("candidate", command, steps=3)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_frozen_side_uses_no_processor_time_and_takes_no_orders(sides: TrainingSides) -> None:
    start(sides, "none")
    assert sides.order("candidate", "train", steps=1) == 7
    sides.freeze("candidate")
    before = sides.cpu_ns("candidate")
    with pytest.raises(ValueError, match="'candidate' is frozen"):
        sides.order("candidate", "train", steps=1)
    sides.thaw("candidate")
    assert sides.order("candidate", "train", steps=1) == 7
    assert sides.cpu_ns("candidate") - before < 50_000_000
    peak = sides.peak_bytes("candidate")
    sides.forget_peak("candidate")
    assert peak is not None and 10**6 < (sides.peak_bytes("candidate") or 0) <= peak
    assert sides.faults("candidate")[0] > 0 and sides.rss_bytes("candidate") > 10**6
