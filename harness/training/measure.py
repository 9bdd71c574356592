"""The hops of a training trial, in order: prepare, start weights, gate, quads, inputs and compute apart, report."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.console.observer import Observer
from harness.estimate.parity import TensorParity
from harness.host.environment import describe_environment
from harness.measurement.identity import identity
from harness.measurement.preparation import BASELINE, CANDIDATE, load_and_plan
from harness.measurement.sut_spec import plan_lines
from harness.measurement.weights import file_sha256
from harness.options import RunOptions
from harness.record.result import PREDICTION_COLUMNS, QUERY_COLUMNS, Floor, Measurement, PlanLine, Result
from harness.record.side_result import Latency, ServiceTimes, SideResult, SingleStream, TrainResult
from harness.record.training_rows import CHUNK_COLUMNS, CHUNK_TEXTS, PARITY_COLUMNS, PARITY_TEXTS, as_columns
from harness.sut.system_process import SideInfo
from harness.training.bench import TrainingBench
from harness.training.gate import PARITY_STEPS, REORDERINGS, parity_rows
from harness.training.outcome import TrainingFacts, TrainingSeen, training_outcome
from harness.training.pacing import Pacing, find_pacing
from harness.training.quads import TrainingLog, run_apart, run_quads
from harness.training.sides import TrainingSides
from harness.training.spec import TrainingPlan, training_plan, training_spec
from harness.trial import Trial
from optimizations.registry import third_party_packages
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
        run = _Run(what=what, folder=Path(folder), bench=TrainingBench(sides=sides, observer=observer))
        observer.stage("writing the training split", total=None)
        write_split(run.split, what.split)
        _make_origin(run)
        _start_sides(run)
        cold = [run.bench.train(name, "gate", PARITY_STEPS) for name in what.plans]
        _compare(run, "gate", PARITY_STEPS, [run.at(ORIGIN, str(order)) for order in range(REORDERINGS)])
        observer.plan(_lines(run), None, None)
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
        return _assemble(run, _Kept(log=log, pacing=pacing, peaks=peaks, rss=rss))


@dataclass(slots=True, kw_only=True)
class _Run:
    """A trial on its way: what is trained, where its files lie, and what was seen."""

    what: TrainingPlan
    folder: Path
    bench: TrainingBench
    infos: dict[str, SideInfo] = dataclasses.field(default_factory=dict)
    parity: list[TensorParity] = dataclasses.field(default_factory=list)

    @property
    def split(self) -> Path:
        return self.folder / "split.npz"

    @property
    def start(self) -> Path:
        return self.folder / "start.npz"

    def at(self, side: str, stage: str) -> Path:
        return self.folder / f"{side}-{stage}.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    log: TrainingLog
    pacing: Pacing
    peaks: Mapping[str, int | None]
    rss: Mapping[str, int]


def _make_origin(run: _Run) -> None:
    """Write the weights before the first step; and for the gate, what the plain loop makes of them in other orders."""
    what, bench = run.what, run.bench
    bench.observer.stage("start weights, and the plain loop in other orders", total=None)
    spec = training_spec(what, what.plans[BASELINE], run.split, what.weights)
    bench.sides.start(ORIGIN, spec)
    bench.sides.order(ORIGIN, "save", path=str(run.start))
    if CANDIDATE in what.plans:
        for order in range(REORDERINGS):
            bench.sides.order(ORIGIN, "again", changes={"start": str(run.start), "reordering": order})
            bench.sides.order(ORIGIN, "train", steps=PARITY_STEPS)
            bench.sides.order(ORIGIN, "save", path=str(run.at(ORIGIN, str(order))))
    bench.sides.stop(ORIGIN)


def _start_sides(run: _Run) -> None:
    what, bench = run.what, run.bench
    bench.observer.stage("starting both sides", total=len(what.plans), unit="")
    for name, plan in what.plans.items():
        run.infos[name] = bench.sides.start(name, training_spec(what, plan, run.split, run.start))
        bench.joined(name)
        bench.observer.advance(1, f"{name} ready in {run.infos[name].start_s:.1f} s")


def _compare(run: _Run, stage: str, steps: int, reordered: Sequence[Path] = ()) -> None:
    """Parameters of both sides, which have taken ``steps`` steps each; nothing for ``opt=[]``."""
    if CANDIDATE not in run.what.plans:
        return
    files = {name: run.at(name, stage) for name in run.what.plans}
    for name, path in files.items():
        run.bench.awake.wake(name)
        run.bench.sides.order(name, "save", path=str(path))
    run.parity += parity_rows(stage, steps, run.start, files[BASELINE], files[CANDIDATE], reordered)
    for path in files.values():
        path.unlink()


def _lines(run: _Run) -> tuple[PlanLine, ...]:
    measured = list(run.what.plans)[-1]
    return plan_lines(run.what.plans[measured], run.infos[measured].report)


def _assemble(run: _Run, kept: _Kept) -> Measurement:
    what, bench = run.what, run.bench
    facts = TrainingFacts(
        epoch_samples=run.infos[BASELINE].report["samples"],
        batch_size=what.training.batch_size,
        seed=what.training.seed,
        threads={name: info.report["threads"] for name, info in run.infos.items()},
        peak_bytes=kept.peaks,
    )
    numbers = training_outcome(
        TrainingSeen(chunks=bench.chunks, parity=run.parity, facts=facts, shares=kept.log.shares, remarks=bench.remarks)
    )
    environment = describe_environment(plugins=third_party_packages(what.trial.opts))
    sides = {name: _side(run, kept, name, numbers.sides[name]) for name in what.plans}
    result = Result(
        **identity(what.trial, what.dataset, environment),
        plan=_lines(run),
        baseline=sides[BASELINE],
        candidate=sides.get(CANDIDATE),
        ratio=numbers.ratio,
        gate=numbers.gate,
        floor=Floor(p50_ms=None, p99_ms=None, lbt_qps=None),
        validity=numbers.validity,
        weights_sha256=file_sha256(run.start),
    )
    bench.observer.done(result)
    return Measurement(
        result=result,
        queries={name: np.zeros(0, kind) for name, kind in {"side": str, **QUERY_COLUMNS}.items()},
        predictions={name: np.zeros(0, kind) for name, kind in {"side": str, "run": str, **PREDICTION_COLUMNS}.items()},
        environment={**environment, "run": _run_facts(run, kept, facts)},
        training=as_columns(bench.chunks, CHUNK_TEXTS, CHUNK_COLUMNS),
        parity=as_columns(run.parity, PARITY_TEXTS, PARITY_COLUMNS),
    )


def _side(run: _Run, kept: _Kept, name: str, train: TrainResult) -> SideResult:
    pipeline = run.what.plans[name].pipeline
    return SideResult(
        auc=None,
        logloss=None,
        pcoc=None,
        lbt_qps=None,
        lbt_ci=None,
        lbt_status="not_measured",
        slack=None,
        service_ms=ServiceTimes(n1=None, n10=None, n32=None, n100=None),
        latency_ms=Latency(p50=None, p90=None, p99=None, p999=None),
        offline_samples_per_s=None,
        single_stream_ms=SingleStream(p50=None, p99=None),
        rss_bytes=kept.rss[name],
        minor_faults_per_query=None,
        start_s=run.infos[name].start_s,
        train=train,
        dtypes=tuple(sorted({block.dtype for block in pipeline.blocks})),
    )


def _run_facts(run: _Run, kept: _Kept, facts: TrainingFacts) -> dict[str, Any]:
    """How the run was made: what no row tells, and what the host did in each quad."""
    return {
        "frozen_by": run.bench.sides.frozen_by,
        "cores": {"sut": list(run.bench.sides.cores)},
        "quads": kept.log.host,
        "training": {
            **dataclasses.asdict(kept.pacing),
            "epoch_samples": facts.epoch_samples,
            "batch_size": facts.batch_size,
            "seed": facts.seed,
            "split_sha256": file_sha256(run.split),
        },
    }
