"""What one segment of load yields: raw columns per query, and the one rule that says which queries are late."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.host.garbage import Collections
from harness.traffic.arrivals import Queries
from harness.transport.channel import Arrays
from zoo.schema import Float32, Int64


class Status(IntEnum):
    """Fate of one query. Everything but ANSWERED is late."""

    ANSWERED = 0
    FAILED = 1  # the SUT answered with an error
    WRONG_LENGTH = 2  # number of scores differs from the number of samples
    NOT_FINITE = 3  # a score is NaN or infinite
    WRONG_SEQUENCE = 4  # the answer names a query that was never sent
    DROPPED = 5  # no free slot at the planned arrival
    UNFINISHED = 6  # no answer by the segment's deadline, or cancelled
    NOT_SENT = 7  # the segment was aborted before its arrival


REFUSALS = (Status.FAILED, Status.WRONG_LENGTH, Status.NOT_FINITE, Status.WRONG_SEQUENCE)
"""What the SUT sends in place of an answer. A query that is waited for no more gets none of them."""
Abort = Literal["", "late", "age", "stall", "protocol", "sut_exit"]
Mode = Literal["open", "closed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Raw columns of one segment, in order of planned arrival; Q queries.

    query_id, size: int64 [Q]. planned_ns, sent_ns, done_ns: the sender's stamps (CLOCK_MONOTONIC; -1 = never).
    dequeued_ns, started_ns, worker: what the SUT says (-1 = nothing), diagnostics only. status: int64 [Q], ``Status``.
    scores: float32, those of query q are ``scores[score_offsets[q] : score_offsets[q + 1]]`` (NaN unless ANSWERED).
    mode "open": planned before the start. "closed": planned = the moment when the place in flight became free.
    aborted: why the segment ended early ("" = it did not). duplicates: answers for queries that were not in flight.
    sender_cpu_ns: CPU time of the sender over the segment. offered_qps is NaN in a closed loop.
    collections: garbage collections during the segment, by process: "sender" and "sut" (as it says itself).
    """

    side: str
    mode: Mode
    offered_qps: float
    query_id: Int64
    size: Int64
    planned_ns: Int64
    sent_ns: Int64
    done_ns: Int64
    status: Int64
    dequeued_ns: Int64
    started_ns: Int64
    worker: Int64
    scores: Float32
    score_offsets: Int64
    aborted: Abort
    duplicates: int
    sender_cpu_ns: int
    collections: Mapping[str, Collections] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.query_id)

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Which queries got a whole, finite answer."""
        mask: npt.NDArray[np.bool_] = self.status == Status.ANSWERED
        return mask

    @property
    def refused(self) -> npt.NDArray[np.bool_]:
        """Which queries were answered with something else than a finite score per sample; their scores are NaN."""
        return np.isin(self.status, REFUSALS)

    @property
    def latency_ns(self) -> Int64:
        """Planned arrival to whole answer, of the answered queries."""
        mask = self.answered
        return self.done_ns[mask] - self.planned_ns[mask]

    @property
    def send_lateness_ns(self) -> Int64:
        """How long after its planned arrival each sent query was delivered."""
        sent = self.sent_ns >= 0
        return self.sent_ns[sent] - self.planned_ns[sent]

    def late(self, limit_ns: int) -> npt.NDArray[np.bool_]:
        """R3: late is every query without a good answer within ``limit_ns`` of its planned arrival."""
        return ~self.answered | (self.done_ns - self.planned_ns > limit_ns)


def segment_from(
    name: str, mode: Mode, rate_qps: float, queries: Queries, reply: Mapping[str, Any], columns: Arrays
) -> Segment:
    """The sender's reply as a Segment; in a closed loop, queries that were never asked are left out."""
    asked = len(queries)
    if mode == "closed":
        asked = int(np.count_nonzero(columns["status"] != Status.NOT_SENT))
    offsets = columns.pop("score_offsets")[: asked + 1]
    scores = columns.pop("scores")[: offsets[-1]]
    cut = {key: column[:asked] for key, column in columns.items()}
    return Segment(
        side=name,
        mode=mode,
        offered_qps=rate_qps,
        query_id=queries.query_id[:asked],
        size=queries.sizes[:asked],
        planned_ns=cut["planned"],
        sent_ns=cut["sent"],
        done_ns=cut["done"],
        status=cut["status"],
        dequeued_ns=cut["dequeued"],
        started_ns=cut["started"],
        worker=cut["worker"],
        scores=scores,
        score_offsets=offsets,
        aborted=reply["aborted"],
        duplicates=reply["duplicates"],
        sender_cpu_ns=reply["sender_cpu_ns"],
        collections={name: Collections(**counts) for name, counts in reply["collections"].items()},
    )
