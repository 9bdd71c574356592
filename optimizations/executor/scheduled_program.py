"""A fused model's native program under a schedule: operators are timed, and the way that promises most is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from optimizations.calibration_queries import query_of
from optimizations.executor.schedule import MOST_TASKS, Schedule, critical_path, schedule
from optimizations.fusion.native_program import NativeProgram
from optimizations.fusion.program_tracer import Operator
from optimizations.lowering import LoweringContext, LoweringError

SIZES = {1: 3, 10: 17, 32: 56, 100: 2**62}
"""Queries that are timed, and up to how many samples each speaks for: halfway to the next one, in ratios."""
REPEATS = 15
HANDOVER_NS = 500.0
"""What a task costs beyond its operators: taking it, and lines of memory that come from another core."""
WAKING_NS = 5000.0
"""What a query costs that asks a second thread: some microseconds (``kernels/pool.h``)."""
WORTH = 0.95
"""A way must be predicted to take at most this share of the one before it: costs are known to some per cent."""
Way = Literal["serial", "all threads", "side by side"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Nanoseconds of every operator, feature engineering first and scores last: on one thread, and on all of them."""

    alone: npt.NDArray[np.float64]
    shared: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """How queries of one size run, and what was predicted of each way (ns)."""

    way: Way
    predicted: dict[Way, float]
    scheduled: Schedule
    critical: list[int]


def scheduled_program(model: Any, context: LoweringContext) -> NativeProgram:
    """The program with a schedule for each of ``SIZES``; its ``built`` says what was measured and chosen.

    Raises LoweringError where the model has no program, or nothing is there to time it with.
    """
    program = NativeProgram(model, context.threads)
    if context.calibration is None:
        raise LoweringError("there are no calibration rows to measure the costs of operators with")
    sizes, chosen = {}, []
    for size, samples in SIZES.items():
        batches = [query_of(context.calibration, number, size) for number in range(REPEATS)]
        costs = measured(program, batches, context.threads)
        built = build(program.operators, costs, context.threads)
        _install(program, samples, context.threads, built)
        sizes[f"n{size}"] = _described(program.operators, costs, built)
        gain = built.predicted["serial"] / built.predicted[built.way]
        chosen.append(f"n={size} {built.way}" + (f" ({gain:.2f}x predicted)" if built.way != "serial" else ""))
    program.built = {"summary": ", ".join(chosen), "threads": context.threads, "sizes": sizes}
    return program


def build(operators: Sequence[Operator], costs: Costs, threads: int) -> Built:
    """The way of the shortest prediction; a way with more threads must be worth it."""
    alone = [float(costs.alone[operator.number]) for operator in operators]
    before = [frozenset(k for k, other in enumerate(operators) if other.writes & one.reads) for one in operators]
    scheduled = schedule(alone, before, threads, HANDOVER_NS)
    fixed = float(costs.alone[0] + costs.alone[-1])
    predicted: dict[Way, float] = {
        "serial": fixed + sum(alone),
        "side by side": fixed + WAKING_NS + scheduled.makespan,
        "all threads": float(costs.shared.sum()),
    }
    if not 2 <= len(scheduled.tasks) <= MOST_TASKS:
        del predicted["side by side"]
    way: Way = "serial"
    for other in predicted:
        if predicted[other] < WORTH * predicted[way]:
            way = other
    return Built(way=way, predicted=predicted, scheduled=scheduled, critical=critical_path(alone, before))


def measured(program: NativeProgram, batches: Sequence[Any], threads: int) -> Costs:
    """Medians over the batches, each timed both ways in turns: neither finds memory that the other has warmed."""
    taken: dict[bool, list[npt.NDArray[np.int64]]] = {False: [], True: []}
    for warm in (False, True):
        for k, batch in enumerate(batches):
            for shared in (k % 2 == 0, k % 2 == 1):
                ns = program.operator_ns(batch, threads if shared else 1)
                if warm:
                    taken[shared].append(ns)
    return Costs(alone=np.median(taken[False], axis=0), shared=np.median(taken[True], axis=0))


def _install(program: NativeProgram, samples: int, threads: int, built: Built) -> None:
    if built.way != "side by side":
        program.schedule(samples, 1 if built.way == "serial" else threads, [])
        return
    numbers = [operator.number for operator in program.operators]
    tasks = [
        (tuple(numbers[k] for k in task.operators), sum(1 << earlier for earlier in task.before))
        for task in built.scheduled.tasks
    ]
    program.schedule(samples, threads, tasks)


def _described(operators: Sequence[Operator], costs: Costs, built: Built) -> dict[str, Any]:
    """As JSON; times in microseconds."""
    names = [operator.name for operator in operators]
    timed = {"features": 0, **{operator.name: operator.number for operator in operators}, "scores": -1}
    path = ["features", *(names[k] for k in built.critical), "scores"]
    return {
        "way": built.way,
        "predicted_us": {way: round(ns / 1e3, 2) for way, ns in built.predicted.items()},
        "speedup": round(built.predicted["serial"] / built.predicted[built.way], 3),
        "costs_us": {name: round(float(costs.alone[number]) / 1e3, 2) for name, number in timed.items()},
        "costs_on_all_threads_us": {name: round(float(costs.shared[k]) / 1e3, 2) for name, k in timed.items()},
        "critical_path": path,
        "critical_path_us": round(sum(float(costs.alone[timed[name]]) for name in path) / 1e3, 2),
        "tasks": [[names[k] for k in task.operators] for task in built.scheduled.tasks],
    }
