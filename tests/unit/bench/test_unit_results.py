"""Agreement of two forms, units that cannot be measured, and the roof that bounds a unit."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from optimizations.kernels.loader import KernelsUnavailable
from tests.bench.units.pairing import Effort
from tests.bench.units.report import Run, as_json, verdicts
from tests.bench.units.roofline import Roof, Roofline
from tests.bench.units.unit import Measurable, Unit, UnitResult, difference, prepared
from tests.bench.units.work import Work


def test_difference_is_relative_to_the_largest_magnitude() -> None:
    expected, found = torch.tensor([1.0, -4.0]), torch.tensor([1.1, -4.0])
    assert difference(expected, found) == pytest.approx(0.1 / 4)
    assert difference((expected, None, (expected,)), (expected, found, (found,))) == pytest.approx(0.1 / 4)
    assert difference(torch.zeros(2), torch.zeros(2)) == 0.0


def test_integers_and_shapes_have_to_be_equal() -> None:
    assert difference(torch.tensor([1, 2]), torch.tensor([1, 2])) == 0.0
    assert difference(torch.tensor([1, 2]), torch.tensor([1, 3])) == math.inf
    assert difference(torch.zeros(2, 1), torch.zeros(2)) == math.inf
    assert difference(torch.zeros(2), torch.tensor([0.0, 1e-9])) == math.inf


def test_nan_is_no_agreement() -> None:
    assert not difference(torch.ones(2), torch.tensor([1.0, math.nan])) <= 1e-5


class FixedRoofs(Roofline):
    """100 operations or 10 bytes per second."""

    def __init__(self) -> None:
        self.table, self.native = torch.zeros(1), frozenset()

    def compute(self, dtype: str) -> Roof:
        return Roof(dtype, "FLOP/s", "fixed", lambda: 1.0, 100.0)

    def sequential(self, working_set: int) -> Roof:
        return Roof("sequential", "B/s", "fixed", lambda: 1.0, 10.0)

    def random(self, row_bytes: int, table: torch.Tensor) -> Roof:
        return Roof(f"random {row_bytes} B", "B/s", "fixed", lambda: 1.0, 1.0)


@pytest.mark.parametrize(
    ("work", "bound", "amount"),
    [
        (Work(flops=1000, sequential_bytes=99), "fp32", 1000.0),
        (Work(flops=1000, sequential_bytes=101), "sequential", 101.0),
        (Work(sequential_bytes=5), "sequential", 5.0),
        (Work(random_bytes=128, row_bytes=64), "random 64 B", 128.0),
    ],
)
def test_the_resource_that_takes_longest_bounds(work: Work, bound: str, amount: float) -> None:
    roof, found = FixedRoofs().bounding(work, "fp32", torch.zeros(1))
    assert (roof.resource, found) == (bound, amount)


def unit(fused: Any, **more: Any) -> Unit:
    """x [4] doubled, by the framework and by ``fused``."""
    given: dict[str, Any] = {
        "name": "doubling",
        "origin": "A0",
        "dtype": "fp32",
        "work": Work(flops=4, sequential_bytes=32),
        "inputs": lambda: (torch.ones(4),),
        "unfused": lambda x: 2 * x,
        "fuse": lambda: fused,
    }
    return Unit(**(given | more))


def missing() -> Any:
    raise KernelsUnavailable("no compiler")


def reported(*results: UnitResult) -> dict[str, Any]:
    """The run's JSON, there and back."""
    effort = Effort(blocks=2, block_ms=0.1)
    run = Run(samples=4, table_bytes=4, seconds=1.0, effort=effort, roofs=(), results=results)
    found: dict[str, Any] = json.loads(json.dumps(as_json(run), allow_nan=False))
    return found


def test_a_missing_kernel_is_reported_and_not_judged() -> None:
    result = prepared(unit(None, fuse=missing, claimed_ratio=7.0), FixedRoofs(), 0.1)
    assert isinstance(result, UnitResult) and not result.wrong
    assert verdicts(result) == [">= 7x: not measured"]
    (row,) = reported(result)["units"]
    assert (row["problem"], row["paired"], row["roof"]) == ("no compiler", None, None)


def test_a_wrong_result_is_not_timed() -> None:
    result = prepared(unit(lambda x: 2.1 * x), FixedRoofs(), 0.1)
    assert isinstance(result, UnitResult) and result.wrong
    assert result.error == pytest.approx(0.05, rel=1e-5)


def test_a_unit_that_agrees_is_timed() -> None:
    ready = prepared(unit(lambda x: x + x, wanted_share=0.4), FixedRoofs(), 0.1)
    assert isinstance(ready, Measurable)
    for _ in range(2):
        ready.blocks.add()
    (row,) = reported(ready.result())["units"]
    assert row["error"] == 0.0 and row["paired"]["blocks"] == 2
    assert row["roof"]["resource"] == "sequential"
    assert row["verdicts"][0].startswith(">= 40 %: ")
