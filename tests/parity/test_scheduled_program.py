"""executor=cost_model: whatever the schedule, the scores are the bits of the program in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from optimizations.executor.schedule import schedule
from optimizations.fusion.native_program import NativeProgram
from zoo.schema import Split

MODELS = ["wdl", "din", "dien", "dlrm"]
PLANS: list[dict[str, Any]] = [{"fusion": {}}, {"fusion": {}, "dedup": {}, "bf16": {}}]
COST_MODEL = {"executor": {"mode": "cost_model"}}
Tasks = list[tuple[tuple[int, ...], int]]


def tasks_of(program: NativeProgram, costs: Sequence[float], handover: float) -> Tasks:
    """The schedule on two threads for made-up costs."""
    operators = program.operators
    before = [frozenset(k for k, other in enumerate(operators) if other.writes & one.reads) for one in operators]
    made = schedule(costs, before, 2, handover)
    return [(tuple(operators[k].number for k in t.operators), sum(1 << e for e in t.before)) for t in made.tasks]


def batches(split: Split) -> list[Any]:
    rng = np.random.default_rng(6)
    some = [split.batch(np.arange(min(n, int(split.groups[1])))) for n in (1, 100)]
    several = np.sort(rng.integers(0, len(split), 60))
    return [*some, split.batch(several), split.training_batch(several), split.batch(np.arange(0))]


@pytest.mark.parametrize("plan", PLANS, ids=",".join)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("data", ["every_column", "planted"])
def test_any_schedule_gives_the_bits_of_the_order(
    request: pytest.FixtureRequest, data: str, model: str, plan: dict[str, Any]
) -> None:
    served = request.getfixturevalue(data)(model)
    asked = batches(served.split)
    rng = np.random.default_rng(7)
    expected = [served.session(plan).predict(batch) for batch in asked]
    for handover in (0.0, 0.0, 0.3):
        program = served.session(plan)._whole
        tasks = tasks_of(program, rng.random(len(program.operators)).tolist(), handover)
        assert sorted(k for numbers, _ in tasks for k in numbers) == [operator.number for operator in program.operators]
        program.schedule(2**62, 2, tasks)
        for _ in range(3):
            for batch, scores in zip(asked, expected, strict=True):
                np.testing.assert_array_equal(program(batch), scores)


@pytest.mark.parametrize("model", ["wdl", "dlrm"])
def test_callers_side_by_side_have_their_own_tasks(planted: Callable[[str], Any], model: str) -> None:
    served = planted(model)
    program = served.session({"fusion": {}})._whole
    asked = batches(served.split)
    expected = [program(batch) for batch in asked]
    tasks = tasks_of(program, [1.0] * len(program.operators), 0.0)
    assert len(tasks) >= 3
    program.schedule(2**62, 2, tasks)
    with ThreadPoolExecutor(4) as pool:
        for k, scores in enumerate(pool.map(program, [asked[k % len(asked)] for k in range(60)])):
            np.testing.assert_array_equal(scores, expected[k % len(asked)])


def test_a_schedule_speaks_for_queries_up_to_its_size(planted: Callable[[str], Any]) -> None:
    """One that runs no operator is told by the scores: they are those of the query before, of the same sizes."""
    served = planted("din")
    program = served.session({"fusion": {}})._whole
    first, second, both = (served.split.batch(np.array(samples)) for samples in ([0], [1], [0, 1]))
    expected = program(both)
    assert expected[0] != expected[1]
    program.schedule(1, 2, [((), 0)])
    program.schedule(2**62, 2, tasks_of(program, [1.0] * len(program.operators), 0.0))
    fresh = served.session({"fusion": {}})._whole
    stale = fresh(first)
    np.testing.assert_array_equal(program(second), stale)
    np.testing.assert_array_equal(program(both), expected)


@pytest.mark.parametrize("model", MODELS)
def test_a_session_reports_costs_critical_path_and_the_way_of_each_size(
    planted: Callable[[str], Any], model: str
) -> None:
    served = planted(model)
    session = served.session({"fusion": {}, **COST_MODEL})
    plain = served.session({"fusion": {}})
    line = session.report[-1]
    assert line["name"] == "executor" and "passes.cost_model" in line["matched"] and line["fallbacks"] == []
    built = line["built"]
    assert list(built["sizes"]) == ["n1", "n10", "n32", "n100"] and built["threads"] == 2
    for size, found in built["sizes"].items():
        costs, path = found["costs_us"], found["critical_path"]
        assert path[0] == "features" and path[-1] == "scores" and set(path) <= set(costs)
        assert found["critical_path_us"] == pytest.approx(sum(costs[name] for name in path), abs=0.1)
        assert found["predicted_us"]["serial"] == pytest.approx(sum(costs.values()), abs=0.2)
        assert found["predicted_us"].get("side by side", np.inf) > found["critical_path_us"]
        assert sorted(name for task in found["tasks"] for name in task) == sorted(set(costs) - {"features", "scores"})
        assert f"{size.replace('n', 'n=')} {found['way']}" in built["summary"]
        assert (found["way"] == "serial") == (found["speedup"] == 1.0)
    for batch in batches(served.split):
        np.testing.assert_array_equal(session.predict(batch), plain.predict(batch))


def test_the_operators_of_wide_and_deep(planted: Callable[[str], Any]) -> None:
    program = planted("wdl").session({"fusion": {}})._whole
    by_name = {operator.name: operator for operator in program.operators}
    assert list(by_name)[:4] == ["look up user", "look up item", "look up history", "wide"]
    first = next(operator for name, operator in by_name.items() if name.startswith("columns"))
    read = {name for name, operator in by_name.items() if operator.writes & first.reads}
    assert {"look up user", "look up item"} <= read and "wide" not in read
    assert not by_name["wide"].reads
    taken = program.operator_ns(planted("wdl").split.batch(np.arange(100)), 1)
    assert len(taken) == by_name[list(by_name)[-1]].number + 2 and (taken[[0, 1, 2, 4, 5, -1]] > 0).all()


def test_without_calibration_rows_the_program_runs_in_order(planted: Callable[[str], Any]) -> None:
    session = planted("din").session({"fusion": {}, **COST_MODEL}, calibration=None)
    line = session.report[-1]
    assert [item["path"] for item in line["fallbacks"]] == ["passes.cost_model"] and "built" not in line
    assert session.bind is not None


def test_a_raw_id_outside_its_table_is_named(every_column: Callable[[str], Any]) -> None:
    served = every_column("din")
    batch = served.split.batch(np.arange(20))
    batch.item.ids[13, 1] = 9  # category is not hashed and has 9 rows
    program = served.session({"fusion": {}})._whole
    for call in (lambda: program(batch), lambda: program.operator_ns(batch, 1)):
        with pytest.raises(IndexError, match="'category' got the raw id 9"):
            call()
