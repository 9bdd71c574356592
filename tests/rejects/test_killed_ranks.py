"""A side of several ranks that loses one of them, or its first process: what is said, and that nothing is left."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.clock import now_ns, sleep_s
from harness.errors import SutFailure
from harness.host.processes import read_stat
from harness.training.sides import TrainingSides
from tests.parity.conftest import EVERY_COLUMN, ODD_SIZES
from tests.parity.sharded_case import NEEDS, Case, every_column

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torchrec") is None, reason=NEEDS)
STEPS = 3


@pytest.fixture
def side(tmp_path: Path) -> Iterator[TrainingSides]:
    """A side on two ranks that has taken a few steps."""
    case = Case.of(tmp_path, ODD_SIZES["dlrm"], EVERY_COLUMN, every_column())
    with TrainingSides() as sides:
        sides.start("candidate", case.spec({"sharded_embedding": {}}))
        assert sides.order("candidate", "train", steps=STEPS) == 108
        yield sides


def ranks_of(sides: TrainingSides) -> dict[int, int]:
    """Process ids of the side's ranks, by rank."""
    found = {}
    for pid in sides.pids("candidate"):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found |= {int(line.removeprefix(b"RANK=")): pid for line in environment if line.startswith(b"RANK=")}
    return found


def await_end(pids: list[int], seconds: float = 20.0) -> list[int]:
    """Which of these processes are still there after so long at most."""
    deadline = now_ns() + int(seconds * 1e9)
    while (left := [pid for pid in pids if runs(pid)]) and now_ns() < deadline:
        sleep_s(0.05)
    return left


def runs(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat.state not in "ZX"


def test_a_rank_that_is_killed_ends_the_side_and_is_named(side: TrainingSides) -> None:
    pids, ranks = list(side.pids("candidate")), ranks_of(side)
    assert sorted(ranks) == [0, 1] and len(pids) == 3
    side.freeze("candidate")
    before = side.cpu_ns("candidate")
    sleep_s(0.3)
    assert side.cpu_ns("candidate") == before  # the launcher's watch stands, too
    side.thaw("candidate")
    assert side.order("candidate", "train", steps=STEPS) == 108
    os.kill(ranks[1], signal.SIGKILL)
    with pytest.raises(SutFailure, match=r"failed when it was told to train(.|\n)*rank 1 with code -9"):
        side.order("candidate", "train", steps=500)
    assert await_end(pids) == []


def test_ranks_end_with_the_process_that_started_them(side: TrainingSides) -> None:
    pids, ranks = list(side.pids("candidate")), ranks_of(side)
    (first,) = set(pids) - set(ranks.values())
    os.kill(first, signal.SIGKILL)
    assert await_end(list(ranks.values())) == []
