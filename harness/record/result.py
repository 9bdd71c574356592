"""What a measurement says: frozen values whose dictionary form is ``result.json`` (keys are added, never renamed).

A number that could not be determined is None; NaN and infinities are never written. Times carry their unit in the
name. Everything here is derived from the raw columns (``Measurement.queries``, ``Measurement.predictions``), so that a
reader of the record can compute it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.errors import ExitCode
from harness.record.jsonable import from_plain, to_plain
from harness.record.peer_result import PeerResult
from harness.record.side_result import Interval, SideResult
from harness.trial import PEER

RESULT_SCHEMA_VERSION = 1

Passed = Literal["pass", "fail"]

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
class Ratio:
    """Candidate over baseline, above 1 is a gain (service: baseline time / candidate time).

    ``lbt`` is None with the ``reason`` where a side has no LBT. ``lbt_p``: two-sided p value of "no difference" (t on
    the log ratios of the quads). ``lbt_with_voided`` holds the same over all quads, voided ones included. ``train``:
    samples per second of training, inputs included; ``train_input``, ``train_compute``: inputs alone, and steps whose
    inputs are there. ``train_p`` and ``train_quads`` as ``lbt_p`` and ``quads``. ``train_to_auc``: baseline's seconds
    to the target AUC over the candidate's, over all seeds; None with ``train_to_auc_reason`` where one of them did not
    reach it.
    """

    lbt: float | None
    lbt_ci: Interval | None
    service: float | None
    offline: float | None
    train: float | None = None
    train_ci: Interval | None = None
    service_ci: Interval | None = None
    lbt_p: float | None = None
    quads: tuple[float, ...] = ()
    reason: str = ""
    lbt_with_voided: float | None = None
    lbt_with_voided_ci: Interval | None = None
    train_p: float | None = None
    train_quads: tuple[float, ...] = ()
    train_input: float | None = None
    train_compute: float | None = None
    train_with_voided: float | None = None
    train_with_voided_ci: Interval | None = None
    train_to_auc: float | None = None
    train_to_auc_ci: Interval | None = None
    train_to_auc_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityResult:
    """Parameters of both sides after the same ``steps`` steps from the same start (``harness.estimate.parity``).

    ``share``: how far the worst tensor has used up its tolerance; at most 1 passes. ``deviation``, ``tolerance``: the
    median distance there, and what was allowed, in units of how far that tensor moved. ``compared`` of ``elements``
    moved parameters were compared: the rest move with the order of a sum.
    """

    steps: int
    tensors: int
    elements: int
    compared: int
    worst: str
    share: float | None
    deviation: float | None
    tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedsResult:
    """What a gate of seeds rests on: the seeds, trained on both sides, and the standard deviation of the baseline's
    test AUC between them, from which its margin follows. The AUCs are those of ``TrainResult.to_auc``."""

    seeds: tuple[int, ...]
    spread: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """The accuracy test (DESIGN R6). ``reasons`` names each condition that failed, with its numbers.

    ``score_deviation``: largest |candidate's score - baseline's| of the accuracy run, judged in the closed division;
    ``score_tolerance``: what the plan declares. ``timed_deviation``: largest |timed score - accuracy score|;
    ``timed_tolerance``: what the plan is allowed. ``parity``: of a training, whose ``timed_answers`` are the parameters
    after its last step. ``seeds``: of a training of other mathematics, whose differences are means over seeds.
    ``same_weights``: False where a peer has trained a model of its own; of such two sides the AUC alone is judged,
    beside the timed answers.
    """

    verdict: Passed
    auc_delta: float | None
    auc_delta_ci: Interval | None
    margin: float
    logloss_delta_ci: Interval | None
    pcoc_ratio: float | None
    timed_answers: Passed
    score_deviation: float | None = None
    score_tolerance: float | None = None
    timed_deviation: float | None = None
    timed_tolerance: float | None = None
    reasons: tuple[str, ...] = ()
    parity: ParityResult | None = None
    seeds: SeedsResult | None = None
    same_weights: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The same load against a system that does nothing. ``referee_bound``: its LBT is under 5x a reported one."""

    p50_ms: float | None
    p99_ms: float | None
    lbt_qps: float | None
    referee_bound: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A rate, offered to a fresh process on a held-out trace; ``bound``: upper 95 % bound of the late fraction."""

    rate_qps: float
    late_fraction: float
    bound: float
    queries: int
    verdict: Passed


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What ``budget=official`` adds (DESIGN R8): the rate that was held, None if every attempt failed."""

    verdict: Passed
    rate_qps: float | None
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """Whether the host was quiet enough; ``reasons`` says what was seen."""

    verdict: Literal["valid", "noisy_host", "void"]
    reasons: tuple[str, ...]
    voided_quads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """The rows behind the result; ``rows`` counts the samples of all splits."""

    name: str
    fingerprint: str
    rows: int
    label_rate: float
    bayes_auc: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentInfo:
    """One stretch of offered load. Queries planned in [counted_from_ns, counted_to_ns) count, the others are ramp.

    side: baseline | candidate | floor. purpose: service | search | quad | paired | latency | single_stream | offline |
    floor | certificate (from held-out seeds) | loadgen (arrivals drawn by MLPerf LoadGen, not from our seed). ``quad``
    is -1 outside of the ABBA quads. ``late`` of ``queries`` counted ones missed the limit (or had no answer). A closed
    loop has no offered rate.
    trace, sizes: index and distribution of query sizes of the trace (``harness.traffic.published``); -1 and "" where
    the record does not say. seconds: how long queries were to arrive (open loop) or to be asked (closed loop).
    asked: how many queries the trace holds; a closed loop may run out of time before the last. aborted: why it was
    cut short, "" if it was not.
    """

    side: str
    segment: int
    purpose: str
    offered_qps: float | None
    counted_from_ns: int
    counted_to_ns: int
    queries: int
    late: int
    quad: int = -1
    voided: bool = False
    trace: int = -1
    sizes: str = ""
    seconds: float | None = None
    asked: int = 0
    aborted: str = ""


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
