"""The results of a run as tables for the terminal and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from harness.host.environment import hardware_class
from tests.bench.units.pairing import Effort, verdict
from tests.bench.units.roofline import Roof
from tests.bench.units.unit import TOLERANCE, UnitResult

SCHEMA_VERSION = 1
PIPE_WIDTH = 180
"""Columns where there is no terminal to ask."""
GIGA = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that a run found. roofs: those of the machine as a whole, measured before the first unit."""

    samples: int
    table_bytes: int
    seconds: float
    effort: Effort
    roofs: Sequence[Roof]
    results: Sequence[UnitResult]


def print_run(run: Run) -> None:
    """The roofline, then a row per unit."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    cache = last_level_cache_bytes()
    size = f", {run.table_bytes / cache:.0f} times the last-level cache" if cache else ""
    console.print(f"{hardware_class()}, one thread, {run.samples} samples, {run.seconds:.0f} s")
    console.print(f"large table: {run.table_bytes / GIGA:.2f} GB{size}")
    console.print(_roof_table(run.roofs))
    console.print(_unit_table(run.results))
    for problem in dict.fromkeys(result.problem for result in run.results if result.problem):
        names = [f"{r.unit.name}, {r.unit.dtype}" for r in run.results if r.problem == problem]
        console.print(f"not measured: {problem}\n  {'; '.join(names)}\n", markup=False)
    console.print(
        "ratio: processor time of the framework's form in fp32 over the kernel's. share: of the resource that bounds "
        "the unit. Intervals: 95 %. A verdict is undecided where the interval holds the bar."
    )


def write_json(run: Run, path: Path) -> None:
    """Everything measured, times in microseconds, rates per second."""
    path.write_text(json.dumps(as_json(run), indent=2) + "\n", encoding="utf-8")


def as_json(run: Run) -> dict[str, Any]:
    """``Run`` as JSON values; a unit without a measurement has nulls and the reason in ``problem``."""
    return {
        "schema_version": SCHEMA_VERSION,
        "hardware": hardware_class(),
        "threads": 1,
        "samples": run.samples,
        "table_bytes": run.table_bytes,
        "last_level_cache_bytes": last_level_cache_bytes(),
        "seconds": run.seconds,
        "effort": dataclasses.asdict(run.effort),
        "roofs": [_roof_json(roof) for roof in run.roofs],
        "units": [_unit_json(result) for result in run.results],
    }


def verdicts(result: UnitResult) -> list[str]:
    """What the unit is judged by, and how it did: ">= 7x: no"."""
    unit, timed = result.unit, result.paired
    found = []
    if unit.claimed_ratio is not None:
        said = verdict(timed.ratio_ci, unit.claimed_ratio) if timed else "not measured"
        found.append(f">= {unit.claimed_ratio:g}x: {said}")
    if unit.wanted_share is not None:
        said = verdict(timed.share_ci, unit.wanted_share) if timed else "not measured"
        found.append(f">= {100 * unit.wanted_share:.0f} %: {said}")
    return found


def last_level_cache_bytes() -> int | None:
    """Size of the last-level cache by /sys (Linux); None where it does not say."""
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    found = [int(text[:-1]) * 1024 for path in sizes if (text := path.read_text().strip()).endswith("K")]
    return max(found, default=None)


def _roof_json(roof: Roof) -> dict[str, Any]:
    return {"resource": roof.resource, "rate": roof.rate, "unit": roof.unit, "source": roof.source}


def _unit_json(result: UnitResult) -> dict[str, Any]:
    unit = result.unit
    return {
        "name": unit.name,
        "origin": unit.origin,
        "dtype": unit.dtype,
        "work": dataclasses.asdict(unit.work),
        "error": result.error,
        "tolerance": TOLERANCE[unit.dtype],
        "problem": result.problem or None,
        "paired": dataclasses.asdict(result.paired) if result.paired else None,
        "roof": _roof_json(result.roof) if result.roof else None,
        "claimed_ratio": unit.claimed_ratio,
        "wanted_share": unit.wanted_share,
        "verdicts": verdicts(result),
    }


def _rate(rate: float, unit: str) -> str:
    return f"{rate / GIGA:,.1f} G{unit}"


def _roof_table(roofs: Sequence[Roof]) -> Table:
    table = Table(title="roofline, measured", box=box.SIMPLE, title_justify="left")
    for name, side in (("resource", "left"), ("rate", "right"), ("by", "left")):
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for roof in roofs:
        table.add_row(roof.resource, _rate(roof.rate, roof.unit), roof.source)
    return table


def _unit_table(results: Sequence[UnitResult]) -> Table:
    table = Table(title="units", box=box.SIMPLE, title_justify="left")
    table.add_column("unit", no_wrap=True)
    for name in ("row", "type"):
        table.add_column(name)
    for name in ("framework, us", "kernel, us", "ratio", "bound by", "share", "verdict"):
        table.add_column(name, justify="right" if name.endswith("us") else "left")
    for result in results:
        unit, timed, roof = result.unit, result.paired, result.roof
        if timed is None or roof is None:
            said = "; ".join(verdicts(result))
            table.add_row(unit.name, unit.origin, unit.dtype, "-", "-", "see below", "-", "-", said)
            continue
        (low, high), (least, most) = timed.ratio_ci, timed.share_ci
        table.add_row(
            *(unit.name, unit.origin, unit.dtype),
            *(f"{timed.unfused_us:,.1f}", f"{timed.fused_us:,.1f}"),
            f"{timed.ratio:.2f}x [{low:.2f}, {high:.2f}]",
            f"{roof.resource}, {_rate(timed.roof_rate, roof.unit)}",
            f"{100 * timed.share:.0f} % [{100 * least:.0f}, {100 * most:.0f}]",
            "; ".join(verdicts(result)),
        )
    return table
