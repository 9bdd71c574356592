"""What a trial has seen, kept as raw columns: every query of every segment, and the answers that the gate reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.record.result import QUERY_COLUMNS, SegmentInfo
from harness.record.segments import SegmentRows
from harness.traffic.segment import Segment
from zoo.schema import Float32, Int64

Columns = dict[str, npt.NDArray[Any]]


@dataclass(slots=True, kw_only=True)
class Answers:
    """Scores of one side by sample: the accuracy run's, and the timed answer that lies farthest from it.

    ``deviation`` is |timed - accuracy|, -1 where a sample was not asked in a timed segment, inf for no number.
    """

    accuracy: Float32
    timed: Float32
    deviation: npt.NDArray[np.float64]

    @staticmethod
    def of(accuracy: Float32) -> Answers:
        """Before the first timed segment."""
        return Answers(accuracy=accuracy, timed=np.full_like(accuracy, np.nan), deviation=np.full(len(accuracy), -1.0))

    def note(self, samples: Int64, scores: Float32) -> None:
        """Take the scores of one timed segment; per sample the farthest from the accuracy run stays."""
        deviation = np.abs(scores.astype(np.float64) - self.accuracy[samples])
        deviation[~np.isfinite(deviation)] = np.inf
        order = np.argsort(deviation, kind="stable")
        samples, deviation, scores = samples[order], deviation[order], scores[order]
        worse = deviation > self.deviation[samples]
        self.deviation[samples[worse]] = deviation[worse]
        self.timed[samples[worse]] = scores[worse]


@dataclass(slots=True, kw_only=True)
class Evidence:
    """Segments of all sides in the order in which they ran."""

    rows: list[SegmentRows] = field(default_factory=list)
    answers: dict[str, Answers] = field(default_factory=dict)
    sender_cpu_ns: int = 0
    sends: int = 0
    lateness_ns: list[Int64] = field(default_factory=list)

    @property
    def segments(self) -> tuple[SegmentInfo, ...]:
        """Descriptions of all segments."""
        return tuple(row.info for row in self.rows)

    def add(self, segment: Segment, info: SegmentInfo, limit_ns: int) -> SegmentRows:
        """Keep the columns of a segment under the number that ``info`` carries; its queries are counted here."""
        count = len(segment)
        columns: Columns = {"side": np.full(count, info.side)}
        for name, kind in QUERY_COLUMNS.items():
            value = {"segment": info.segment, "offered_qps": segment.offered_qps}.get(name)
            columns[name] = np.full(count, value, kind) if value is not None else getattr(segment, name).astype(kind)
        rows = SegmentRows(info=info, columns=columns)
        rows = SegmentRows(info=rows.recounted(limit_ns), columns=columns)
        self.rows.append(rows)
        self.sender_cpu_ns += segment.sender_cpu_ns
        self.sends += int(np.count_nonzero(segment.sent_ns >= 0))
        if segment.mode == "open":
            self.lateness_ns.append(segment.send_lateness_ns)
        return rows

    def queries(self) -> Columns:
        """All query columns, end to end."""
        names = ("side", *QUERY_COLUMNS)
        return {name: np.concatenate([rows.columns[name] for rows in self.rows]) for name in names}

    def predictions(self, labels: Float32) -> Columns:
        """Accuracy run of every sample, then the farthest timed answer of every sample that was asked."""
        parts: list[Columns] = []
        for side, answers in self.answers.items():
            everything = np.arange(len(labels))
            parts.append(_prediction_rows(side, "accuracy", everything, answers.accuracy, labels))
            asked = np.flatnonzero(answers.deviation >= 0.0)
            parts.append(_prediction_rows(side, "timed", asked, answers.timed[asked], labels))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _prediction_rows(side: str, run: str, samples: Int64, scores: Float32, labels: Float32) -> Columns:
    return {
        "side": np.full(len(samples), side),
        "run": np.full(len(samples), run),
        "sample_id": samples.astype(np.int64),
        "score": scores.astype(np.float32),
        "label": labels[samples].astype(np.float32),
    }


def answers_from(predictions: Columns) -> tuple[Float32, dict[str, Answers]]:
    """Labels [samples] and the answers of each side: the way back from ``Evidence.predictions``.

    Raises ValueError where the accuracy run of a side does not hold every sample once, in order, or where two rows
    of one sample carry different labels.
    """
    sides = dict.fromkeys(predictions["side"].tolist())
    answers: dict[str, Answers] = {}
    labels = np.zeros(0, np.float32)
    for side in sides:
        once = _rows_of(predictions, side, "accuracy")
        if not np.array_equal(once["sample_id"], np.arange(len(once["sample_id"]))):
            raise ValueError(
                f"predictions.parquet: the accuracy run of the {side} must hold every sample once, in order"
            )
        labels = labels if answers else once["label"]
        timed = _rows_of(predictions, side, "timed")
        samples = timed["sample_id"]
        if len(np.unique(samples)) != len(samples) or not np.isin(samples, once["sample_id"]).all():
            raise ValueError(f"predictions.parquet: the timed answers of the {side} must hold known samples, each once")
        for rows in (once, timed):
            if len(once["label"]) != len(labels) or not _same(rows["label"], labels[rows["sample_id"]]):
                raise ValueError(f"predictions.parquet: the labels of the {side} differ from those of the baseline")
        answers[side] = Answers.of(once["score"])
        answers[side].note(samples, timed["score"])
    return labels, answers


def _rows_of(predictions: Columns, side: str, run: str) -> Columns:
    rows = (predictions["side"] == side) & (predictions["run"] == run)
    return {name: predictions[name][rows] for name in ("sample_id", "score", "label")}


def _same(a: Float32, b: Float32) -> bool:
    return bool(np.array_equal(a, b, equal_nan=True))
