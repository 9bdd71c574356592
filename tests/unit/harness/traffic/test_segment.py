"""R3: which queries are late."""

from __future__ import annotations

import numpy as np
import pytest

from harness.host.garbage import Collections
from harness.traffic.arrivals import Queries
from harness.traffic.segment import Segment, Status, segment_from

MS = 1_000_000


def _segment(mode: str = "open", **changes: list[int]) -> Segment:
    status = changes.get("status", [0, 0, 0, 0])
    count = len(status)
    columns = {
        "planned": [0, 1 * MS, 2 * MS, 3 * MS],
        "sent": [0, 1 * MS + 5, 2 * MS, 3 * MS],
        "done": [10 * MS, 11 * MS + 1, 12 * MS - 1, 3 * MS],
        "status": status,
        "dequeued": [-1] * count,
        "started": [-1] * count,
        "worker": [0] * count,
        **changes,
    }
    arrays = {name: np.array(column, np.int64) for name, column in columns.items()}
    arrays["scores"] = np.arange(10, dtype=np.float32)
    arrays["score_offsets"] = np.array([0, 1, 3, 6, 10])
    queries = Queries(np.arange(100, 104), np.arange(10), np.array([0, 1, 3, 6, 10]))
    collections = {"sut": {"count": 2, "total_ns": 9, "longest_ns": 5}}
    reply = {"aborted": "", "duplicates": 0, "sender_cpu_ns": 7, "collections": collections}
    return segment_from("null", mode, 50.0, queries, reply, arrays)  # type: ignore[arg-type]


def test_latency_counts_from_the_planned_arrival() -> None:
    segment = _segment()
    np.testing.assert_array_equal(segment.latency_ns, [10 * MS, 10 * MS + 1, 10 * MS - 1, 0])
    np.testing.assert_array_equal(segment.late(10 * MS), [False, True, False, False])
    np.testing.assert_array_equal(segment.send_lateness_ns, [0, 5, 0, 0])


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.ANSWERED])
def test_whatever_is_not_a_good_answer_is_late(status: Status) -> None:
    segment = _segment(status=[status, 0, status, 0], done=[1, 1 * MS + 1, -1, 3 * MS])
    np.testing.assert_array_equal(segment.late(10 * MS), [True, False, True, False])
    assert len(segment.latency_ns) == 2


def test_an_error_never_improves_a_number() -> None:
    good = _segment()
    for index in range(4):
        for status in list(Status)[1:]:
            changed = [0, 0, 0, 0]
            changed[index] = status
            assert _segment(status=changed).late(10 * MS).sum() >= good.late(10 * MS).sum()


def test_a_closed_loop_leaves_out_what_was_never_asked() -> None:
    segment = _segment("closed", status=[0, 0, Status.NOT_SENT, Status.NOT_SENT])
    assert len(segment) == 2
    np.testing.assert_array_equal(segment.query_id, [100, 101])
    np.testing.assert_array_equal(segment.scores, [0, 1, 2])
    np.testing.assert_array_equal(segment.size, [1, 2])


def test_an_open_loop_keeps_every_planned_query() -> None:
    assert _segment().collections == {"sut": Collections(count=2, total_ns=9, longest_ns=5)}
    assert len(_segment("open", status=[0, Status.DROPPED, Status.NOT_SENT, Status.NOT_SENT])) == 4
