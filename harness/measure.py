"""The hops of a serving trial, in order: prepare, start, answer everything once, search, quads, report.

A trial of scope=train goes to ``harness.training.measure``.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.console.observer import Observer
from harness.host.validity import sample_host
from harness.measurement.assembly import Kept, assemble, lines_of
from harness.measurement.bench import Bench, Stretch
from harness.measurement.certificate import issue_certificate
from harness.measurement.closed_loops import accuracy_run, offline, service_table, single_stream
from harness.measurement.evidence import Evidence
from harness.measurement.floor import NULL, measure_floor, null_latency
from harness.measurement.gate import require_yardstick
from harness.measurement.graphs import export_seconds
from harness.measurement.idle_cores import cores_awake
from harness.measurement.mlperf import SCENARIO as MLPERF
from harness.measurement.mlperf import loadgen_runs
from harness.measurement.new_queries import ask_new_and_known
from harness.measurement.outcome import LATENCY_LOAD, latency_qps
from harness.measurement.preparation import BASELINE, CANDIDATE, Prepared, prepare
from harness.measurement.quads import QuadLog, quad_seconds, run_quads
from harness.measurement.rates import search_rate
from harness.measurement.referee import Referee, ring_shape
from harness.measurement.side import Side
from harness.measurement.sut_spec import model_spec, settled
from harness.options import RunOptions
from harness.record.result import Floor, Measurement
from harness.record.service import SERVICE_SIZES, slack
from harness.record.side_result import Latency, ServiceTimes, SideResult, SingleStream
from harness.training.measure import measure_training
from harness.trial import Trial


def measure(trial: Trial, options: RunOptions, observer: Observer) -> Measurement:
    """Measure a trial against its baseline.

    Raises ConfigurationError for what cannot be measured, SutFailure when a system under test crashes or hangs.
    """
    if trial.scope == "train":
        return measure_training(trial, options, observer)
    prepared = prepare(trial, options, observer)
    bench = Bench(
        trial=trial,
        budget=options.budget,
        referee=Referee(),
        split=prepared.dataset.test,
        unseen=prepared.dataset.valid,
        evidence=Evidence(),
        observer=observer,
    )
    with bench.referee, cores_awake(options.keep_awake, bench.referee.flight) as bench.loop:
        floor = _start_floor(bench)
        sides = _start_sides(bench, prepared, options.cache_dir)
        prepared = _as_started(prepared, sides)
        _answer_everything(bench, sides)
        _find_rates(bench, sides, prepared)
        log = _quads(bench, sides)
        logs = loadgen_runs(bench, sides) if trial.scenario == MLPERF else {}
        facts = {side.name: _other_scenarios(bench, side, prepared) for side in sides}
        ask_new_and_known(bench, sides)
        _certify(bench, prepared, sides[-1], log, options.cache_dir)
        _finish_floor(bench, floor, sides)
        bench.remarks.extend(bench.loop.remarks())
    return assemble(bench, prepared, sides, Kept(log=log, facts=facts, logs=logs, awake=options.keep_awake))


def _start_floor(bench: Bench) -> Floor:
    shape = ring_shape(bench.splits, max(SERVICE_SIZES))
    bench.observer.stage("floor (a system that does nothing)", total=1.0 + bench.budget.floor_s)
    bench.referee.start_side(NULL, {"kind": "null"}, shape)
    bench.joined(NULL)
    return null_latency(bench)


def _start_sides(bench: Bench, prepared: Prepared, cache_dir: Path) -> list[Side]:
    shape = ring_shape(bench.splits, max(SERVICE_SIZES))
    sides = []
    bench.observer.stage("starting systems under test", total=len(prepared.plans), unit="")
    for name, plan in prepared.plans.items():
        with model_spec(prepared, name, cache_dir) as spec:
            info = bench.referee.start_side(name, spec, shape)
        bench.joined(name)
        bench.observer.advance(1, f"{name} ready in {info.start_s:.1f} s")
        workers = settled(plan, info.report).pipeline.runtime.workers
        sides.append(Side(name=name, info=info, workers=workers, dispatch=plan.pipeline.dispatch))
    return sides


def _as_started(prepared: Prepared, sides: list[Side]) -> Prepared:
    """With the plans that the sides run: a fresh process of one is to have as many workers and threads."""
    plans = {side.name: settled(prepared.plans[side.name], side.info.report) for side in sides}
    return dataclasses.replace(prepared, plans=plans)


def _answer_everything(bench: Bench, sides: list[Side]) -> None:
    bench.observer.stage("accuracy run", total=len(bench.split) * len(sides), unit="samples")
    for side in sides:
        accuracy_run(bench, side)
        if side.name == BASELINE and len(sides) > 1:
            require_yardstick(bench.split.labels, bench.evidence.answers[BASELINE].accuracy)


def _find_rates(bench: Bench, sides: list[Side], prepared: Prepared) -> None:
    """Service tables, then (server scenario) the rate of each side by coarse probes."""
    bench.observer.stage("service times", total=2 * len(sides), unit="")
    service_table(bench, sides)
    slacks = {side.name: slack(side.service, bench.limit_ns) for side in sides if side.service is not None}
    lines = lines_of(prepared, sides)
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
    log = run_quads(bench, sides)
    if bench.trial.scenario == "server":
        bench.observer.stage("estimating", total=None)
        with ThreadPoolExecutor(len(sides)) as pool:  # the estimates are kept by their sides
            list(pool.map(lambda side: side.estimate(bench), sides))
    return log


def _other_scenarios(bench: Bench, side: Side, prepared: Prepared) -> SideResult:
    """Load at 70 % of the side's own LBT (or at the trial's own rate), single stream and offline.

    Returns what no column of the record tells.
    """
    plan = prepared.plans[side.name]
    server, given = bench.trial.scenario == "server", bench.trial.scenario == MLPERF
    seconds = bench.budget.settle_s + bench.budget.latency_s
    at = f"{bench.trial.rate_qps:g} qps" if given else f"{LATENCY_LOAD:.0%}"
    bench.observer.stage(f"{side.name} at {at}", total=seconds if server or given else 1.0)
    estimate = side.estimate(bench) if server else None
    rate = bench.trial.rate_qps if given else latency_qps(estimate, side.centre_qps)
    faults = _faults_per_query(bench, side, rate, seconds) if rate > 0 else None
    offline(bench, side)
    if server:
        single_stream(bench, side)
    return SideResult(
        auc=None,
        logloss=None,
        pcoc=None,
        lbt_qps=None,
        lbt_ci=None,
        lbt_status="not_measured",
        slack=None,
        service_ms=_NO_SERVICE,
        latency_ms=Latency(p50=None, p90=None, p99=None, p999=None),
        offline_samples_per_s=None,
        single_stream_ms=SingleStream(p50=None, p99=None),
        rss_bytes=bench.referee.rss_bytes(side.name),
        minor_faults_per_query=faults,
        start_s=side.info.start_s,
        workers=side.workers,
        dispatch=side.dispatch,
        dtypes=tuple(sorted({block.dtype for block in plan.pipeline.blocks})),
        export_s=export_seconds(prepared.graphs.get(side.name)),
    )


_NO_SERVICE = ServiceTimes(n1=None, n10=None, n32=None, n100=None)


def _faults_per_query(bench: Bench, side: Side, rate_qps: float, seconds: float) -> float:
    """Run the segment whose latencies are reported; returns the side's minor page faults per query."""
    before = sample_host({side.name: bench.referee.pids(side.name)})
    seen = bench.open_loop(side.name, Stretch(purpose="latency", index=0, rate_qps=rate_qps, seconds=seconds))
    after = sample_host({side.name: bench.referee.pids(side.name)})
    faults = after.sides[side.name].minor_faults - before.sides[side.name].minor_faults
    return faults / max(1, len(seen.latency_ns))


def _certify(bench: Bench, prepared: Prepared, side: Side, log: QuadLog, cache_dir: Path) -> None:
    if bench.budget.certificate_s and bench.trial.scenario == "server":
        shape = ring_shape(bench.splits, max(SERVICE_SIZES))
        estimate = side.estimate(bench, log.kept(int(bench.budget.quads), bench.limit_ns))
        issue_certificate(bench, side.name, estimate, lambda: model_spec(prepared, side.name, cache_dir), shape)


def _finish_floor(bench: Bench, floor: Floor, sides: list[Side]) -> None:
    if bench.trial.scenario != "server":
        return
    rates = [estimate.lbt_qps or 0.0 for side in sides if (estimate := side.estimate(bench)) is not None]
    if any(rates):
        bench.observer.stage("floor far above the result", total=None)
        measure_floor(bench, floor, max(rates))
