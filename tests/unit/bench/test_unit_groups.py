"""Every unit that the command measures can be built, and its two forms agree; nothing is timed."""

from __future__ import annotations

import pytest
import torch

from optimizations.kernels.loader import KernelsUnavailable, find_compiler
from tests.bench.units.command import GROUPS, large_table
from tests.bench.units.unit import TOLERANCE, difference

TABLE_BYTES = 8_000_000


@pytest.fixture(autouse=True)
def _compiler() -> None:
    try:
        find_compiler()
    except KernelsUnavailable as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("samples", [1, 3])
def test_forms_agree(group: str, samples: int) -> None:
    torch.manual_seed(2)
    with torch.inference_mode():
        for unit in GROUPS[group](samples, large_table(TABLE_BYTES)):
            arguments = unit.inputs()
            error = difference(unit.unfused(*arguments), unit.fuse()(*arguments))
            assert error <= TOLERANCE[unit.dtype], unit.name


def test_units_have_work_and_names_of_their_own() -> None:
    units = [unit for group in GROUPS.values() for unit in group(2, large_table(TABLE_BYTES))]
    assert len({(unit.name, unit.dtype) for unit in units}) == len(units)
    for unit in units:
        work = unit.work
        assert (work.random_bytes > 0) == (unit.table is not None), unit.name
        assert work.random_bytes + work.sequential_bytes > 0, unit.name


def test_the_large_table_is_written_everywhere_and_not_with_one_page() -> None:
    table = large_table(TABLE_BYTES)
    assert table.numel() == TABLE_BYTES // 4
    pages = table[: table.numel() // 1024 * 1024].view(-1, 1024)
    assert bool((pages.abs().amax(1) > 0).all())
    assert len(torch.unique(pages[:, 0])) > 0.99 * len(pages)
