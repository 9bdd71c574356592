"""The hops of a serving trial, in order: prepare, start, answer everything once, search, quads, report."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.clock import unix_s
from harness.console.observer import Observer
from harness.host.environment import describe_environment
from harness.host.validity import sample_host
from harness.measurement.bench import Bench, Stretch
from harness.measurement.evidence import Evidence
from harness.measurement.floor import NULL, floor_latency, floor_lbt
from harness.measurement.mlperf import SCENARIO as MLPERF
from harness.measurement.mlperf import loadgen_runs
from harness.measurement.outcome import Estimates, gate_result, ratio_result, validity_of, with_accuracy, with_lbt
from harness.measurement.preparation import CANDIDATE, Prepared, prepare
from harness.measurement.quads import QuadLog, quad_seconds, run_quads
from harness.measurement.referee import Referee, ring_shape
from harness.measurement.side import (
    SERVICE_SIZES,
    Side,
    accuracy_run,
    offline_samples_per_s,
    search_rate,
    service_table,
    service_times,
    single_stream,
    slack,
)
from harness.measurement.sut_spec import model_spec, plan_lines
from harness.measurement.weights import file_sha256
from harness.options import RunOptions
from harness.record.derive import percentile_ms
from harness.record.result import (
    DatasetInfo,
    Floor,
    GitState,
    Latency,
    Measurement,
    PlanLine,
    Result,
    SideResult,
    SingleStream,
)
from harness.trial import Trial
from zoo.schema import Dataset

LATENCY_LOAD = 0.7
"""Share of a side's own LBT at which its latencies are reported."""


def measure(trial: Trial, options: RunOptions, observer: Observer) -> Measurement:
    """Measure a serving trial against its baseline.

    Raises ConfigurationError for what cannot be measured, SutFailure when a system under test crashes or hangs.
    """
    prepared = prepare(trial, options, observer)
    bench = Bench(
        trial=trial,
        budget=options.budget,
        referee=Referee(),
        split=prepared.dataset.test,
        evidence=Evidence(),
        observer=observer,
    )
    with bench.referee:
        floor = _start_floor(bench)
        sides = _start_sides(bench, prepared, options.cache_dir)
        _answer_everything(bench, sides)
        _find_rates(bench, sides, prepared)
        log = _quads(bench, sides)
        logs = loadgen_runs(bench, sides) if trial.scenario == MLPERF else {}
        results = {side.name: _reported(bench, side) for side in sides}
        fastest = max((result.lbt_qps or 0.0 for result in results.values()), default=0.0)
        floor = _finish_floor(bench, floor, fastest)
    return _assemble(bench, prepared, sides, _Seen(log=log, results=results, floor=floor, logs=logs))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    log: QuadLog
    results: dict[str, SideResult]
    floor: Floor
    logs: dict[str, bytes]


def _start_floor(bench: Bench) -> Floor:
    shape = ring_shape([bench.split], max(SERVICE_SIZES))
    bench.observer.stage("floor (a system that does nothing)", total=1.0 + bench.budget.floor_s)
    bench.referee.start_side(NULL, {"kind": "null"}, shape)
    bench.joined(NULL)
    return floor_latency(bench)


def _start_sides(bench: Bench, prepared: Prepared, cache_dir: Path) -> list[Side]:
    shape = ring_shape([bench.split], max(SERVICE_SIZES))
    sides = []
    bench.observer.stage("starting systems under test", total=len(prepared.plans), unit="")
    for name, plan in prepared.plans.items():
        with model_spec(prepared, plan, cache_dir) as spec:
            info = bench.referee.start_side(name, spec, shape)
        bench.joined(name)
        bench.observer.advance(1, f"{name} ready in {info.start_s:.1f} s")
        workers = plan.pipeline.runtime.workers
        sides.append(Side(name=name, info=info, workers=workers, dispatch=plan.pipeline.dispatch))
    return sides


def _answer_everything(bench: Bench, sides: list[Side]) -> None:
    bench.observer.stage("accuracy run", total=len(bench.split) * len(sides), unit="samples")
    for side in sides:
        accuracy_run(bench, side)


def _find_rates(bench: Bench, sides: list[Side], prepared: Prepared) -> None:
    """Service tables, then (server scenario) the rate of each side by coarse probes."""
    bench.observer.stage("service times", total=2 * len(sides), unit="")
    service_table(bench, sides)
    slacks = {side.name: slack(bench, side) for side in sides}
    lines = _lines(prepared, sides)
    bench.observer.plan(lines, slacks.get(CANDIDATE), slacks["baseline"])
    if bench.trial.scenario != "server":
        return
    budget = bench.budget
    seconds = len(sides) * budget.search_probes * (budget.settle_s + budget.search_s)
    bench.observer.stage("searching the rate", total=seconds)
    for side in sides:
        search_rate(bench, side)


def _quads(bench: Bench, sides: list[Side]) -> QuadLog:
    bench.observer.stage(f"{bench.budget.quads} quads", total=quad_seconds(bench, len(sides)))
    return run_quads(bench, sides)


def _reported(bench: Bench, side: Side) -> SideResult:
    """Latencies at 70 % of the side's own LBT (at a given rate: there), single stream, offline throughput, memory."""
    budget = bench.budget
    server, given = bench.trial.scenario == "server", bench.trial.scenario == MLPERF
    bench.observer.stage(
        f"{side.name} at {f'{bench.trial.rate_qps:g} qps' if given else f'{LATENCY_LOAD:.0%}'}",
        total=budget.latency_s + budget.settle_s if server or given else 1.0,
    )
    estimate = side.estimate(bench) if server else None
    rate = (estimate.lbt_qps if estimate and estimate.lbt_qps else side.centre_qps) * LATENCY_LOAD
    rate = bench.trial.rate_qps if given else rate
    latency, faults = _latency(bench, side, rate) if rate > 0 else (_NO_LATENCY, None)
    result = SideResult(
        auc=None,
        logloss=None,
        pcoc=None,
        lbt_qps=None,
        lbt_ci=None,
        lbt_status="not_measured",
        slack=slack(bench, side),
        service_ms=service_times(side),
        latency_ms=latency,
        offline_samples_per_s=offline_samples_per_s(bench, side),
        single_stream_ms=single_stream(bench, side) if server else SingleStream(p50=None, p99=None),
        rss_bytes=bench.referee.rss_bytes(side.name),
        minor_faults_per_query=faults,
        start_s=side.info.start_s,
    )
    result = with_lbt(result, estimate, searched=server)
    return with_accuracy(result, bench.split.labels, bench.evidence.answers[side.name])


_NO_LATENCY = Latency(p50=None, p90=None, p99=None, p999=None)


def _latency(bench: Bench, side: Side, rate_qps: float) -> tuple[Latency, float]:
    before = sample_host({side.name: bench.referee.pids(side.name)})
    seconds = bench.budget.settle_s + bench.budget.latency_s
    seen = bench.open_loop(side.name, Stretch(purpose="latency", index=0, rate_qps=rate_qps, seconds=seconds))
    after = sample_host({side.name: bench.referee.pids(side.name)})
    faults = after.sides[side.name].minor_faults - before.sides[side.name].minor_faults
    values = seen.latency_ns[seen.counted] / 1e6
    latency = Latency(
        p50=percentile_ms(values, 0.50),
        p90=percentile_ms(values, 0.90),
        p99=percentile_ms(values, 0.99),
        p999=percentile_ms(values, 0.999),
        offered_qps=rate_qps,
        queries=len(values),
    )
    return latency, faults / max(1, len(seen.latency_ns))


def _finish_floor(bench: Bench, floor: Floor, fastest_qps: float) -> Floor:
    if not fastest_qps:
        return floor
    bench.observer.stage("floor at rising rates", total=None)
    return floor_lbt(bench, floor, fastest_qps)


def _lines(prepared: Prepared, sides: list[Side]) -> tuple[PlanLine, ...]:
    measured = sides[-1]
    return plan_lines(prepared.plans[measured.name], measured.info.report)


def _assemble(bench: Bench, prepared: Prepared, sides: list[Side], seen: _Seen) -> Measurement:
    trial, labels = bench.trial, bench.split.labels
    validity, kept = validity_of(seen.log, bench.remarks)
    by_name = {side.name: side for side in sides}
    server = trial.scenario == "server"
    results = {
        name: with_lbt(result, by_name[name].estimate(bench, set(kept)) if server else None, searched=server)
        for name, result in seen.results.items()
    }
    candidate = results.get(CANDIDATE)
    ratio = gate = None
    if candidate is not None:
        estimates = Estimates(
            kept={side.name: side.estimate(bench, set(kept)) for side in sides},
            everything={side.name: side.estimate(bench) for side in sides},
            quads=kept,
        )
        ratio = ratio_result(by_name, estimates, seen.log, results)
        gate = gate_result(labels, bench.evidence.answers, prepared.plans[CANDIDATE])
    environment = describe_environment()
    voided = set(range(bench.budget.quads)) - set(kept)
    result = Result(
        trial_id=trial.trial_id,
        created=created_now(),
        recarena_version=importlib.metadata.version("recarena"),
        source_sha256=environment["source_sha256"],
        git=GitState(sha=environment["git"]["sha"] or "", dirty=bool(environment["git"]["dirty"])),
        trial=dataclasses.asdict(trial),
        plan=_lines(prepared, sides),
        baseline=results["baseline"],
        candidate=candidate,
        ratio=ratio,
        gate=gate,
        floor=seen.floor,
        validity=validity,
        dataset=_dataset_info(prepared.dataset),
        weights_sha256=file_sha256(prepared.weights),
        hardware_class=environment["hardware_class"],
        segments=tuple(dataclasses.replace(info, voided=info.quad in voided) for info in bench.evidence.segments),
    )
    bench.observer.done(result)
    return Measurement(
        result=result,
        queries=bench.evidence.queries(),
        predictions=bench.evidence.predictions(labels),
        environment={**environment, "run": _run_facts(bench, seen.log)},
        weights_path=prepared.weights,
        logs=seen.logs,
    )


def _run_facts(bench: Bench, log: QuadLog) -> Mapping[str, Any]:
    """How the referee itself fared: priority, cores, CPU per query, send lateness, host counters per quad."""
    lateness = np.concatenate([*bench.evidence.lateness_ns, np.zeros(0, np.int64)])
    cpus = bench.referee.cpus
    return {
        "sender_priority": bench.referee.sender.priority,
        "frozen_by": bench.referee.frozen_by,
        "collections": {name: dataclasses.asdict(seen) for name, seen in bench.referee.collections.items()},
        "cores": {"sender": list(cpus.sender), "sut": list(cpus.sut)},
        "sender_cpu_us_per_query": bench.evidence.sender_cpu_ns / 1e3 / max(1, bench.evidence.sends),
        "send_lateness_us": {
            f"p{p:g}": float(np.quantile(lateness, p / 100)) / 1e3 for p in (50, 99, 99.9) if len(lateness)
        },
        "quads": log.host,
    }


def _dataset_info(dataset: Dataset) -> DatasetInfo:
    labels = np.concatenate([split.labels for split in (dataset.train, dataset.valid, dataset.test)])
    return DatasetInfo(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        rows=len(labels),
        label_rate=float(np.nanmean(labels)),
        bayes_auc=dataset.bayes_auc,
    )


def created_now() -> str:
    """The moment of creation, UTC, ISO 8601 to the second."""
    return datetime.datetime.fromtimestamp(unix_s(), datetime.UTC).isoformat(timespec="seconds")
