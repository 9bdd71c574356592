"""The hops of a training trial, in order: prepare, start weights, gate, quads, inputs and compute apart, report."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.console.observer import Observer
from harness.measurement.preparation import BASELINE, CANDIDATE, load_and_plan
from harness.options import RunOptions
from harness.record.result import Measurement
from harness.training.assembly import assemble, plan_lines_of
from harness.training.bench import TrainingBench
from harness.training.gate import PARITY_STEPS, REORDERINGS, parity_rows
from harness.training.pacing import find_pacing
from harness.training.quads import run_apart, run_quads
from harness.training.run import Measured, TrainingRun
from harness.training.scorer import Scorer
from harness.training.seed_outcome import SeedsSeen
from harness.training.seed_store import SeedStore
from harness.training.sides import TrainingSides
from harness.training.spec import training_plan, training_spec
from harness.training.target import Target, ensure_target
from harness.training.to_auc import ToTheEnd
from harness.trial import Trial
from zoo.split_file import write_split

ORIGIN = "origin"
"""The process that makes the weights before the first step, and trains plainly in other orders."""


def measure_training(trial: Trial, options: RunOptions, observer: Observer) -> Measurement:
    """Measure a training trial against its baseline.

    Raises ConfigurationError for what cannot be measured, SutFailure when a system under test crashes or hangs.
    """
    planned = load_and_plan(trial, options, observer)
    what = training_plan(trial, planned, options)
    with tempfile.TemporaryDirectory(prefix="recarena-") as folder, TrainingSides() as sides:
        run = TrainingRun(what=what, folder=Path(folder), bench=TrainingBench(sides=sides, observer=observer))
        observer.stage("writing the training split", total=None)
        write_split(run.split, what.split)
        target = _find_target(run, options)
        _make_origin(run)
        _start_sides(run)
        cold = [run.bench.train(name, "gate", PARITY_STEPS) for name in what.plans]
        _compare(run, "gate", PARITY_STEPS, [run.at(ORIGIN, str(order)) for order in range(REORDERINGS)])
        observer.plan(plan_lines_of(run), None, None)
        observer.stage("pace", total=None)
        pacing = find_pacing(run.bench, options.budget, cold)
        for name in what.plans:
            sides.forget_peak(name)
        log = run_quads(run.bench, options.budget, pacing)
        run_apart(run.bench, options.budget, pacing)
        peaks = {name: sides.peak_bytes(name) for name in what.plans}
        rss = {name: sides.rss_bytes(name) for name in what.plans}
        observer.stage("comparing parameters", total=None)
        _compare(run, "timed", run.bench.position[BASELINE])
        seeds = _train_seeds(run, target)
        found = Measured(log=log, pacing=pacing, peaks=peaks, rss=rss, target=target, seeds=seeds)
        return assemble(run, found)


def _find_target(run: TrainingRun, options: RunOptions) -> Target | None:
    """The AUC that trainings are timed to; None where none goes to its end."""
    if not run.what.seeds:
        return None
    if run.what.trial.target_auc is not None:
        return Target(auc=run.what.trial.target_auc)
    scorer = Scorer(run.what, run.folder, run.bench.sides, run.bench.remarks)
    target = ensure_target(run.what, options, run.bench.observer, scorer.valid_auc)
    scorer.stop()
    return target


def _train_seeds(run: TrainingRun, target: Target | None) -> SeedsSeen | None:
    """Train both sides to their end, seed by seed, in processes of their own."""
    what, bench = run.what, run.bench
    if target is None:
        return None
    for name in what.plans:
        bench.sides.stop(name)
    epoch_samples = run.infos[BASELINE].report["samples"]
    store = SeedStore(what.cache_dir, what.trial, target.auc, bench.observer.warn)
    trained = ToTheEnd(
        what=what,
        folder=run.folder,
        split=run.split,
        sides=bench.sides,
        scorer=Scorer(what, run.folder, bench.sides, bench.remarks),
        observer=bench.observer,
        target=target.auc,
        store=store,
    )
    for seed in what.seeds:
        trained.train(seed, epoch_samples)
    trained.scorer.stop()
    store.remove()
    return SeedsSeen(
        seeds=what.seeds,
        target=target.auc,
        epoch_samples=epoch_samples,
        training=what.training,
        rows=trained.rows,
        labels=what.dataset.test.labels,
        scores=trained.scores,
    )


def _make_origin(run: TrainingRun) -> None:
    """Write the weights before the first step; and for the gate, what the plain loop makes of them in other orders."""
    what, bench = run.what, run.bench
    bench.observer.stage("start weights, and the plain loop in other orders", total=None)
    spec = training_spec(what, what.plans[BASELINE], run.split, what.weights)
    bench.sides.start(ORIGIN, spec)
    bench.sides.order(ORIGIN, "save", path=str(run.start))
    if CANDIDATE in what.plans and not what.by_seeds:
        for order in range(REORDERINGS):
            bench.sides.order(ORIGIN, "again", changes={"start": str(run.start), "reordering": order})
            bench.sides.order(ORIGIN, "train", steps=PARITY_STEPS)
            bench.sides.order(ORIGIN, "save", path=str(run.at(ORIGIN, str(order))))
    bench.sides.stop(ORIGIN)


def _start_sides(run: TrainingRun) -> None:
    what, bench = run.what, run.bench
    bench.observer.stage("starting both sides", total=len(what.plans), unit="")
    for name, plan in what.plans.items():
        run.infos[name] = bench.sides.start(name, training_spec(what, plan, run.split, run.start))
        bench.joined(name)
        bench.observer.advance(1, f"{name} ready in {run.infos[name].start_s:.1f} s")


def _compare(run: TrainingRun, stage: str, steps: int, reordered: Sequence[Path] = ()) -> None:
    """Parameters of both sides, which have taken ``steps`` steps each; nothing for ``opt=[]``, nor where seeds
    decide."""
    if CANDIDATE not in run.what.plans or run.what.by_seeds:
        return
    files = {name: run.at(name, stage) for name in run.what.plans}
    for name, path in files.items():
        run.bench.awake.wake(name)
        run.bench.sides.order(name, "save", path=str(path))
    run.parity += parity_rows(stage, steps, run.start, files[BASELINE], files[CANDIDATE], reordered)
    for path in files.values():
        path.unlink()
