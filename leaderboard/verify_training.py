"""A training record: its rows against its trial, and its numbers again from its rows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.estimate.parity import TensorParity
from harness.options import Budget
from harness.record.jsonable import from_plain
from harness.record.reader import Record
from harness.record.seed_predictions import scores_of
from harness.record.training_rows import Chunk, Evaluation, as_rows
from harness.training.gate import PARITY_STEPS
from harness.training.outcome import TrainingOutcome
from harness.training.pacing import TIMED
from harness.training.quads import host_shares
from harness.training.seed_outcome import Accuracy, SeedsSeen
from harness.training.seen import TrainingFacts, TrainingSeen
from harness.training.spec import other_mathematics, seeds_of
from harness.training.target import BASELINE_SEEDS, Target, target_from
from zoo.training_config import TrainingConfig, training_config

LEAST_SHARE = 0.5
"""Of the budget's ``segment_s``: what a timed half of the slower side must last in the median."""


def training_seen(record: Record) -> TrainingSeen:
    """What the trial has seen. Raises ValueError where the files of the record contradict each other."""
    result, run = record.result, record.environment["run"]
    sides = {"baseline": result.baseline} | ({"candidate": result.candidate} if result.candidate else {})
    trained = {name: side.train for name, side in sides.items()}
    if any(train is None for train in trained.values()):
        raise ValueError("result.json: a side of a training has no numbers of its training")
    said = run["training"]
    for name in ("batch_size", "seed"):
        if said[name] != record.trial["training"][name]:
            raise ValueError(f"environment.json and trial.json disagree on {name}")
    training = training_config(record.trial["model"], record.trial["training"])
    facts = TrainingFacts(
        epoch_samples=said["epoch_samples"],
        batch_size=said["batch_size"],
        seed=said["seed"],
        threads={name: train.threads for name, train in trained.items() if train is not None},
        peak_bytes={name: train.peak_bytes for name, train in trained.items() if train is not None},
    )
    return TrainingSeen(
        chunks=as_rows(Chunk, record.training()),
        parity=as_rows(TensorParity, record.parity()),
        facts=facts,
        shares=host_shares(run["quads"]),
        remarks=[reason for reason in result.validity.reasons if not re.match(r"quad \d+: ", reason)],
        seeds=_seeds_seen(record, training, said) if record.trial.get("train_seeds") else None,
        by_seeds=bool(other_mathematics(result.plan, training.dropout)),
    )


def _seeds_seen(record: Record, training: TrainingConfig, said: Mapping[str, Any]) -> SeedsSeen:
    """The trainings to their end. Validation AUCs stand as measured; what follows from them does not."""
    target, asked = from_plain(Target, said["target"]), record.trial["target_auc"]
    if asked is None:
        if target.seeds != seeds_of(training.seed, BASELINE_SEEDS) or len(target.valid_aucs) != len(target.seeds):
            raise ValueError("environment.json: the target does not rest on the seeds that it has to")
        expected = target_from(target.valid_aucs)
    else:
        expected = asked
    if not math.isclose(target.auc, expected, rel_tol=1e-12):
        raise ValueError(f"environment.json: the target AUC is {target.auc}, and {expected} is what it rests on")
    labels, scores = scores_of(record.predictions())
    return SeedsSeen(
        seeds=seeds_of(training.seed, record.trial["train_seeds"]),
        target=target.auc,
        epoch_samples=said["epoch_samples"],
        training=training,
        rows=as_rows(Evaluation, record.evaluations()),
        labels=labels,
        scores=scores,
    )


def training_problems(seen: TrainingSeen, budget: Budget) -> Iterator[str]:
    """What the trial's budget and gate ask for, and the rows do not hold."""
    timed = [chunk for chunk in seen.chunks if chunk.purpose == "quad"]
    if len({chunk.quad for chunk in timed}) < int(budget.quads):
        yield f"training.parquet holds {len({chunk.quad for chunk in timed})} quads, budget={budget.name} asks for more"
    if {chunk.steps for chunk in timed} != {TIMED}:
        yield f"training.parquet: the timed bursts do not all have {TIMED} steps"
    lasted: dict[tuple[int, int], dict[str, float]] = {}
    for chunk in timed:
        sides = lasted.setdefault((chunk.quad, chunk.half), {})
        sides[chunk.side] = sides.get(chunk.side, 0.0) + chunk.seconds
    seconds = sorted(max(sides.values()) for sides in lasted.values())
    if seconds and seconds[len(seconds) // 2] < LEAST_SHARE * budget.segment_s:
        yield f"training.parquet: timed halves are shorter than budget={budget.name} says"
    if {chunk.steps for chunk in seen.chunks if chunk.purpose == "gate"} != {PARITY_STEPS}:
        yield f"training.parquet: the gate has to compare parameters after {PARITY_STEPS} steps"


def training_numbers(record: Record, numbers: TrainingOutcome) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """(as published, as recomputed): what is compared leaf by leaf."""
    result = record.result
    published: dict[str, Any] = {"baseline": result.baseline.train, "ratio": result.ratio, "gate": result.gate}
    published |= {"validity": result.validity} | ({"candidate": result.candidate.train} if result.candidate else {})
    recomputed: dict[str, Any] = {
        **numbers.sides,
        "ratio": numbers.ratio,
        "gate": numbers.gate,
        "validity": numbers.validity,
    }
    for name, accuracy in numbers.accuracy.items():
        side = result.baseline if name == "baseline" else result.measured
        published[f"{name} on the test split"] = Accuracy(auc=side.auc, logloss=side.logloss, pcoc=side.pcoc)
        recomputed[f"{name} on the test split"] = accuracy
    return published, recomputed
