"""The quick ways through sizes and noise against the plain ones: the same bits."""

import numpy as np
import pytest

from harness.estimate.mg1 import service_atoms
from harness.estimate.service_table import SPREAD_POINTS, ServiceTable, fit_service_table
from harness.estimate.twin import atoms_of
from harness.estimate.uniforms import uniforms

MS = 1e6


def _edges(n: np.ndarray, groups: int) -> np.ndarray:
    edges = np.unique(np.quantile(n, np.linspace(0, 1, groups + 1)[1:-1])) if groups > 1 else np.zeros(0)
    return edges[(edges >= n.min()) & (edges < n.max())]


def _plainly_fitted(n: np.ndarray, service: np.ndarray) -> ServiceTable:
    """Every quantity from the samples themselves, by numpy's general functions."""
    distinct, group = np.unique(n, return_inverse=True)
    if distinct.size > 24:
        _, group = np.unique(np.searchsorted(_edges(n, 24), n), return_inverse=True)
    count = np.bincount(group)
    knots, mean = np.bincount(group, n) / count, np.bincount(group, service) / count
    ratios = service / ServiceTable(sizes=knots, mean_ns=mean, spread=np.ones(1)).mean(n)
    ratios = ratios / ratios.mean()
    edges = _edges(n, min(n.size // 100, knots.size))
    member, parts = np.searchsorted(edges, n), []
    for number in range(edges.size + 1):
        part = np.sort(ratios[member == number])
        if part.size > SPREAD_POINTS:
            at = np.linspace(0.0, part.size, SPREAD_POINTS + 1)
            below = np.interp(at, np.arange(part.size + 1), np.concatenate(([0.0], np.cumsum(part))))
            part = np.diff(below) * (SPREAD_POINTS / part.size)
        parts.append(part)
    counts = np.array([part.size for part in parts])
    return ServiceTable(sizes=knots, mean_ns=mean, spread=np.concatenate(parts), edges=edges, counts=counts)


@pytest.mark.parametrize("samples", [7, 450, 20_000])
@pytest.mark.parametrize("kind", ["one size", "four sizes", "many sizes", "no whole numbers", "huge sizes"])
def test_a_table_is_fitted_as_by_numpys_general_functions(kind: str, samples: int) -> None:
    rng = np.random.default_rng(samples)
    n = {
        "one size": np.full(samples, 32.0),
        "four sizes": rng.choice([1.0, 10.0, 32.0, 100.0], samples),
        "many sizes": np.ceil(rng.lognormal(3.0, 0.9, samples)).clip(1, 100),
        "no whole numbers": rng.uniform(1.0, 50.0, samples).round(1),
        "huge sizes": rng.integers(1, 200, samples) * 1000.0,
    }[kind]
    service = (1.0 + 0.1 * n) * MS * rng.lognormal(0.0, 0.3, samples)
    found, wanted = fit_service_table(n, service), _plainly_fitted(n, service)
    for name in ("sizes", "mean_ns", "spread", "edges", "counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)


def _table() -> ServiceTable:
    rng = np.random.default_rng(1)
    n = np.ceil(rng.lognormal(3.0, 0.9, 9000)).clip(1, 100)
    return fit_service_table(n, (1.0 + 0.1 * n) * MS * rng.lognormal(0.0, 0.3, n.size))


def test_whole_sizes_are_looked_up_to_the_same_bits() -> None:
    """As floats they are interpolated one by one."""
    table, sizes = _table(), np.random.default_rng(2).integers(0, 130, (40, 50))
    np.testing.assert_array_equal(table.mean(sizes), table.mean(sizes.astype(float)))
    np.testing.assert_array_equal(table.group(sizes), np.searchsorted(table.edges, sizes.astype(float)))
    np.testing.assert_array_equal(table.draw((3,), sizes, 5), table.draw((3,), sizes.astype(float), 5))
    assert table.mean(np.array([-3, 5]))[0] == table.mean(np.array([-3.0]))[0]


def test_a_draw_is_one_of_the_values_of_its_group() -> None:
    table, sizes = _table(), np.arange(1, 101)
    uniform = np.random.default_rng(9).random((2, 100))
    for copy, row in enumerate(table.draw((2,), sizes, 9)):
        for size, factor, u in zip(sizes, row, uniform[copy], strict=True):
            values = table.values(float(size))
            assert factor == values[int(u * values.size)]


def test_atoms_are_every_size_times_every_value() -> None:
    """With steps of a tenth nothing is lumped."""
    table = ServiceTable(
        sizes=np.array([1.0, 10.0]), mean_ns=np.array([1.0, 7.0]), spread=np.array([0.5, 1.5, 0.9, 1.1]),
        edges=np.array([5.0]), counts=np.array([2, 2]),
    )  # fmt: skip
    found = atoms_of(table, np.array([1, 10]), np.array([0.25, 0.75]))
    wanted = service_atoms(np.array([0.5, 1.5, 6.3, 7.7]), np.array([0.125, 0.125, 0.375, 0.375]))
    np.testing.assert_allclose(found.ns, wanted.ns, rtol=1e-15)
    np.testing.assert_array_equal(found.probability, wanted.probability)


def test_uniforms_are_the_beginning_of_the_stream() -> None:
    for count in (1, 1500, 2**20 + 5, 700):
        np.testing.assert_array_equal(uniforms(3, (count,)), np.random.default_rng(3).random(count))
    np.testing.assert_array_equal(uniforms(3, (2, 3, 4)), np.random.default_rng(3).random((2, 3, 4)))
