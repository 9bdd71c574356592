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
from harness.training.burst_parity import BurstParity
from harness.training.common_start import CommonStart
from harness.training.gate import PARITY_STEPS, REORDERINGS, first_steps_off, parity_rows
from harness.training.pacing import find_pacing
from harness.training.quads import run_apart, run_quads
from harness.training.run import ORIGIN, Measured, TrainingRun
from harness.training.scorer import Scorer
from harness.training.seed_outcome import SeedsSeen
from harness.training.seed_store import SeedStore
from harness.training.sides import TrainingSides
from harness.training.spec import training_plan, training_spec
from harness.training.target import Target, ensure_target
from harness.training.to_auc import ToTheEnd
from harness.trial import Trial
from zoo.split_file import write_split

WARM_STEPS = 50
"""Steps of the plain loop before the state from which bursts begin: by then Adam and Adagrad know the size of most
gradients, and rounding spreads less than from the first step."""


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
        _compare(run, [run.at(ORIGIN, str(order)) for order in range(REORDERINGS)])
        observer.plan(plan_lines_of(run), None, None)
        observer.stage("pace", total=None)
        pacing = find_pacing(run.bench, options.budget, cold)
        epoch_steps = -(-run.infos[BASELINE].report["samples"] // what.training.batch_size)
        start = CommonStart(state=run.state, epoch_steps=epoch_steps, pacing=pacing)
        parity = BurstParity(run, start) if run.compares else None
        log = run_quads(run.bench, options.budget, start, parity)
        run_apart(run.bench, options.budget, pacing)
        rss = {name: sides.rss_bytes(name) for name in what.plans}
        if parity is not None:
            parity.reorder()
            run.parity += parity.rows
        seeds = _train_seeds(run, target)
        found = Measured(log=log, pacing=pacing, peaks=run.bench.peaks, rss=rss, target=target, seeds=seeds)
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
    """Write the weights before the first step; for the gate, what the plain loop makes of them in other orders; and the
    state from which bursts begin."""
    what, bench = run.what, run.bench
    bench.observer.stage("start weights, and the plain loop in other orders", total=None)
    spec = training_spec(what, what.plans[BASELINE], run.split, what.weights)
    bench.sides.start(ORIGIN, spec)
    bench.sides.order(ORIGIN, "save", path=str(run.start))
    if run.compares:
        for order in range(REORDERINGS):
            bench.sides.order(ORIGIN, "again", changes={"start": str(run.start), "reordering": order})
            bench.sides.order(ORIGIN, "train", steps=PARITY_STEPS)
            bench.sides.order(ORIGIN, "save", path=str(run.at(ORIGIN, str(order))))
    bench.sides.order(ORIGIN, "again", changes={"start": str(run.start)})
    bench.sides.order(ORIGIN, "train", steps=WARM_STEPS)
    bench.sides.order(ORIGIN, "save", path=str(run.at(ORIGIN, "state")))
    bench.sides.order(ORIGIN, "checkpoint", path=str(run.state))
    bench.sides.stop(ORIGIN)


def _start_sides(run: TrainingRun) -> None:
    what, bench = run.what, run.bench
    bench.observer.stage("starting both sides", total=len(what.plans), unit="")
    for name, plan in what.plans.items():
        run.infos[name] = bench.sides.start(name, training_spec(what, plan, run.split, run.start))
        bench.joined(name)
        bench.observer.advance(1, f"{name} ready in {run.infos[name].start_s:.1f} s")


def _compare(run: TrainingRun, reordered: Sequence[Path]) -> None:
    """Parameters of both sides after the first steps; nothing for ``opt=[]``, nor where seeds decide."""
    if not run.compares:
        return
    files = {name: run.at(name, "gate") for name in run.what.plans}
    for name, path in files.items():
        run.bench.order(name, "save", path=str(path))
    run.parity += parity_rows("gate", PARITY_STEPS, run.start, files[BASELINE], files[CANDIDATE], reordered)
    if off := first_steps_off(run.parity):
        run.bench.observer.warn(f"the gate has failed, so what follows has no rank: {off[0]}")
    for path in (*files.values(), *reordered):
        path.unlink()
