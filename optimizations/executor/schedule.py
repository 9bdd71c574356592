"""A static schedule of a query's operators over a few threads, from their measured costs. Pure functions.

List scheduling (Graham 1969, "Bounds on Multiprocessing Timing Anomalies"): whoever is free takes, of the tasks that
may begin, the one with the longest remaining path. Tasks are operators, batched as long as that shortens the schedule
or does not lengthen it: each hand-over costs time, too.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

Before = Sequence[AbstractSet[int]]
"""Of each operator or task the numbers of those that must be done before it. It has no cycle."""
MOST_TASKS = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Operators that one thread runs in this order, after the tasks at the positions ``before``."""

    operators: tuple[int, ...]
    before: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Tasks in the order in which threads take them, each behind its predecessors; when the last one ends."""

    tasks: tuple[Task, ...]
    makespan: float


def remaining_paths(costs: Sequence[float], before: Before) -> list[float]:
    """The longest path from the start of each operator to the end of all: what the critical path is the largest of."""
    after: list[list[int]] = [[] for _ in costs]
    for operator, earlier in enumerate(before):
        for one in earlier:
            after[one].append(operator)
    paths = [0.0] * len(costs)
    for operator in reversed(_sorted(before)):
        paths[operator] = costs[operator] + max((paths[next_] for next_ in after[operator]), default=0.0)
    return paths


def critical_path(costs: Sequence[float], before: Before) -> list[int]:
    """Operators of the longest path, first to last; the first of several."""
    paths, path = remaining_paths(costs, before), list[int]()
    ready = [operator for operator, earlier in enumerate(before) if not earlier]
    while ready:
        path.append(max(ready, key=lambda operator: paths[operator]))
        ready = [operator for operator, earlier in enumerate(before) if path[-1] in earlier]
    return path


def list_schedule(costs: Sequence[float], before: Before, threads: int) -> tuple[list[int], float]:
    """(tasks in the order in which they begin, when the last one ends) on so many threads, longest path first."""
    paths, waiting = remaining_paths(costs, before), {k: set(earlier) for k, earlier in enumerate(before)}
    order: list[int] = []
    running: list[tuple[float, int]] = []
    now = 0.0
    while waiting or running:
        ready = [task for task, earlier in waiting.items() if not earlier]
        if ready and len(running) < threads:
            task = max(ready, key=lambda one: (paths[one], -one))
            del waiting[task]
            order.append(task)
            heapq.heappush(running, (now + costs[task], task))
            continue
        now = running[0][0]
        while running and running[0][0] == now:
            _, ended = heapq.heappop(running)
            for earlier in waiting.values():
                earlier.discard(ended)
    return order, now


def schedule(costs: Sequence[float], before: Before, threads: int, handover: float) -> Schedule:
    """Batched tasks in their order. costs: of each operator, in the unit of ``handover``, the price of a task."""
    groups = _chains(before)
    best = _simulated(groups, costs, before, threads, handover)
    while True:
        merged = [_joined(groups, pair) for pair in _joinable(groups, before)]
        tried = [(_simulated(some, costs, before, threads, handover)[1], k) for k, some in enumerate(merged)]
        if not tried or min(tried)[0] > best[1]:
            break
        groups = merged[min(tried)[1]]
        best = _simulated(groups, costs, before, threads, handover)
    order, makespan = best
    position = {task: k for k, task in enumerate(order)}
    edges = _edges(groups, before)
    tasks = [
        Task(operators=tuple(groups[task]), before=frozenset(position[earlier] for earlier in edges[task]))
        for task in order
    ]
    return Schedule(tasks=tuple(tasks), makespan=makespan)


def _sorted(before: Before) -> list[int]:
    """Numbers, each behind its predecessors."""
    order: list[int] = []
    waiting = {k: set(earlier) for k, earlier in enumerate(before)}
    while waiting:
        ready = [k for k, earlier in waiting.items() if not earlier & waiting.keys()]
        order += ready
        for k in ready:
            del waiting[k]
    return order


def _chains(before: Before) -> list[list[int]]:
    """Operators that have only each other: to part them would gain nothing."""
    followers = [sum(operator in earlier for earlier in before) for operator in range(len(before))]
    groups: list[list[int]] = []
    place: dict[int, int] = {}
    for operator in _sorted(before):
        alone = next(iter(before[operator])) if len(before[operator]) == 1 else None
        if alone is not None and followers[alone] == 1:
            place[operator] = place[alone]
            groups[place[operator]].append(operator)
        else:
            place[operator] = len(groups)
            groups.append([operator])
    return groups


def _edges(groups: Sequence[Sequence[int]], before: Before) -> list[set[int]]:
    owner = {operator: k for k, group in enumerate(groups) for operator in group}
    return [
        {owner[earlier] for operator in group for earlier in before[operator]} - {k} for k, group in enumerate(groups)
    ]


def _simulated(
    groups: Sequence[Sequence[int]], costs: Sequence[float], before: Before, threads: int, handover: float
) -> tuple[list[int], float]:
    taken = [handover + sum(costs[operator] for operator in group) for group in groups]
    return list_schedule(taken, _edges(groups, before), threads)


def _joinable(groups: Sequence[Sequence[int]], before: Before) -> list[tuple[int, int]]:
    """Pairs that may become one task: no path leads from one to the other by way of a third."""
    edges = _edges(groups, before)
    ancestors: list[set[int]] = [set() for _ in groups]
    for group in _sorted(edges):
        ancestors[group] = edges[group].union(*(ancestors[earlier] for earlier in edges[group]))

    def direct(early: int, late: int) -> bool:
        return not any(early in ancestors[between] for between in edges[late])

    return [(i, j) for i, j in itertools.combinations(range(len(groups)), 2) if direct(i, j) and direct(j, i)]


def _joined(groups: Sequence[list[int]], pair: tuple[int, int]) -> list[list[int]]:
    """With one group in place of two; numbers of operators are in an order in which they can run."""
    i, j = pair
    rest = [list(group) for k, group in enumerate(groups) if k not in pair]
    return [*rest, sorted([*groups[i], *groups[j]])]
