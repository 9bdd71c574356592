"""The compiled loops around the stationary wait against their forms in numpy: the same bits."""

import numpy as np
import pytest

from harness.estimate import mg1, twin
from harness.estimate.mg1 import LateAt, ServiceAtoms, StationaryWait, lbt_qps, service_atoms
from harness.estimate.service_table import ServiceTable
from harness.estimate.twin import atoms_of
from harness.native.waits import compiled

MS = 1e6


@pytest.fixture
def by_numpy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """``context()`` of it in which the compiled loops are taken away; skipped where there are none."""
    if compiled() is None:
        pytest.skip("no C++ compiler: the forms in numpy are all there is")
    return monkeypatch


def _service(atoms: int) -> ServiceAtoms:
    rng = np.random.default_rng(atoms)
    return service_atoms(rng.lognormal(1.5, 0.6, atoms) * MS, rng.dirichlet(np.ones(atoms)))


@pytest.mark.parametrize("atoms", [1, 40, 12_000])
def test_late_fractions_and_lbts(by_numpy: pytest.MonkeyPatch, atoms: int) -> None:
    """Several queues at a time, one of them beyond its capacity; limits below, among and above the service times."""
    services = [_service(atoms), _service(atoms).scaled(1.3)]
    mean = services[0].mean_ns
    limits = [np.array([0.1, 0.9, 3.0, 12.0]) * mean, np.array([6.0]) * mean]

    def found() -> list[list[float]]:
        late = LateAt([StationaryWait(s, 12 * mean) for s in services], limits)
        loads = ([0.1, 0.5], [0.8, 0.05], [2.0, 0.5])
        every = [x.tolist() for own in loads for x in late([load * 1e9 / mean for load in own])]
        return [*every, [lbt_qps(services[0], 12 * mean, 0.01)]]

    by_machine = found()
    with by_numpy.context() as patch:
        patch.setattr(mg1, "compiled", lambda: None)
        assert found() == by_machine
    assert by_machine[0][0] > 0.99 > by_machine[2][2] > by_machine[0][2] and by_machine[-1][0] > 0.0


def test_tails_at_the_edges_of_cells(by_numpy: pytest.MonkeyPatch) -> None:
    wait, t = StationaryWait(_service(40), 50 * MS), np.arange(-2.0, 4097.0, 0.25) * (50 * MS / 4096)
    by_machine = wait.tail(100.0, t)
    with by_numpy.context() as patch:
        patch.setattr(mg1, "compiled", lambda: None)
        np.testing.assert_array_equal(wait.tail(100.0, t), by_machine)


@pytest.mark.parametrize("grouped", [False, True])
def test_atoms_of_a_table(by_numpy: pytest.MonkeyPatch, grouped: bool) -> None:
    rng = np.random.default_rng(3)
    groups = {"edges": np.array([8.0, 30.0]), "counts": np.array([100, 700, 200])} if grouped else {}
    table = ServiceTable(
        sizes=np.array([1.0, 50.0]), mean_ns=np.array([1.0, 9.0]) * MS, spread=rng.lognormal(0.0, 0.4, 1000), **groups
    )
    sizes, share = np.arange(1, 61), rng.dirichlet(np.ones(60))
    by_machine = atoms_of(table, sizes, share)
    with by_numpy.context() as patch:
        patch.setattr(twin, "compiled_waits", lambda: None)
        plain = atoms_of(table, sizes, share)
    np.testing.assert_array_equal(plain.ns, by_machine.ns)
    np.testing.assert_array_equal(plain.probability, by_machine.probability)
