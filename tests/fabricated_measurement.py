"""A measurement that nobody made, with raw columns that its numbers follow from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.estimate import accuracy
from harness.record.derive import counted, latencies_ms, percentile_ms, service_ms
from harness.record.peer_result import PeerResult
from harness.record.result import (
    DatasetInfo,
    Floor,
    GateResult,
    GitState,
    Measurement,
    PlanLine,
    Ratio,
    Result,
    Validity,
)
from harness.record.side_result import Latency, ServiceTimes, SideResult, SingleStream
from harness.trial import Sla, Trial
from tests.fabricated_columns import Columns, predictions, queries


def fabricated(
    *,
    speedup: float = 2.0,
    lbt: float = 120.0,
    shift: float = 0.0005,
    hardware: str = "x86_64-2c-avx512",
    created: str = "2026-03-01T12:00:00Z",
    random_seed: int = 7,
    **fields: Any,
) -> tuple[Trial, Measurement]:
    """A trial and a measurement of it, columns and numbers consistent. fields: of the trial, where they differ."""
    trial = _trial(**fields)
    rng = np.random.default_rng(random_seed)
    rates = {"baseline": lbt} | ({"candidate": speedup * lbt} if trial.compares else {})
    columns = queries(rng, trial.sla.limit_ms, rates)
    scores = predictions(rng, list(rates), shift)
    sides = {s: _side(s, qps, trial.sla.limit_ms, columns, scores) for s, qps in rates.items()}
    result = Result(
        trial_id=trial.trial_id,
        created=created,
        recarena_version="0.1.0",
        source_sha256="ab" * 32,
        git=GitState(sha="0123456789abcdef0123456789abcdef01234567", dirty=False),
        trial=dataclasses.asdict(trial),
        plan=tuple(_plan_line(name, trial.opts.get(name, {})) for name in sorted(trial.opts) or _measured_peer(trial)),
        baseline=sides["baseline"],
        candidate=sides.get("candidate"),
        ratio=_ratio(speedup) if trial.compares else None,
        gate=_gate(scores) if trial.compares else None,
        floor=Floor(p50_ms=0.11, p99_ms=0.4, lbt_qps=9000.0),
        validity=Validity(verdict="valid", reasons=(), voided_quads=0),
        dataset=DatasetInfo(
            name=trial.dataset, fingerprint=trial.dataset_fingerprint, rows=64_000, label_rate=0.25, bayes_auc=0.81
        ),
        weights_sha256="cd" * 32,
        hardware_class=hardware,
        segments=tuple(columns.segments),
        peer=_peer(trial),
    )
    environment = {"hardware_class": hardware, "cpu": "a CPU", "cores": 2}
    return trial, Measurement(result=result, queries=columns.table(), predictions=scores, environment=environment)


def _side(side: str, lbt: float, limit_ms: float, columns: Columns, scores: dict[str, np.ndarray]) -> SideResult:
    own = (scores["side"] == side) & (scores["run"] == "accuracy")
    labels, own_scores = scores["label"][own], scores["score"][own]
    table = columns.table()

    def rows(purpose: str) -> np.ndarray:
        return counted(table, [s for s in columns.segments if s.side == side and s.purpose == purpose])

    steady, single = latencies_ms(table)[rows("latency")], service_ms(table)[rows("single_stream")]
    service = 1e3 / (lbt + np.log(100) / limit_ms * 1e3)
    return SideResult(
        auc=accuracy.auc(labels, own_scores),
        logloss=accuracy.logloss(labels, own_scores),
        pcoc=accuracy.pcoc(labels, own_scores),
        lbt_qps=lbt,
        lbt_ci=(0.96 * lbt, 1.04 * lbt),
        lbt_status="measured",
        slack=limit_ms / (3 * service),
        service_ms=ServiceTimes(n1=0.4 * service, n10=service, n32=1.5 * service, n100=2.5 * service),
        latency_ms=Latency(
            p50=percentile_ms(steady, 0.5),
            p90=percentile_ms(steady, 0.9),
            p99=percentile_ms(steady, 0.99),
            p999=percentile_ms(steady, 0.999),
            offered_qps=0.7 * lbt,
            queries=len(steady),
        ),
        offline_samples_per_s=12 * lbt,
        single_stream_ms=SingleStream(
            p50=percentile_ms(single, 0.5), p99=percentile_ms(single, 0.99), queries=len(single)
        ),
        rss_bytes=600_000_000,
        minor_faults_per_query=1.5,
        start_s=3.2,
        lbt_method="profile",
        lbt_twin_correlation=0.9,
        late_clumps=40,
    )


def _trial(**changes: Any) -> Trial:
    fields: dict[str, Any] = {
        "model": "dien",
        "sizes": {"embedding_dim": 18, "hidden_units": 36},
        "dataset": "planted",
        "dataset_options": {"shape": "sequence"},
        "dataset_fingerprint": "ef" * 32,
        "training": {"epochs": 1},
        "weights": "",
        "backend": "torch",
        "device": "cpu",
        "scope": "serve",
        "opts": {"fusion": {"fc": True}},
        "scenario": "server",
        "query_sizes": "heavy",
        "sla": Sla(limit_ms=100.0),
        "seed": 1,
        "budget": "standard",
    }
    return Trial(**{**fields, **changes})


def _measured_peer(trial: Trial) -> list[str]:
    return [trial.peer["name"]] if trial.peer_side == "candidate" else []


def _peer(trial: Trial) -> PeerResult | None:
    if trial.peer_side is None:
        return None
    built = {"summary": "2 workers of 1 thread: 90 queries/s predicted"}
    return PeerResult(**trial.peer, side=trial.peer_side, weights="ours", weights_sha256="cd" * 32, built=built)


def _plan_line(name: str, options: Mapping[str, Any]) -> PlanLine:
    return PlanLine(
        name=name,
        phase="GRAPH",
        claims=("top.0.impl", "top.1.impl"),
        division="closed",
        emulated=name == "bf16",
        matched=("top.0.impl",),
        fallbacks=("top.1.impl",),
        build_s=0.8,
        options=options,
    )


def _ratio(speedup: float) -> Ratio:
    return Ratio(
        lbt=speedup,
        lbt_ci=(0.95 * speedup, 1.05 * speedup),
        service=0.9 * speedup,
        offline=0.95 * speedup,
        service_ci=(0.88 * speedup, 0.92 * speedup),
        lbt_p=0.0004,
        quads=(0.97 * speedup, 1.03 * speedup),
    )


def _gate(scores: dict[str, np.ndarray]) -> GateResult:
    def of(side: str, run: str = "accuracy") -> np.ndarray:
        return (scores["side"] == side) & (scores["run"] == run)

    base, cand = scores["score"][of("baseline")], scores["score"][of("candidate")]
    gate = accuracy.gate(scores["label"][of("baseline")], base, cand)
    return GateResult(
        verdict=gate.verdict,
        auc_delta=gate.auc_delta,
        auc_delta_ci=gate.auc_delta_ci,
        margin=gate.margin,
        logloss_delta_ci=gate.logloss_delta_ci,
        pcoc_ratio=gate.pcoc_ratio,
        timed_answers="pass",
        timed_deviation=0.0,
        timed_tolerance=1e-6,
        reasons=gate.reasons,
    )
