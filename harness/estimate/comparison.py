"""Baseline against candidate: ratios from ABBA quads, and what may be said about them. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats as sps

from harness.estimate.lbt import LbtEstimate
from harness.estimate.stats import effective_degrees, pseudo_values

Array = npt.NDArray[Any]
Call = Literal["gain", "loss", "no difference"]

MIN_QUADS = 6
MAX_VOID_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioInterval:
    """Candidate over baseline: geometric mean, two-sided 95 % interval, p value of "no difference", number of quads.

    call: "no difference" whenever the interval holds 1.
    """

    ratio: float
    ci: tuple[float, float]
    p_value: float
    quads: int
    call: Call


@dataclass(frozen=True, slots=True, kw_only=True)
class LbtRatio:
    """Ratio of two LBTs, or None with the reason why there is none. ``indicative``: the quotient of the two LBTs, where
    too few quads are all that an interval lacks."""

    interval: RatioInterval | None
    reason: str
    indicative: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidVerdict:
    """Which quads count after voiding, and whether too many were void (the host was too noisy)."""

    kept: tuple[int, ...]
    voided: tuple[int, ...]
    noisy_host: bool


def call_of(ci: tuple[float, float]) -> Call:
    """What an interval of a ratio allows to say."""
    if ci[0] > 1.0:
        return "gain"
    return "loss" if ci[1] < 1.0 else "no difference"


def ratio_interval(log_ratios: Sequence[float] | Array, degrees: float | None = None) -> RatioInterval:
    """Ratio from independent log ratios, one per quad, by Student's t. Raises ValueError below 6 quads.

    degrees: of freedom, by default quads - 1; fewer where few quads hold most of the information.
    """
    values = np.asarray(log_ratios, dtype=np.float64)
    if values.size < MIN_QUADS:
        raise ValueError(f"a ratio needs at least {MIN_QUADS} quads, got {values.size}")
    mean, se = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(values.size)
    return _from_log(mean, se, degrees if degrees is not None else values.size - 1, values.size)


def _from_log(mean: float, se: float, degrees: float, quads: int) -> RatioInterval:
    """Interval, p value and call of a log ratio with a standard error."""
    half = float(sps.t.ppf(0.975, degrees)) * se
    ci = (math.exp(mean - half), math.exp(mean + half))
    p_value = float(2.0 * sps.t.sf(abs(mean) / se, degrees)) if se > 0.0 else float(mean == 0.0)
    return RatioInterval(ratio=math.exp(mean), ci=ci, p_value=p_value, quads=quads, call=call_of(ci))


def quad_log_ratios(baseline: LbtEstimate, candidate: LbtEstimate) -> Array:
    """Log LBT ratio of each quad as the jackknife pseudo-value of the common estimate; (quads,).

    One quad alone often holds too few late queries for an LBT of its own, and a mean of roots is biased where the
    root is curved. The pseudo-value n * all - (n - 1) * all-but-one is the quad's share of the pooled root, so what
    both sides of a quad have in common (trace, drift of the host) cancels in its log ratio.
    """
    if baseline.lbt_qps is None or candidate.lbt_qps is None:
        raise ValueError("a log ratio needs an LBT of both sides")
    full = candidate.log_lbt - baseline.log_lbt
    without = np.asarray(candidate.log_lbt_without) - np.asarray(baseline.log_lbt_without)
    return pseudo_values(full, without)


def lbt_ratio(baseline: LbtEstimate, candidate: LbtEstimate) -> LbtRatio:
    """Candidate's LBT over the baseline's with its interval; None with a reason where either has no estimate, and below
    6 quads.

    With fewer than 10 independent late clumps on a side the log interval is doubled. A side that fell back to
    regression enters with its own interval: the two are then treated as independent.
    """
    for name, side in (("baseline", baseline), ("candidate", candidate)):
        if side.status == "unreachable":
            return LbtRatio(interval=None, reason=f"the {name} meets the SLA at no rate")
        if side.ci is None or not side.lbt_qps:
            return LbtRatio(interval=None, reason=f"the {name}'s LBT is {side.status}")
    if baseline.quads != candidate.quads:
        return LbtRatio(interval=None, reason=f"the sides ran unequal quads: {baseline.quads} and {candidate.quads}")
    quads, values = len(baseline.quads), quad_log_ratios(baseline, candidate)
    degrees = min(effective_degrees(np.asarray(side.quad_information)) for side in (baseline, candidate))
    if quads < MIN_QUADS:
        reason = f"{in_words(quads)}, no interval: that takes at least {MIN_QUADS}"
        return LbtRatio(interval=None, reason=reason, indicative=_lbt(candidate) / _lbt(baseline))
    if degrees < 1.0 or not np.isfinite(values).all():
        return LbtRatio(interval=None, reason=f"too few of the {quads} quads hold late queries")
    widening = 2.0 if "few_clumps" in (baseline.status, candidate.status) else 1.0
    mean, scatter = candidate.log_lbt - baseline.log_lbt, float(values.std(ddof=1)) / math.sqrt(quads)
    se = math.hypot(scatter, baseline.prior_log_sd, candidate.prior_log_sd)
    if "regression" in (baseline.method, candidate.method):
        mean = math.log(_lbt(candidate) / _lbt(baseline))
        half = math.hypot(_log_half_width(baseline), _log_half_width(candidate))
        widening, se = 1.0, half / float(sps.t.ppf(0.975, degrees))
    return LbtRatio(interval=_from_log(mean, widening * se, degrees, quads), reason="")


def in_words(quads: int) -> str:
    """How many quads there were."""
    return "one quad" if quads == 1 else f"{quads} quads"


def _lbt(side: LbtEstimate) -> float:
    return side.lbt_qps or math.nan


def _log_half_width(side: LbtEstimate) -> float:
    """The wider half of a side's interval, on the log scale; inf where it has none."""
    low, high = side.ci or (0.0, math.inf)
    return max(math.log(high / _lbt(side)), math.log(_lbt(side) / low)) if low > 0.0 else math.inf


def paired_service_ratio(baseline_ns: Sequence[Array], candidate_ns: Sequence[Array]) -> RatioInterval:
    """Baseline's service time over the candidate's (above 1: candidate is faster), paired by quad.

    baseline_ns[q], candidate_ns[q]: closed-loop service times of the same queries in the same order in quad q. Each
    quad gives the median log ratio of its pairs, which a stall of the host does not move; Student's t over quads.
    """
    pairs = zip(baseline_ns, candidate_ns, strict=True)
    return ratio_interval([float(np.median(np.log(np.asarray(b) / np.asarray(c)))) for b, c in pairs])


def quads_to_repeat(evidence: Mapping[int, Sequence[str]]) -> list[int]:
    """The first void quads, at most 25 % of all; these run again. evidence: of the planned quads only."""
    void = [quad for quad in sorted(evidence) if evidence[quad]]
    return void[: int(MAX_VOID_SHARE * len(evidence))]


def void_quads(evidence: Mapping[int, Sequence[str]], planned: int) -> VoidVerdict:
    """Quads with outside evidence of disturbance are void, both sides; more than 25 % of them marks a noisy host.

    evidence: for each quad, those that ran again among them, the reasons found outside the SUT (steal, null probe),
    empty for a clean quad. planned: quads without those that ran again; more of these do not make a noisy host a quiet
    one. With too many void quads all are kept: the result stands as measured, and marked.
    """
    voided = tuple(sorted(quad for quad, reasons in evidence.items() if reasons))
    noisy = len(voided) > MAX_VOID_SHARE * planned
    kept = tuple(sorted(evidence)) if noisy else tuple(sorted(set(evidence) - set(voided)))
    return VoidVerdict(kept=kept, voided=voided, noisy_host=noisy)
