"""From what a training trial has seen to its result and its evidence."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.host.environment import describe_environment
from harness.measurement.identity import identity
from harness.measurement.preparation import BASELINE, CANDIDATE
from harness.measurement.sut_spec import plan_lines
from harness.measurement.weights import file_sha256
from harness.record.result import PREDICTION_COLUMNS, QUERY_COLUMNS, Floor, Measurement, PlanLine, Result
from harness.record.seed_predictions import prediction_columns
from harness.record.side_result import Latency, ServiceTimes, SideResult, SingleStream
from harness.record.training_rows import (
    CHUNK_COLUMNS,
    CHUNK_TEXTS,
    EVALUATION_COLUMNS,
    EVALUATION_TEXTS,
    PARITY_COLUMNS,
    PARITY_TEXTS,
    as_columns,
)
from harness.training.outcome import TrainingOutcome, training_outcome
from harness.training.run import Measured, TrainingRun
from harness.training.seed_outcome import SeedsSeen
from harness.training.seen import TrainingFacts, TrainingSeen
from optimizations.registry import third_party_packages


def plan_lines_of(run: TrainingRun) -> tuple[PlanLine, ...]:
    """The measured plan as it was lowered."""
    measured = list(run.what.plans)[-1]
    return plan_lines(run.what.plans[measured], run.infos[measured].report)


def assemble(run: TrainingRun, kept: Measured) -> Measurement:
    """The result with its evidence."""
    what, bench = run.what, run.bench
    facts = TrainingFacts(
        epoch_samples=run.infos[BASELINE].report["samples"],
        batch_size=what.training.batch_size,
        seed=what.training.seed,
        threads={name: info.report["threads"] for name, info in run.infos.items()},
        peak_bytes=kept.peaks,
    )
    numbers = training_outcome(
        TrainingSeen(
            chunks=bench.chunks,
            parity=run.parity,
            facts=facts,
            shares=kept.log.shares,
            remarks=bench.remarks,
            seeds=kept.seeds,
            by_seeds=bool(what.by_seeds),
        )
    )
    environment = describe_environment(plugins=third_party_packages(what.trial.opts))
    sides = {name: _side(run, kept, name, numbers) for name in what.plans}
    result = Result(
        **identity(what.trial, what.dataset, environment),
        plan=plan_lines_of(run),
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
        predictions=_predictions(kept.seeds),
        environment={**environment, "run": _run_facts(run, kept, facts)},
        training=as_columns(bench.chunks, CHUNK_TEXTS, CHUNK_COLUMNS),
        parity=as_columns(run.parity, PARITY_TEXTS, PARITY_COLUMNS),
        evaluations=as_columns(kept.seeds.rows, EVALUATION_TEXTS, EVALUATION_COLUMNS) if kept.seeds else {},
    )


def _predictions(seeds: SeedsSeen | None) -> dict[str, npt.NDArray[Any]]:
    if seeds is not None:
        return prediction_columns(seeds.labels, seeds.scores)
    return {name: np.zeros(0, kind) for name, kind in {"side": str, "run": str, **PREDICTION_COLUMNS}.items()}


def _side(run: TrainingRun, kept: Measured, name: str, numbers: TrainingOutcome) -> SideResult:
    pipeline, accuracy = run.what.plans[name].pipeline, numbers.accuracy[name]
    return SideResult(
        auc=accuracy.auc,
        logloss=accuracy.logloss,
        pcoc=accuracy.pcoc,
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
        train=numbers.sides[name],
        dtypes=tuple(sorted({block.dtype for block in pipeline.blocks})),
    )


def _run_facts(run: TrainingRun, kept: Measured, facts: TrainingFacts) -> dict[str, Any]:
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
            "target": None if kept.target is None else dataclasses.asdict(kept.target),
        },
    }
