"""The futility rules against a plain count over all queries at every moment."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.traffic.loops import Futility, OpenLoopPlan
from harness.traffic.ring_client import QueryLog
from harness.traffic.segment import Status

LIMIT, AGE = 10, 30
NEVER = 10**9


def _plan(max_late: int, max_age_ns: int, count_from: int) -> OpenLoopPlan:
    return OpenLoopPlan(
        offsets_ns=[],
        limit_ns=LIMIT,
        deadline_ns=NEVER,
        max_late=max_late,
        max_age_ns=max_age_ns,
        count_from=count_from,
    )


@given(
    gaps=st.lists(st.integers(0, 12), min_size=1, max_size=25),
    latencies=st.lists(st.one_of(st.integers(0, 40), st.just(NEVER)), min_size=25, max_size=25),
    bad=st.lists(st.booleans(), min_size=25, max_size=25),
    max_late=st.integers(-1, 6),
    max_age=st.sampled_from([0, AGE]),
    count_from=st.integers(0, 10),
    step=st.integers(1, 9),
)
@settings(max_examples=300)
def test_the_first_moment_that_stops_is_that_of_the_plain_count(
    gaps: list[int],
    latencies: list[int],
    bad: list[bool],
    max_late: int,
    max_age: int,
    count_from: int,
    step: int,
) -> None:
    planned = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    done = [p + latency for p, latency in zip(planned, latencies, strict=False)]
    log = QueryLog([1] * len(planned))
    log.planned = planned
    futility = Futility(_plan(max_late, max_age, count_from), log)
    for moment in range(0, planned[-1] + 100, step):
        sent = sum(p <= moment for p in planned)
        for i in range(sent):
            if done[i] <= moment and log.done[i] < 0:
                log.done[i], log.status[i] = done[i], Status.WRONG_LENGTH if bad[i] else Status.ANSWERED

        def certainly_late(i: int, now: int = moment) -> bool:
            good = done[i] <= now and not bad[i] and latencies[i] <= LIMIT
            return not good and now - planned[i] > LIMIT

        late = sum(certainly_late(i) for i in range(count_from, sent))
        oldest = max((moment - planned[i] for i in range(sent) if done[i] > moment), default=0)
        expected = "late" if 0 <= max_late < late else "age" if max_age and oldest > max_age else ""
        assert futility.look(moment, sent) == expected
        if expected:
            return
