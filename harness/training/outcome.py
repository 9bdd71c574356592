"""From the raw rows of a training trial to its numbers: one function for the run and for who verifies its record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.estimate.comparison import RatioInterval, quads_to_repeat, ratio_interval
from harness.measurement.outcome import validity_of
from harness.measurement.preparation import BASELINE, CANDIDATE
from harness.record.result import GateResult, Ratio, Validity
from harness.record.side_result import SeedResult, TrainResult
from harness.record.training_rows import Chunk
from harness.training.beside_clock import hidden_in_bursts, hidden_in_seeds, less_in_bursts
from harness.training.gate import training_gate
from harness.training.quads import void_evidence
from harness.training.seed_outcome import (
    Accuracy,
    accuracy_of,
    results_by_side,
    seconds_to_auc,
    seeds_gate,
    to_auc_ratio,
)
from harness.training.seen import TrainingSeen, check_rows

NO_QUERIES = "scope=train has no queries"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOutcome:
    """The numbers of a result; ratio and gate are None for ``opt=[]``. accuracy: of each side, on the test split."""

    sides: Mapping[str, TrainResult]
    accuracy: Mapping[str, Accuracy]
    ratio: Ratio | None
    gate: GateResult | None
    validity: Validity


def training_outcome(seen: TrainingSeen) -> TrainingOutcome:
    """All numbers of a training trial. ValueError where the rows do not hold what a number needs."""
    check_rows(seen)
    evidence = void_evidence(seen.shares)
    planned = _planned(seen, evidence)
    validity, kept = validity_of(evidence, planned, seen.remarks)
    results = results_by_side(seen.seeds, list(seen.facts.threads)) if seen.seeds is not None else {}
    sides = {name: _side(seen, name, kept, results.get(name, ())) for name in seen.facts.threads}
    paired = CANDIDATE in sides
    return TrainingOutcome(
        sides=sides,
        accuracy={name: accuracy_of(side.to_auc) for name, side in sides.items()},
        ratio=_ratio(seen, kept, sides) if paired else None,
        gate=_gate(seen, results) if paired else None,
        validity=validity,
    )


def _gate(seen: TrainingSeen, results: Mapping[str, Sequence[SeedResult]]) -> GateResult:
    if not seen.by_seeds:
        beside = [hidden_in_bursts(seen), hidden_in_seeds(seen.seeds) if seen.seeds is not None else ""]
        return training_gate(seen.parity, [text for text in beside if text])
    if not results or seen.seeds is None:
        raise ValueError("a plan of other mathematics is gated by seeds, and none was trained to its end")
    beside = [hidden_in_seeds(seen.seeds), less_in_bursts(seen, seen.seeds)]
    return seeds_gate(results[BASELINE], results[CANDIDATE], [text for text in beside if text])


def _planned(seen: TrainingSeen, evidence: Mapping[int, tuple[str, ...]]) -> int:
    """Number of quads without those that ran again, which stand last; ValueError where quads are missing."""
    quads = sorted({chunk.quad for chunk in seen.chunks if chunk.purpose == "quad"})
    if not quads or quads != sorted(evidence) or quads != list(range(len(quads))):
        raise ValueError(f"quads {quads} were timed, and the host was watched in {sorted(evidence)}")
    for planned in range(len(quads), 0, -1):
        again = len(quads) - planned
        if again == len(quads_to_repeat({quad: evidence[quad] for quad in range(planned)})):
            return planned
    raise ValueError(f"{len(quads)} quads were timed, and that fits no plan")


def _side(seen: TrainingSeen, name: str, kept: Sequence[int], to_auc: tuple[SeedResult, ...]) -> TrainResult:
    timed = seen.of(name, "quad", kept)
    seconds, steps = sum(chunk.seconds for chunk in timed), sum(chunk.steps for chunk in timed)
    return TrainResult(
        samples_per_s=_rate(timed),
        input_rows_per_s=_rate(seen.of(name, "read")),
        compute_samples_per_s=_rate(seen.of(name, "compute")),
        seconds=seconds,
        steps=steps,
        samples=sum(chunk.samples for chunk in timed),
        seconds_to_auc=seconds_to_auc(to_auc),
        target_auc=None if seen.seeds is None else seen.seeds.target,
        to_auc=to_auc,
        peak_bytes=seen.facts.peak_bytes.get(name),
        seeds=(seen.facts.seed,) if seen.seeds is None else seen.seeds.seeds,
        batch_size=seen.facts.batch_size,
        threads=seen.facts.threads[name],
        cpu_share=sum(chunk.cpu_ns for chunk in timed) * 1e-9 / seconds if seconds else None,
        minor_faults_per_step=sum(chunk.minor_faults for chunk in timed) / steps if steps else None,
        major_faults=sum(chunk.major_faults for chunk in timed),
    )


def _rate(chunks: Sequence[Chunk]) -> float | None:
    seconds = sum(chunk.seconds for chunk in chunks)
    return sum(chunk.samples for chunk in chunks) / seconds if seconds else None


def _ratio(seen: TrainingSeen, kept: Sequence[int], sides: Mapping[str, TrainResult]) -> Ratio:
    baseline, candidate = sides[BASELINE], sides[CANDIDATE]
    logs = quad_log_ratios(seen, kept)
    everything = quad_log_ratios(seen, sorted(seen.shares))
    found, with_voided = _interval(logs), _interval(everything)
    sooner = to_auc_ratio(baseline.to_auc, candidate.to_auc)
    return Ratio(
        lbt=None,
        lbt_ci=None,
        service=None,
        offline=None,
        reason=NO_QUERIES,
        train=math.exp(float(np.mean(logs))) if logs else None,
        train_ci=found.ci if found else None,
        train_p=found.p_value if found else None,
        train_quads=tuple(math.exp(value) for value in logs),
        train_input=_quotient(candidate.input_rows_per_s, baseline.input_rows_per_s),
        train_compute=_quotient(candidate.compute_samples_per_s, baseline.compute_samples_per_s),
        train_with_voided=math.exp(float(np.mean(everything))) if everything else None,
        train_with_voided_ci=with_voided.ci if with_voided else None,
        train_to_auc=sooner.ratio,
        train_to_auc_ci=sooner.ci,
        train_to_auc_reason=sooner.reason,
    )


def quad_log_ratios(seen: TrainingSeen, quads: Sequence[int]) -> list[float]:
    """Of each quad, the mean over its halves of log(candidate's rate / baseline's) on the same steps. In the order
    A B B A, a drift of the host that is linear in time cancels."""
    logs = []
    for quad in quads:
        halves = {side: _rates_by_half(seen.of(side, "quad", (quad,))) for side in (BASELINE, CANDIDATE)}
        if {*halves[BASELINE]} != {0, 1} or {*halves[CANDIDATE]} != {0, 1}:
            raise ValueError(f"quad {quad} does not hold both halves of both sides")
        logs.append(float(np.mean([math.log(halves[CANDIDATE][half] / halves[BASELINE][half]) for half in (0, 1)])))
    return logs


def _rates_by_half(chunks: Sequence[Chunk]) -> dict[int, float]:
    """Samples/s over all bursts of each half."""
    halves: dict[int, list[Chunk]] = {}
    for chunk in chunks:
        halves.setdefault(chunk.half, []).append(chunk)
    return {half: sum(c.samples for c in own) / sum(c.seconds for c in own) for half, own in halves.items()}


def _interval(logs: Sequence[float]) -> RatioInterval | None:
    """Student's t over the quads; None for too few of them."""
    try:
        return ratio_interval(logs)
    except ValueError:
        return None


def _quotient(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None
