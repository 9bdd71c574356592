"""``opt.executor.mode=auto``: how many workers of how many threads each, by service times of the machine that serves.

Before the first query, each setting is tried: as many threads as it has workers answer queries of the trial's sizes
without a pause, so that what they take from each other (cores, memory, the interpreter's lock) is in the times. The
queue of the dispatcher, on one trace for all settings, then tells up to which rate the trial's SLA would be met.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.clock import now_ns
from harness.estimate.mg1 import NS
from harness.estimate.twin import DispatchedService, ServiceTable, fit_service_table, simulate_dispatch, unit_trace
from harness.sut.steps import Steps
from harness.sut.threads import run_threads
from harness.traffic.query_sizes import pmf
from harness.transport.wire import decode, encode
from harness.trial import Sla
from optimizations.calibration_queries import query_of
from optimizations.contract import Dispatch, Plan, Runtime
from zoo.schema import Batch

SIZES = 16
"""Queries of a round: at the middles of as many equal shares of the trial's sizes, and one of the largest size."""
SECONDS = 0.6
QUERIES, UNCOUNTED, SEED = 10_000, 1_000, 20_190_625
HALVINGS = 12
LOWEST_LOAD = 1e-3
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Queries at a time, and threads within each."""

    workers: int
    threads: int

    @property
    def busy(self) -> int:
        """Cores that it can use."""
        return self.workers * self.threads

    def __str__(self) -> str:
        counted = [f"{n} {what}{'s' * (n > 1)}" for n, what in ((self.workers, "worker"), (self.threads, "thread"))]
        return " of ".join(counted)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Load:
    """What the trial asks of a system: query sizes with their probabilities, both (k,), and the limit."""

    sizes: Array
    probability: Array
    sla: Sla

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Load:
        """From "query_sizes" (the name of a distribution) and "sla" of a model's spec."""
        mix = pmf(spec["query_sizes"])
        sizes = np.flatnonzero(mix)
        return cls(sizes=sizes, probability=mix[sizes], sla=Sla(**spec["sla"]))

    def tried(self) -> list[int]:
        """Query sizes of one round, ascending."""
        middles = (np.arange(SIZES) + 0.5) / SIZES
        drawn = np.searchsorted(np.cumsum(self.probability), middles).clip(max=len(self.sizes) - 1)
        return [*self.sizes[drawn].tolist(), int(self.sizes[-1])]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tried:
    """A setting, its mean service time by size with all workers busy, and the rate that it is predicted to hold."""

    setting: Setting
    table: ServiceTable
    lbt_qps: float

    def row(self) -> dict[str, Any]:
        """As JSON."""
        times = {f"n{n:.0f}": float(ns) / 1e6 for n, ns in zip(self.table.sizes, self.table.mean_ns, strict=True)}
        return {**dataclasses.asdict(self.setting), "lbt_qps": self.lbt_qps, "service_ms": times}


def settings(cores: int, runtime: Runtime) -> list[Setting]:
    """What to try, fewest threads first: counts that are powers of two or fill the cores, at most half of them idle.

    A count that ``runtime`` gives stays; with too few cores for it, the other one is 1.
    """
    powers = [2**k for k in range(cores.bit_length()) if 2**k <= cores]

    def counts(given: int, other: int) -> set[int]:
        most = max(1, cores // max(1, other))
        return {given} if given else {n for n in powers if n <= most} | {most}

    found = [
        Setting(workers=workers, threads=threads)
        for threads in sorted(counts(runtime.threads, runtime.workers))
        for workers in sorted(counts(runtime.workers, threads))
    ]
    return [setting for setting in found if 2 * setting.busy >= min(cores, max(s.busy for s in found))]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """Everything that was tried, in order."""

    tried: tuple[Tried, ...]

    @property
    def ranked(self) -> list[Tried]:
        """Best first: by LBT, then (where none meets the SLA) by the service time of the largest query."""
        return sorted(self.tried, key=lambda tried: (-tried.lbt_qps, tried.table.mean_ns[-1]))

    @property
    def setting(self) -> Setting:
        """The best one."""
        return self.ranked[0].setting

    def report(self) -> dict[str, Any]:
        """As JSON: "summary" (a sentence), "workers", "threads", "settings" (all that were tried)."""
        best, *others = self.ranked
        summary = f"{best.setting}: {best.lbt_qps:.0f} queries/s predicted"
        if others:
            summary += f", before {others[0].setting} with {others[0].lbt_qps:.0f}"
        rows = [tried.row() for tried in self.tried]
        return {"summary": summary, **dataclasses.asdict(best.setting), "settings": rows}


def choose_executor(plan: Plan, opened: Callable[[Plan], Steps], calibration: Batch, load: Load, cores: int) -> Choice:
    """Try every setting on ``cores`` cores. ``opened`` lowers a plan whose runtime is a setting's.

    Raises whatever ``opened`` or its steps raise.
    """
    payloads = [encode(query_of(calibration, k, size)) for k, size in enumerate(load.tried())]
    tried = []
    for _, group in groupby(settings(cores, plan.pipeline.runtime), key=lambda setting: setting.threads):
        same = list(group)
        steps = opened(with_setting(plan, same[-1]))  # with the most workers: what is made for each is there for all
        for setting in same:
            table = service_table(steps, payloads, setting.workers, SECONDS)
            found = predicted_lbt(table, load, setting.workers, plan.pipeline.dispatch)
            tried.append(Tried(setting=setting, table=table, lbt_qps=found))
    return Choice(tried=tuple(tried))


def with_setting(plan: Plan, setting: Setting) -> Plan:
    """The plan with both counts of ``setting``."""
    runtime = dataclasses.replace(plan.pipeline.runtime, workers=setting.workers, threads=setting.threads)
    return dataclasses.replace(plan, pipeline=dataclasses.replace(plan.pipeline, runtime=runtime))


def service_table(steps: Steps, payloads: Sequence[bytes], workers: int, seconds: float) -> ServiceTable:
    """Mean service time by size, while ``workers`` threads answer rounds of ``payloads`` for at least ``seconds``.

    The first round of each is not counted, and the noise is left out: so short a time tells no tail.
    Raises what ``steps`` raise.
    """
    taken: list[tuple[int, int]] = []
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        calls = list(_calls(steps, payloads))
        calls = calls[worker % len(calls) :] + calls[: worker % len(calls)]
        for call in calls:
            call()
        until = now_ns() + int(seconds * NS)
        while not failures:
            for call in calls:
                started = now_ns()
                samples = call()
                taken.append((samples, now_ns() - started))
            if now_ns() >= until:
                return

    run_threads(work, workers, failures.append)
    if failures:
        raise failures[0]
    sizes, times = np.array(taken, np.float64).T
    return fit_service_table(sizes, times).without_noise()


def _calls(steps: Steps, payloads: Sequence[bytes]) -> Iterator[Callable[[], int]]:
    """What answers each payload as it will be served: in its place where that can be done; returns the samples."""
    for payload in payloads:
        samples = len(decode(payload))
        if steps.bind is not None:
            score = steps.bind(memoryview(payload), np.empty(samples, np.float32).data)
            if score(len(payload)) == samples:
                yield functools.partial(score, len(payload))
                continue
        yield functools.partial(_predicted, steps, payload)


def _predicted(steps: Steps, payload: bytes) -> int:
    return len(steps.predict(decode(payload)))


def predicted_lbt(table: ServiceTable, load: Load, workers: int, dispatch: Dispatch) -> float:
    """Rate (queries/s) up to which the SLA is met on a fixed Poisson trace, to 0.2 %; 0 if it is at no rate."""
    arrivals, sizes = unit_trace(QUERIES, load.sizes, load.probability, SEED)
    by_samples = table.mean(np.arange(int(load.sizes[-1]) * dispatch.batch + 1))
    service = DispatchedService(by_samples=by_samples, factor=np.ones(QUERIES), dispatch=dispatch)
    mean_ns = float(table.mean(load.sizes) @ load.probability / load.probability.sum())
    limit_ns = load.sla.limit_ms * 1e6

    def met(rate_qps: float) -> bool:
        latency = simulate_dispatch(arrivals / rate_qps, sizes, service, workers)[UNCOUNTED:]
        return float(np.mean(latency > limit_ns)) <= load.sla.late_fraction

    capacity = workers * NS / mean_ns
    low, high = np.log(LOWEST_LOAD * capacity), np.log(dispatch.batch * capacity)
    if not met(float(np.exp(low))):
        return 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if met(float(np.exp(middle))) else (low, middle)
    return float(np.exp(low))
