"""The schedule of operators: against all orders on small graphs, against theorems, and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizations.executor.schedule import critical_path, list_schedule, remaining_paths, schedule
from optimizations.executor.scheduled_program import HANDOVER_NS, WAKING_NS, Costs, build
from optimizations.fusion.program_tracer import Operator

Graph = tuple[list[int], list[frozenset[int]]]


@st.composite
def graphs(draw: st.DrawFn, most: int = 6, largest: int = 9) -> Graph:
    """Costs, and of each operator some of the earlier ones."""
    count = draw(st.integers(1, most))
    costs = draw(st.lists(st.integers(1, largest), min_size=count, max_size=count))
    before = [frozenset(k for k in range(operator) if draw(st.booleans())) for operator in range(count)]
    return costs, before


def taken_in_order(costs: list[float], before: list[frozenset[int]], order: list[int], threads: int) -> float:
    """When all are done, if whoever is free takes the next of ``order`` and waits for its predecessors."""
    free, done = [0.0] * threads, dict[int, float]()
    for task in order:
        first = free.index(min(free))
        begins = max([free[first], *(done[earlier] for earlier in before[task])])
        free[first] = done[task] = begins + costs[task]
    return max(done.values())


def best_of_all_orders(costs: list[int], before: list[frozenset[int]], threads: int) -> float:
    def possible(order: tuple[int, ...]) -> bool:
        return all(before[task] <= set(order[:place]) for place, task in enumerate(order))

    orders = filter(possible, itertools.permutations(range(len(costs))))
    return min(taken_in_order(list(costs), before, list(order), threads) for order in orders)


@settings(max_examples=60)
@given(graphs(), st.integers(1, 3))
def test_no_order_is_better_by_more_than_grahams_bound(graph: Graph, threads: int) -> None:
    """Graham 1969: any list schedule takes at most 2 - 1/threads times the best one; ours never less than the best."""
    costs, before = graph
    best = best_of_all_orders(costs, before, threads)
    order, makespan = list_schedule(costs, before, threads)
    assert best <= makespan <= (2 - 1 / threads) * best
    assert makespan == taken_in_order(list(costs), before, order, threads)
    batched = schedule(costs, before, threads, 0.0)
    assert best <= batched.makespan <= (2 - 1 / threads) * best
    assert schedule(costs, before, 1, 0.0).makespan == sum(costs)


@settings(max_examples=60)
@given(st.data(), st.integers(1, 3))
def test_trees_of_equal_operators_are_scheduled_best(data: st.DataObject, threads: int) -> None:
    """Hu 1961: the longest path first is optimal where operators cost the same and each has one successor at most."""
    count = data.draw(st.integers(1, 7))
    followers = [data.draw(st.integers(k + 1, count)) for k in range(count)]
    before = [frozenset(k for k in range(count) if followers[k] == operator) for operator in range(count)]
    costs = [1] * count
    assert list_schedule(costs, before, threads)[1] == best_of_all_orders(costs, before, threads)


@settings(max_examples=60)
@given(graphs(most=9), st.integers(1, 4), st.sampled_from([0.0, 0.5, 20.0]))
def test_tasks_name_every_operator_once_behind_its_predecessors(graph: Graph, threads: int, handover: float) -> None:
    costs, before = graph
    made = schedule(costs, before, threads, handover)
    assert sorted(k for task in made.tasks for k in task.operators) == list(range(len(costs)))
    task_of = {k: number for number, task in enumerate(made.tasks) for k in task.operators}
    for number, task in enumerate(made.tasks):
        assert all(earlier < number for earlier in task.before)
        ran = set[int]()
        for operator in task.operators:
            assert all(k in ran or task_of[k] in task.before for k in before[operator])
            ran.add(operator)
    each = [handover + sum(costs[k] for k in task.operators) for task in made.tasks]
    edges = [task.before for task in made.tasks]
    assert made.makespan == pytest.approx(taken_in_order(each, edges, list(range(len(each))), threads))
    assert made.makespan <= sum(costs) + len(costs) * handover


@given(graphs(most=8))
def test_the_critical_path_is_the_longest_of_all(graph: Graph) -> None:
    costs, before = graph

    def longest(operator: int) -> int:
        return costs[operator] + max((longest(earlier) for earlier in before[operator]), default=0)

    path = critical_path(costs, before)
    assert sum(costs[k] for k in path) == max(map(longest, range(len(costs)))) == max(remaining_paths(costs, before))
    assert all(early in before[late] for early, late in itertools.pairwise(path))


def test_by_hand() -> None:
    # 0 -> 1 -> 4 takes 9 + 2 + 1; 2 and 3 fit beside it, and as one task they are handed over once.
    costs, before = [9, 2, 3, 3, 1], [frozenset(k) for k in ([], [0], [], [], [1, 2, 3])]
    assert remaining_paths(costs, before) == [12, 3, 4, 4, 1]
    assert list_schedule(costs, before, 2) == ([0, 2, 3, 1, 4], 12)
    made = schedule(costs, before, 2, 1.0)
    assert made.makespan == 14.0  # 9 + 2 and 1, each of them handed over
    assert [task.operators for task in made.tasks] == [(0, 1), (2, 3), (4,)]
    assert [task.before for task in made.tasks] == [set(), set(), {0, 1}]


def operators(*reads: set[int]) -> list[Operator]:
    """Operators 1, 2, ... that write the register of their number."""
    return [Operator(f"op {k}", k, frozenset(read), frozenset({k})) for k, read in enumerate(reads, 1)]


def costs_of(alone: list[float], shared: list[float]) -> Costs:
    """From microseconds."""
    return Costs(alone=1e3 * np.array(alone), shared=1e3 * np.array(shared))


def test_the_shortest_way_is_built() -> None:
    two = operators(set(), set(), {1, 2})
    slow = [1.0, 100.0, 100.0, 5.0, 1.0]
    beside = build(two, costs_of(slow, slow), 2)
    assert beside.way == "side by side" and beside.predicted["serial"] == 207e3
    assert beside.predicted["side by side"] == 2e3 + WAKING_NS + 105e3 + 2 * HANDOVER_NS
    assert beside.critical in ([0, 2], [1, 2])
    assert build(two, costs_of(slow, [1.0, 54.0, 54.0, 3.0, 1.0]), 2).way == "side by side"
    assert build(two, costs_of(slow, [1.0, 26.0, 26.0, 3.0, 1.0]), 4).way == "all threads"


def test_what_gains_nothing_is_serial() -> None:
    chain = operators(set(), {1}, {2})
    serial = build(chain, costs_of([1.0] + 3 * [100.0] + [1.0], [1.0] + 3 * [99.0] + [1.0]), 2)
    assert serial.way == "serial" and "side by side" not in serial.predicted and len(serial.scheduled.tasks) == 1
    assert serial.critical == [0, 1, 2]
    short = operators(set(), set(), {1, 2})
    assert build(short, costs_of([1.0, 2.0, 2.0, 1.0, 1.0], [9.0] * 5), 2).way == "serial"
