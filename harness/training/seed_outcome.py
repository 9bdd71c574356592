"""From the evaluations and test scores of trainings to their end to numbers: for the run and for who verifies it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.estimate.accuracy import auc, logloss, pcoc
from harness.estimate.seeds import FEWEST_SEEDS, PairedSeeds, paired_seeds
from harness.estimate.stats import log_t_interval, t_interval
from harness.measurement.preparation import BASELINE, CANDIDATE
from harness.record.result import GateResult, SeedsResult
from harness.record.seed_predictions import Scores
from harness.record.side_result import Interval, SeedResult
from harness.record.training_rows import Evaluation
from harness.training.course import is_over, kept_of, looks, median_seconds, reached
from zoo.schema import Float32
from zoo.training_batches import samples_of_steps
from zoo.training_config import TrainingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedsSeen:
    """What trainings to their end have shown. ``training``: the settings, but for the seed; labels [N] of the test
    split, and the scores of what each training has kept."""

    seeds: tuple[int, ...]
    target: float
    epoch_samples: int
    training: TrainingConfig
    rows: Sequence[Evaluation]
    labels: Float32
    scores: Scores

    def of(self, side: str, seed: int) -> list[Evaluation]:
        """The evaluations of one training."""
        return [row for row in self.rows if (row.side, row.seed) == (side, seed)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToAucRatio:
    """Baseline's seconds over the candidate's (above 1: the candidate is there sooner): geometric mean over seeds. None
    with the reason where a training of either side did not reach the target."""

    ratio: float | None
    ci: Interval | None
    reason: str


def seed_results(seen: SeedsSeen, side: str) -> tuple[SeedResult, ...]:
    """The numbers of one side, seed by seed. ValueError where the rows do not follow the rules of the fit loop."""
    return tuple(_seed_result(seen, side, seed) for seed in seen.seeds)


def _seed_result(seen: SeedsSeen, side: str, seed: int) -> SeedResult:
    rows = seen.of(side, seed)
    _check(seen, side, seed, rows)
    best, there = kept_of(rows).best, reached(rows, seen.target)
    if best is None:
        raise ValueError(f"{side}, seed {seed}: no evaluation decided what it kept")
    scores = seen.scores[side, seed]
    sound = bool(np.isfinite(scores[~np.isnan(seen.labels)]).all())
    return SeedResult(
        seed=seed,
        seconds_to_auc=None if there is None else there.seconds,
        steps_to_auc=None if there is None else there.step,
        seconds=sum(row.seconds for row in rows),
        steps=rows[-1].step,
        best_step=best.step,
        valid_auc=best.valid_auc if math.isfinite(best.valid_auc) else None,
        auc=auc(seen.labels, scores) if sound else None,
        logloss=logloss(seen.labels, scores) if sound else None,
        pcoc=pcoc(seen.labels, scores) if sound else None,
    )


def _check(seen: SeedsSeen, side: str, seed: int, rows: Sequence[Evaluation]) -> None:
    where, training = f"{side}, seed {seed}", seen.training
    if (side, seed) not in seen.scores or not rows:
        raise ValueError(f"{where}: its evaluations or its test scores are missing")
    per_epoch = -(-seen.epoch_samples // training.batch_size)
    places = {look.step: look.decides for look in looks(per_epoch, training)}
    position = 0
    for number, row in enumerate(rows):
        if row.first_step != position or places.get(row.step) != bool(row.decides):
            raise ValueError(f"{where}: it is not evaluated where a training is, after {row.step} steps")
        if row.samples != samples_of_steps(row.first_step, row.steps, seen.epoch_samples, training.batch_size):
            raise ValueError(f"{where}: {row.samples} samples in {row.steps} steps")
        if not row.started_ns < row.ended_ns or (number and rows[number - 1].ended_ns > row.started_ns):
            raise ValueError(f"{where}: a stretch does not begin after the one before it and end after it began")
        over = is_over(rows[: number + 1], per_epoch * training.max_epochs, training.patience)
        if over != (number == len(rows) - 1):
            raise ValueError(f"{where}: it does not end where its patience does")
        position = row.step


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean over seeds; None where one of them has no number."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Means over the seeds of a side; None where one of them has no number, or there are none."""

    auc: float | None
    logloss: float | None
    pcoc: float | None


def accuracy_of(results: Sequence[SeedResult]) -> Accuracy:
    """Of one side, on the test split."""
    return Accuracy(
        auc=mean_of([each.auc for each in results]),
        logloss=mean_of([each.logloss for each in results]),
        pcoc=mean_of([each.pcoc for each in results]),
    )


def seconds_to_auc(results: Sequence[SeedResult]) -> float | None:
    """See ``harness.training.course.median_seconds``."""
    return median_seconds([each.seconds_to_auc for each in results])


def to_auc_ratio(baseline: Sequence[SeedResult], candidate: Sequence[SeedResult]) -> ToAucRatio:
    """Paired by seed; an interval (Student's t on the logs) from three seeds on."""
    if not baseline:
        return ToAucRatio(ratio=None, ci=None, reason="")
    missed = [
        f"{name} with {sum(each.seconds_to_auc is None for each in side)} of {len(side)} seeds"
        for name, side in ((BASELINE, baseline), (CANDIDATE, candidate))
        if any(each.seconds_to_auc is None for each in side)
    ]
    if missed:
        return ToAucRatio(
            ratio=None, ci=None, reason=f"the target AUC was not reached by the {' and the '.join(missed)}"
        )
    logs = [
        math.log(base.seconds_to_auc / cand.seconds_to_auc)
        for base, cand in zip(baseline, candidate, strict=True)
        if base.seconds_to_auc and cand.seconds_to_auc
    ]
    if len(logs) < FEWEST_SEEDS:
        return ToAucRatio(ratio=math.exp(float(np.mean(logs))), ci=None, reason="")
    ratio, ci = log_t_interval(logs)
    return ToAucRatio(ratio=ratio, ci=ci, reason="")


def seeds_gate(
    baseline: Sequence[SeedResult], candidate: Sequence[SeedResult], beside: Sequence[str] = ()
) -> GateResult:
    """R6 for a plan of other mathematics. ``beside``: sentences about work beside the clock, each of which fails it.
    ValueError for fewer than three seeds."""
    found = paired_seeds(
        *([math.nan if each.auc is None else each.auc for each in side] for side in (baseline, candidate))
    )
    return GateResult(
        verdict="fail" if beside else found.verdict,
        auc_delta=_known(found.delta),
        auc_delta_ci=found.ci if math.isfinite(found.delta) else None,
        margin=found.margin,
        logloss_delta_ci=_paired_interval(baseline, candidate),
        pcoc_ratio=_pcoc_ratio(baseline, candidate),
        timed_answers="fail" if beside else "pass",
        reasons=(*found.reasons, *beside),
        seeds=_seeds(baseline, found),
    )


def _seeds(baseline: Sequence[SeedResult], found: PairedSeeds) -> SeedsResult:
    return SeedsResult(seeds=tuple(each.seed for each in baseline), spread=found.spread)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _paired_interval(baseline: Sequence[SeedResult], candidate: Sequence[SeedResult]) -> Interval | None:
    pairs = [(base.logloss, cand.logloss) for base, cand in zip(baseline, candidate, strict=True)]
    differences = [cand - base for base, cand in pairs if base is not None and cand is not None]
    return t_interval(differences) if len(differences) == len(pairs) else None


def _pcoc_ratio(baseline: Sequence[SeedResult], candidate: Sequence[SeedResult]) -> float | None:
    means = [mean_of([each.pcoc for each in side]) for side in (baseline, candidate)]
    base, cand = means
    return cand / base if base and cand is not None else None


def results_by_side(seen: SeedsSeen, sides: Sequence[str]) -> Mapping[str, tuple[SeedResult, ...]]:
    """``seed_results`` of all sides. ValueError for rows or scores that belong to none of them."""
    wanted = {(side, seed) for side in sides for seed in seen.seeds}
    if {(row.side, row.seed) for row in seen.rows} != wanted or set(seen.scores) != wanted:
        raise ValueError(
            "evaluations.parquet and predictions.parquet do not hold every seed of every side, and no other"
        )
    return {side: seed_results(seen, side) for side in sides}
