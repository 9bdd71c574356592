"""The whole referee, with sender, rings and real processes, against systems whose queue is known (R15).

The system under test answers after a known time by the wall clock. What that makes of its one worker is measured apart
from the estimator (``process_truth``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.calibrate.process_truth import TRUTH_S, TruthOfSides
from harness.calibrate.study import BOTH
from harness.console.observer import Observer
from harness.estimate.comparison import lbt_ratio
from harness.estimate.lbt import LbtEstimate
from harness.measurement.bench import Bench, Quad
from harness.measurement.closed_loops import service_table
from harness.measurement.evidence import Evidence
from harness.measurement.floor import NULL
from harness.measurement.idle_cores import cores_awake, keeps_awake
from harness.measurement.quads import QuadLog, open_halves, quad_seconds, run_quads
from harness.measurement.rates import search_rate
from harness.measurement.referee import Referee, ring_shape
from harness.measurement.side import Side
from harness.options import BUDGETS
from harness.record.service import SERVICE_SIZES
from harness.trial import Sla, Trial
from optimizations.contract import Dispatch
from zoo.datasets import fingerprint, load_dataset

_DATA = {"shape": "pointwise", "size": "tiny"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessCell:
    """service: the law that both sides follow, each with noise of its own (``harness.sut.synthetic``); limit_ms: the
    SLA, p99."""

    name: str
    service: Mapping[str, Any]
    limit_ms: float


PROCESS_CELLS: tuple[ProcessCell, ...] = (
    ProcessCell(name="md1-s5", service={"law": "fixed", "mean_ms": 5.0}, limit_ms=25.0),
    ProcessCell(name="md1-s5-n15", service={"law": "fixed", "mean_ms": 5.0, "noise_cv": 0.15}, limit_ms=25.0),
    ProcessCell(name="md1-s5-n30", service={"law": "fixed", "mean_ms": 5.0, "noise_cv": 0.30}, limit_ms=25.0),
)
"""Exponential service is left out: of so few gaps its mean, and with it the truth, is known worse than the estimate."""


def compare_processes(cell: ProcessCell, budget: str, seed: int, cache_dir: Path, observer: Observer) -> dict[str, Any]:
    """One comparison of a system with itself; a flat JSON object with the truth and the estimate of each side."""
    dataset = load_dataset("planted", _DATA, cache_dir)
    bench = Bench(
        trial=_trial(cell, budget, seed),
        budget=BUDGETS[budget],
        referee=Referee(),
        split=dataset.test,
        evidence=Evidence(),
        observer=observer,
    )
    truth = TruthOfSides()

    def quad_and_truth(bench: Bench, sides: list[Side], quad: Quad) -> None:
        truth.measure(bench, sides, quad.place)
        open_halves(bench, sides, quad)

    with bench.referee, cores_awake(keeps_awake("auto"), bench.referee.flight) as bench.loop:
        sides = _start(bench, cell, seed)
        observer.stage("searching the rate")
        service_table(bench, sides)
        for side in sides:
            search_rate(bench, side)
        quads = bench.budget.quads
        observer.stage(f"{quads} quads", total=quad_seconds(bench, len(sides)) + (quads + 1) * len(sides) * TRUTH_S)
        log = run_quads(bench, sides, quad_and_truth)
        truth.measure(bench, sides, quads)
    return {"cell": cell.name, "budget": budget, "seed": seed, **_found(bench, sides, truth), **_host(log)}


def _trial(cell: ProcessCell, budget: str, seed: int) -> Trial:
    return Trial(
        model="synthetic", sizes={}, dataset="planted", dataset_options=_DATA,
        dataset_fingerprint=fingerprint("planted", _DATA), training={}, weights="", backend="none", device="cpu",
        scope="serve", opts={}, scenario="server", query_sizes="fixed:1", sla=Sla(limit_ms=cell.limit_ms), seed=seed,
        budget=budget,
    )  # fmt: skip


def _start(bench: Bench, cell: ProcessCell, seed: int) -> list[Side]:
    shape, sides = ring_shape([bench.split], max(SERVICE_SIZES)), []
    bench.referee.start_side(NULL, {"kind": "null"}, shape)
    bench.joined(NULL)
    for number, name in enumerate(BOTH):
        spec = {"kind": "synthetic", "service": dict(cell.service), "wait": "spin", "seed": 2 * seed + number}
        info = bench.referee.start_side(name, spec, shape)
        bench.joined(name)
        sides.append(Side(name=name, info=info, workers=1, dispatch=Dispatch()))
    return sides


def _found(bench: Bench, sides: Sequence[Side], truth: TruthOfSides) -> dict[str, Any]:
    estimates = {side.name: side.estimate(bench) for side in sides}
    baseline, candidate = estimates["baseline"], estimates["candidate"]
    ratio = lbt_ratio(baseline, candidate).interval if baseline and candidate else None
    found: dict[str, Any] = {"ratio": None if ratio is None else {"value": ratio.ratio, "ci": list(ratio.ci)}}
    for name, estimate in estimates.items():
        qps, log_se = truth.of(name, bench.trial.sla)
        found[name] = {"truth": qps, "truth_log_se": _finite(log_se), "lbt": None, "ci": None, "status": "unreachable"}
        if estimate is not None:
            ci = list(estimate.ci) if estimate.ci else None
            found[name] |= {"lbt": estimate.lbt_qps, "ci": ci, "status": estimate.status, **_told_by_work(estimate)}
    return found


def _told_by_work(estimate: LbtEstimate) -> dict[str, float | None]:
    """What the twin of the estimate was made of: where an estimate is off, these say which part of it."""
    return {
        "scale": _finite(estimate.service_scale),
        "delay_ms": estimate.delay_ns / 1e6,
        "speed_sd": estimate.speed_sd,
        "spell_sd": estimate.spell_sd,
    }


def _finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if math.isfinite(value) else None


def _host(log: QuadLog) -> dict[str, Any]:
    """The worst that the host did: share of stolen time, p99 of the null probes in ms."""
    probes = [p99 for quad in log.host for p99 in quad["null_p99_ns"]]  # type: ignore[attr-defined]
    return {"steal": max(log.steal.values()), "null_p99_ms": max(probes) / 1e6}
