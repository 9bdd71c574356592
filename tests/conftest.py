"""Fixtures that several folders share: a fabricated measurement with consistent raw columns, and a small split."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from harness.estimate import accuracy
from harness.record.derive import counted, late_count, latencies_ms, percentile_ms, service_ms
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
    SegmentInfo,
    Validity,
)
from harness.record.side_result import Latency, ServiceTimes, SideResult, SingleStream
from harness.trial import Sla, Trial
from zoo.schema import Rows, Split

# How long an example takes is the machine's affair: a busy one must not fail a test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SECOND = 10**9
LONGEST_FIRST = (
    *("test_killed_sweep", "test_ended_job", "test_main_job", "test_training_job", "test_training_gate"),
    *("test_loadgen", "test_process_cells", "test_bad_input"),
    *("test_graph_backends", "test_graph_fusion", "test_scores", "test_tracking", "test_config", "test_verify"),
    *("test_training_steps", "test_resuming", "test_overlap", "test_fused_training", "test_layer_forms"),
    *("test_comparison", "test_training_bursts", "test_sweep", "test_lbt"),
)
"""Files in which tests take long, each of them or all together."""
Fabricate = Callable[..., tuple[Trial, Measurement]]


class Columns:
    """Queries of single-server queues, segment after segment, with the segments they belong to."""

    def __init__(self, rng: np.random.Generator, limit_ms: float) -> None:
        self.rng, self.limit_ms = rng, limit_ms
        self.parts: list[dict[str, np.ndarray]] = []
        self.segments: list[SegmentInfo] = []
        self.now = 5 * SECOND

    def add(self, side: str, purpose: str, qps: float, service_ms: float, seconds: float = 4.0, quad: int = -1) -> None:
        """Poisson arrivals at ``qps`` to one server of exponential service; the first half second is ramp."""
        count = max(2, int(qps * seconds))
        planned = self.now + np.cumsum(self.rng.exponential(SECOND / qps, count)).astype(np.int64)
        service = self.rng.exponential(service_ms * 1e6, count).astype(np.int64)
        done = np.empty_like(planned)
        free = 0
        for index in range(count):
            free = max(free, int(planned[index])) + int(service[index])
            done[index] = free
        number = len(self.segments)
        self.parts.append(
            {
                "side": np.full(count, side),
                "segment": np.full(count, number),
                "offered_qps": np.full(count, qps),
                "query_id": np.arange(count),
                "size": np.full(count, 10),
                "planned_ns": planned,
                "sent_ns": planned + 20_000,
                "done_ns": done,
                "status": np.zeros(count, np.int64),
                "dequeued_ns": planned + 40_000,
                "started_ns": planned + 50_000,
                "worker": np.zeros(count, np.int64),
            }
        )
        end = int(planned[-1]) + 1
        info = SegmentInfo(
            side=side,
            segment=number,
            purpose=purpose,
            offered_qps=qps,
            counted_from_ns=self.now + SECOND // 2,
            counted_to_ns=end,
            queries=0,
            late=0,
            quad=quad,
        )
        queries, late = late_count(self.parts[-1], info, self.limit_ms)
        self.segments.append(dataclasses.replace(info, queries=queries, late=late))
        self.now = end + SECOND

    def table(self) -> dict[str, np.ndarray]:
        """All queries."""
        return {name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}


def _queries(rng: np.random.Generator, limit_ms: float, lbt: dict[str, float]) -> Columns:
    columns = Columns(rng, limit_ms)
    for side, qps in lbt.items():
        service = 1e3 / (qps + np.log(100) / limit_ms * 1e3)  # M/M/1: P(sojourn > d) = exp(-(mu - lambda) d)
        for share in (0.6, 1.0, 1.15):
            columns.add(side, "search", share * qps, service, 2.0)
        for quad in range(2):
            columns.add(side, "quad", qps, service, 2.0, quad)
        columns.add(side, "latency", 0.7 * qps, service, 8.0)
        columns.add(side, "single_stream", 0.2 * qps, service, 8.0)
    return columns


def _predictions(rng: np.random.Generator, sides: list[str], shift: float) -> dict[str, np.ndarray]:
    chance = rng.beta(2, 6, 4000)
    labels = (rng.random(4000) < chance).astype(np.float32)
    scores = {"baseline": chance.astype(np.float32)}
    scores["candidate"] = np.clip(chance + shift * rng.normal(size=4000), 1e-4, 1 - 1e-4).astype(np.float32)
    parts = [
        (side, run, np.arange(size), scores[side][:size], labels[:size])
        for side in sides
        for run, size in (("accuracy", 4000), ("timed", 500))
    ]
    return {
        "side": np.concatenate([np.full(len(p[2]), p[0]) for p in parts]),
        "run": np.concatenate([np.full(len(p[2]), p[1]) for p in parts]),
        "sample_id": np.concatenate([p[2] for p in parts]),
        "score": np.concatenate([p[3] for p in parts]),
        "label": np.concatenate([p[4] for p in parts]),
    }


def _side(side: str, lbt: float, limit_ms: float, columns: Columns, predictions: dict[str, np.ndarray]) -> SideResult:
    own = (predictions["side"] == side) & (predictions["run"] == "accuracy")
    labels, scores = predictions["label"][own], predictions["score"][own]
    table = columns.table()

    def rows(purpose: str) -> np.ndarray:
        return counted(table, [s for s in columns.segments if s.side == side and s.purpose == purpose])

    steady, single = latencies_ms(table)[rows("latency")], service_ms(table)[rows("single_stream")]
    service = 1e3 / (lbt + np.log(100) / limit_ms * 1e3)
    return SideResult(
        auc=accuracy.auc(labels, scores),
        logloss=accuracy.logloss(labels, scores),
        pcoc=accuracy.pcoc(labels, scores),
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


@pytest.fixture(scope="session")
def fabricate() -> Fabricate:
    """``fabricate(**trial fields, speedup=, lbt=, shift=, hardware=, created=) -> (Trial, Measurement)``."""

    def build(
        *,
        speedup: float = 2.0,
        lbt: float = 120.0,
        shift: float = 0.0005,
        hardware: str = "x86_64-2c-avx512",
        created: str = "2026-03-01T12:00:00Z",
        random_seed: int = 7,
        **fields: Any,
    ) -> tuple[Trial, Measurement]:
        trial = _trial(**fields)
        rng = np.random.default_rng(random_seed)
        rates = {"baseline": lbt} | ({"candidate": speedup * lbt} if trial.compares else {})
        columns = _queries(rng, trial.sla.limit_ms, rates)
        predictions = _predictions(rng, list(rates), shift)
        sides = {s: _side(s, qps, trial.sla.limit_ms, columns, predictions) for s, qps in rates.items()}
        result = Result(
            trial_id=trial.trial_id,
            created=created,
            recarena_version="0.1.0",
            source_sha256="ab" * 32,
            git=GitState(sha="0123456789abcdef0123456789abcdef01234567", dirty=False),
            trial=_trial_block(trial),
            plan=tuple(_plan_line(name) for name in sorted(trial.opts) or _measured_peer(trial)),
            baseline=sides["baseline"],
            candidate=sides.get("candidate"),
            ratio=_ratio(speedup) if trial.compares else None,
            gate=_gate(predictions) if trial.compares else None,
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
        return trial, Measurement(
            result=result, queries=columns.table(), predictions=predictions, environment=environment
        )

    return build


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


def _trial_block(trial: Trial) -> dict[str, Any]:
    kept = ("model", "sizes", "dataset", "backend", "device", "scope", "opts", "scenario", "query_sizes", "seed")
    values = dataclasses.asdict(trial)
    return {name: values[name] for name in (*kept, "peer", "sla", "budget")}


def _measured_peer(trial: Trial) -> list[str]:
    return [trial.peer["name"]] if trial.peer_side == "candidate" else []


def _peer(trial: Trial) -> PeerResult | None:
    if trial.peer_side is None:
        return None
    built = {"summary": "2 workers of 1 thread: 90 queries/s predicted"}
    return PeerResult(**trial.peer, side=trial.peer_side, weights="ours", weights_sha256="cd" * 32, built=built)


def _plan_line(name: str) -> PlanLine:
    return PlanLine(
        name=name,
        phase="GRAPH",
        claims=("top.0.impl", "top.1.impl"),
        division="closed",
        emulated=name == "bf16",
        matched=("top.0.impl",),
        fallbacks=("top.1.impl",),
        build_s=0.8,
        options={"fc": True},
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


def _gate(predictions: dict[str, np.ndarray]) -> GateResult:
    def of(side: str, run: str = "accuracy") -> np.ndarray:
        return (predictions["side"] == side) & (predictions["run"] == run)

    base, cand = predictions["score"][of("baseline")], predictions["score"][of("candidate")]
    gate = accuracy.gate(predictions["label"][of("baseline")], base, cand)
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


@pytest.fixture
def split() -> Split:
    """60 groups of 120 samples; the one user of each has 1 to 40 behaviours; both sides have bags."""
    rng, groups, each = np.random.default_rng(5), 60, 120

    def rows(count: int, dense: int, ids: int, bags: int) -> Rows:
        offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 4, count * bags))])
        values = rng.integers(0, 1000, offsets[-1])
        columns = rng.normal(size=(count, dense)).astype(np.float32)
        return Rows(columns, rng.integers(0, 1000, (count, ids)), values, offsets)

    history_offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 41, groups))])
    return Split(
        user=rows(groups, 3, 4, 1),
        item=rows(groups * each, 5, 6, 2),
        history=rng.integers(0, 1000, (history_offsets[-1], 2)),
        history_offsets=history_offsets,
        user_of=np.repeat(np.arange(groups), each),
        labels=rng.integers(0, 2, groups * each).astype(np.float32),
        groups=np.arange(groups + 1) * each,
    )


@pytest.fixture(scope="session")
def job_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and weights of all runs of the whole program: what one has trained, the next one finds.

    The processes that run tests side by side share it, as runs of one user share ``cache_dir``.
    """
    folder = tmp_path_factory.getbasetemp()
    cache = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "job_cache"
    cache.mkdir(exist_ok=True)
    return cache


@pytest.fixture(scope="session", autouse=True)
def _interrupts_reach_children() -> None:
    """A suite that was started in the background inherits an ignored SIGINT and would hand it on to the programs that
    it interrupts; with a handler of its own, a child starts with the default."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: one of them at the end would run on while the other processes have nothing left."""
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
