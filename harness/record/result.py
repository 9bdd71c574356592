"""What a measurement says: frozen values whose dictionary form is ``result.json`` (keys are added, never renamed).

A number that could not be determined is None; NaN and infinities are never written. Times carry their unit in the
name. Everything here is derived from the raw columns (``Measurement.queries``, ``Measurement.predictions``), so that a
reader of the record can compute it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import ExitCode
from harness.record.comparison_result import Attempt, Certificate, Floor, Ratio, Validity
from harness.record.gate_result import GateResult, ParityResult, Passed, SeedsResult
from harness.record.jsonable import from_plain, to_plain
from harness.record.peer_result import PeerResult
from harness.record.segment_info import SegmentInfo
from harness.record.side_result import Interval, SideResult
from harness.trial import PEER

__all__ = [
    "PREDICTION_COLUMNS",
    "QUERY_COLUMNS",
    "RESULT_SCHEMA_VERSION",
    "Attempt",
    "Certificate",
    "Column",
    "DatasetInfo",
    "Floor",
    "GateResult",
    "GitState",
    "Measurement",
    "ParityResult",
    "Passed",
    "PlanLine",
    "Ratio",
    "Result",
    "SeedsResult",
    "SegmentInfo",
    "Validity",
]

RESULT_SCHEMA_VERSION = 1

QUERY_COLUMNS: Mapping[str, type] = {
    "segment": np.int64,
    "offered_qps": np.float64,
    "query_id": np.int64,
    "size": np.int64,
    "planned_ns": np.int64,
    "sent_ns": np.int64,
    "done_ns": np.int64,
    "status": np.int64,
    "dequeued_ns": np.int64,
    "started_ns": np.int64,
    "worker": np.int64,
}
"""Columns of ``queries.parquet`` beside ``side`` (str). A stamp that does not exist is -1; status is a
``harness.traffic.segment.Status``."""

PREDICTION_COLUMNS: Mapping[str, type] = {"sample_id": np.int64, "score": np.float32, "label": np.float32}
"""Columns of ``predictions.parquet`` beside ``side`` and ``run`` (both str; run: accuracy | timed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitState:
    """Commit of the source and whether the work tree differed from it; both None outside of a repository."""

    sha: str | None
    dirty: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLine:
    """One optimization of the plan as it was lowered. ``fallbacks``: claimed blocks that run the reference. ``built``:
    what it found, chose and keeps in memory; its "summary", where it has one, is one sentence. ``score_tolerance``: how
    far it says that a score moves; None in records that do not tell."""

    name: str
    phase: str
    claims: tuple[str, ...]
    division: str
    emulated: bool
    matched: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    build_s: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    built: Mapping[str, Any] = field(default_factory=dict)
    score_tolerance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """The rows behind the result; ``rows`` counts the samples of all splits."""

    name: str
    fingerprint: str
    rows: int
    label_rate: float
    bayes_auc: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything that ``result.json`` holds. For ``opt=[]`` candidate, ratio and gate are None. ``peer``: of the side
    that is another package."""

    trial_id: str
    created: str
    recarena_version: str
    source_sha256: str
    git: GitState
    trial: Mapping[str, Any]
    plan: tuple[PlanLine, ...]
    baseline: SideResult
    candidate: SideResult | None
    ratio: Ratio | None
    gate: GateResult | None
    floor: Floor
    validity: Validity
    dataset: DatasetInfo
    weights_sha256: str
    hardware_class: str
    segments: tuple[SegmentInfo, ...] = ()
    certificate: Certificate | None = None
    peer: PeerResult | None = None
    schema_version: int = RESULT_SCHEMA_VERSION

    @property
    def measured(self) -> SideResult:
        """The side that the trial is about: the candidate, or the baseline of ``opt=[]``."""
        return self.baseline if self.candidate is None else self.candidate

    @property
    def is_peer(self) -> bool:
        """Whether what is measured is a peer, and no plan of ours."""
        return bool(self.trial["backend"] == PEER)

    @property
    def trains(self) -> bool:
        """Whether training was measured, and not serving."""
        return bool(self.trial["scope"] == "train")

    @property
    def speedup(self) -> tuple[float | None, Interval | None, float | None]:
        """Ratio of what the trial measures, its interval, and the p value of "no difference"."""
        ratio = self.ratio
        if ratio is None:
            return None, None, None
        if self.trains:
            return ratio.train, ratio.train_ci, ratio.train_p
        return ratio.lbt, ratio.lbt_ci, ratio.lbt_p

    @property
    def plan_name(self) -> str:
        """``[fusion,bf16]``, on a backend other than PyTorch ``onnxruntime [executor]``; a star marks what was
        emulated. ``peer ort_stock (best)`` where a peer is measured, ``[fusion] over ort_stock (best)`` beside one."""
        emulated = {line.name for line in self.plan if line.emulated}
        names = ",".join(name + "*" * (name in emulated) for name in self.trial["opts"])
        backend = self.trial["backend"]
        if self.is_peer:
            return f"peer {self.peer.title}" if self.peer is not None else backend
        plan = f"[{names}]" if backend == "torch" else f"{backend} [{names}]"
        return plan if self.peer is None else f"{plan} over {self.peer.title}"

    @property
    def exit_code(self) -> ExitCode:
        """Exit code by precedence: refused (void; official on a noisy host), gate failed, SLA unreachable, refused
        (official without a certificate), ok."""
        official = self.official
        if self.void or (official and self.validity.verdict != "valid"):
            return ExitCode.REFUSED
        if self.gate is not None and self.gate.verdict == "fail":
            return ExitCode.GATE_FAILED
        if self.measured.lbt_status == "unreachable":
            return ExitCode.SLA_UNREACHABLE
        return ExitCode.REFUSED if official and not self.certified else ExitCode.OK

    @property
    def void(self) -> bool:
        """Whether this is no measurement of its sides: the numbers stand in the record, and say nothing."""
        return self.validity.verdict == "void"

    @property
    def official(self) -> bool:
        """Whether the budget is ``official``, with or without changes."""
        return str(self.trial["budget"]).split(",")[0] == "official"

    @property
    def certified(self) -> bool:
        """Whether a certificate was issued and passed."""
        return self.certificate is not None and self.certificate.verdict == "pass"

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for ``result.json``; NaN and infinities become None."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Result:
        """Inverse of ``to_dict``; keys of later versions are ignored. ValueError when a key is missing."""
        return from_plain(Result, data)


Column = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A result with its evidence: what a record is written from.

    queries: ``side`` [Q] str and QUERY_COLUMNS, each [Q]. predictions: ``side``, ``run`` [P] str and
    PREDICTION_COLUMNS, each [P]. environment: JSON-able fingerprint of hardware and software.
    weights_path: the weights file that was served (an artifact for the tracking server), or None.
    logs: what other programs wrote about this measurement, by file name. training, parity, evaluations: of a training
    trial, the columns of ``harness.record.training_rows``.
    """

    result: Result
    queries: Mapping[str, Column]
    predictions: Mapping[str, Column]
    environment: Mapping[str, Any]
    weights_path: Path | None = None
    logs: Mapping[str, bytes] = field(default_factory=dict)
    training: Mapping[str, Column] = field(default_factory=dict)
    parity: Mapping[str, Column] = field(default_factory=dict)
    evaluations: Mapping[str, Column] = field(default_factory=dict)
