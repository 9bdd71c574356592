"""What one side's segments say together."""

import dataclasses

import numpy as np
import pytest

from harness.estimate.longrun import QueueTwin
from harness.estimate.replay import SegmentObservation
from harness.estimate.twin import ServiceTable, simulate
from harness.record.side_numbers import lbt_of
from harness.trial import Sla

MS = 1e6
SLA = Sla(limit_ms=25.0)
TABLE = ServiceTable(sizes=np.array([1.0]), mean_ns=np.array([5.0 * MS]), spread=np.ones(1))
TWIN = QueueTwin(table=TABLE, sizes=np.array([1]), probability=np.ones(1))


def _segment(rate: float, number: int) -> SegmentObservation:
    rng = np.random.default_rng(number)
    planned = np.sort(rng.random(int(rate * 12.0))) * 12e9
    return SegmentObservation(
        offered_qps=rate, trace_id=str(number), quad=number // 2, planned_ns=planned, sizes=np.ones(planned.size),
        latency_ns=simulate(planned, np.full(planned.size, 5.0 * MS)), duration_s=12.0,
    )  # fmt: skip


def test_a_segment_that_was_cut_short_leaves_no_lbt() -> None:
    """Left out, the worst of all segments would make the LBT higher; where its quad is void, it does not count."""
    refined = [_segment(105.0 if number % 2 else 118.0, number) for number in range(8)]
    whole = lbt_of([], refined, TWIN, SLA)
    assert whole is not None and whole.lbt_qps == pytest.approx(111.9, rel=0.02)
    cut = [*refined[:-1], dataclasses.replace(refined[-1], aborted=True)]
    found = lbt_of([], cut, TWIN, SLA)
    assert found is not None
    assert (found.status, found.lbt_qps, found.ci) == ("undetermined", None, None)
    kept = lbt_of([], cut, TWIN, SLA, {0, 1, 2})
    assert kept is not None and kept.status == "ok"
