"""The raw columns that a result is computed from."""

from __future__ import annotations

import numpy as np
import pytest

from harness.measurement.evidence import Answers, Evidence, answers_from
from harness.record.result import SegmentInfo
from harness.traffic.segment import Segment, Status


def _segment(side: str, scores: list[float], statuses: list[Status]) -> Segment:
    count = len(statuses)
    numbers = np.arange(count, dtype=np.int64)
    return Segment(
        side=side,
        mode="open",
        offered_qps=50.0,
        query_id=numbers,
        size=np.ones(count, np.int64),
        planned_ns=1000 * numbers,
        sent_ns=1000 * numbers + 7,
        done_ns=1000 * numbers + 400,
        status=np.array(statuses, np.int64),
        dequeued_ns=numbers,
        started_ns=numbers,
        worker=np.zeros(count, np.int64),
        scores=np.array(scores, np.float32),
        score_offsets=np.arange(count + 1, dtype=np.int64),
        aborted="",
        duplicates=0,
        sender_cpu_ns=5,
    )


def _info(side: str, number: int) -> SegmentInfo:
    return SegmentInfo(
        side=side,
        segment=number,
        purpose="quad",
        offered_qps=50.0,
        counted_from_ns=0,
        counted_to_ns=10**9,
        queries=2,
        late=0,
    )


def test_the_timed_answer_that_lies_farthest_stays() -> None:
    answers = Answers.of(np.array([0.5, 0.25, 0.75], np.float32))
    answers.note(np.array([0, 2, 0]), np.array([0.5, 0.5, 0.375], np.float32))
    answers.note(np.array([0, 2]), np.array([0.4375, 0.625], np.float32))
    assert answers.deviation.tolist() == [0.125, -1.0, 0.25]
    assert answers.timed[[0, 2]].tolist() == [0.375, 0.5]


def test_an_answer_that_is_no_number_is_the_farthest_of_all() -> None:
    answers = Answers.of(np.array([0.5], np.float32))
    answers.note(np.array([0]), np.array([np.nan], np.float32))
    answers.note(np.array([0]), np.array([0.9], np.float32))
    assert answers.deviation.tolist() == [np.inf]


def test_columns_of_all_segments_stand_end_to_end() -> None:
    evidence = Evidence()
    evidence.add(_segment("baseline", [0.5, 0.5], [Status.ANSWERED, Status.DROPPED]), _info("baseline", 0), 300)
    evidence.add(_segment("candidate", [0.5], [Status.ANSWERED]), _info("candidate", 1), 300)
    queries = evidence.queries()
    assert queries["side"].tolist() == ["baseline", "baseline", "candidate"]
    assert queries["segment"].tolist() == [0, 0, 1]
    assert queries["status"].tolist() == [Status.ANSWERED, Status.DROPPED, Status.ANSWERED]
    assert [(info.queries, info.late) for info in evidence.segments] == [(2, 2), (1, 1)]
    assert evidence.sends == 3
    assert evidence.sender_cpu_ns == 10
    assert np.concatenate(evidence.lateness_ns).tolist() == [7, 7, 7]


def test_predictions_hold_every_sample_and_the_farthest_timed_answers() -> None:
    evidence = Evidence()
    evidence.answers["baseline"] = Answers.of(np.array([0.5, 0.25], np.float32))
    evidence.answers["baseline"].note(np.array([1]), np.array([0.5], np.float32))
    rows = evidence.predictions(np.array([1.0, np.nan], np.float32))
    assert rows["run"].tolist() == ["accuracy", "accuracy", "timed"]
    assert rows["sample_id"].tolist() == [0, 1, 1]
    assert rows["score"].tolist() == [0.5, 0.25, 0.5]
    assert np.isnan(rows["label"]).tolist() == [False, True, True]


def test_predictions_can_be_read_back() -> None:
    evidence, labels = Evidence(), np.array([1.0, 0.0, np.nan], np.float32)
    for side, shift in (("baseline", 0.0), ("candidate", 0.125)):
        evidence.answers[side] = Answers.of(np.array([0.5, 0.25, 0.75], np.float32) + np.float32(shift))
        evidence.answers[side].note(np.array([2, 0]), np.array([0.5, np.nan], np.float32))
    found, answers = answers_from(evidence.predictions(labels))
    np.testing.assert_array_equal(found, labels)
    assert list(answers) == ["baseline", "candidate"]
    for side, kept in evidence.answers.items():
        np.testing.assert_array_equal(answers[side].accuracy, kept.accuracy)
        np.testing.assert_array_equal(answers[side].timed, kept.timed)
        np.testing.assert_array_equal(answers[side].deviation, kept.deviation)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([0, 1, 1, 2], "every sample once"),
        ([1, 0, 2], "every sample once"),
        ([0, 2], "every sample once"),
        ([0, 1, 2, 3, 3], "timed answers"),
    ],
)
def test_predictions_that_are_repeated_moved_or_gone_are_refused(rows: list[int], said: str) -> None:
    evidence = Evidence()
    evidence.answers["baseline"] = Answers.of(np.array([0.5, 0.25, 0.75], np.float32))
    evidence.answers["baseline"].note(np.array([1]), np.array([0.5], np.float32))
    written = evidence.predictions(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=said):
        answers_from({name: column[rows] for name, column in written.items()})
