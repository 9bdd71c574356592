"""What the gate of a result says (R6: docs/rules.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.record.side_result import Interval

Passed = Literal["pass", "fail"]


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
    """The accuracy test (R6). ``reasons`` names each condition that failed, with its numbers.

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
