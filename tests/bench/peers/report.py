"""A run's ratios as tables for the terminal, and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.host.environment import hardware_class
from tests.bench.peers.contender import ENTRIES
from tests.bench.peers.frozen import Standing
from tests.bench.peers.pairing import Ratio

SCHEMA_VERSION = 1
PIPE_WIDTH = 220
"""Columns where there is no terminal to ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRun:
    """What one model's run found."""

    model: str
    sizes: tuple[int, ...]
    threads: int
    blocks: int
    seconds: float
    standings: Sequence[Standing]
    ratios: Sequence[Ratio]


def print_run(run: ModelRun, console: Console | None = None) -> None:
    """Service times, ratios, and who is not in them and why."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(f"{run.model}: {hardware_class()}, {run.threads} threads, {run.blocks} blocks, {run.seconds:.0f} s")
    if run.ratios:
        console.print(ratio_table(run))
    console.print(standing_table(run))
    for standing in run.standings:
        if standing.reason:
            console.print(f"not timed: {ENTRIES[standing.name].title}: {standing.reason}", markup=False)


def ratio_table(run: ModelRun) -> Table:
    """A row per peer and one of ours; a column per size, and the geometric mean over sizes."""
    table = Table(title="the peer's service time over ours (above 1: ours is faster)", box=box.SIMPLE)
    table.add_column("peer", no_wrap=True)
    table.add_column("ours")
    for size in run.sizes:
        table.add_column(f"n={size}")
    table.add_column("geometric mean")
    pairs = dict.fromkeys((ratio.peer, ratio.ours) for ratio in run.ratios)
    for peer, ours in pairs:
        cells = [_cell(ratio) for ratio in run.ratios if (ratio.peer, ratio.ours) == (peer, ours)]
        table.add_row(ENTRIES[peer].title, ours, *map(escape, cells))
    return table


def standing_table(run: ModelRun) -> Table:
    """A row per contender that was timed: median service times, seconds until ready, error against eager."""
    table = Table(title="service time, us", box=box.SIMPLE)
    table.add_column("contender", no_wrap=True)
    for name in (*(f"n={size}" for size in run.sizes), "ready after, s", "error"):
        table.add_column(name, justify="right")
    table.add_column("note")
    for standing in run.standings:
        if standing.reason:
            continue
        times = [f"{time:,.0f}" for time in _times_us(run, standing.name)] or ["-"] * len(run.sizes)
        error = "own weights" if standing.error is None else f"{standing.error:.0e}"
        ready = f"{standing.build_s:.1f}"
        table.add_row(*map(escape, (ENTRIES[standing.name].title, *times, ready, error, standing.note)))
    return table


def write_json(runs: Sequence[ModelRun], path: Path) -> None:
    """Everything in the tables."""
    path.write_text(json.dumps(as_json(runs), indent=2) + "\n", encoding="utf-8")


def as_json(runs: Sequence[ModelRun]) -> dict[str, Any]:
    """The runs as JSON values; ``size`` null: the geometric mean over sizes."""
    models = [dataclasses.asdict(run) for run in runs]
    return {"schema_version": SCHEMA_VERSION, "hardware": hardware_class(), "models": models}


def _cell(ratio: Ratio) -> str:
    low, high = ratio.interval
    return f"{ratio.ratio:.2f}x [{low:.2f}, {high:.2f}]"


def _times_us(run: ModelRun, name: str) -> list[float]:
    """Median service times by size; one of ours has been timed beside every peer, and the first one's count."""
    mine = [ratio for ratio in run.ratios if ratio.size is not None and name in (ratio.peer, ratio.ours)]
    first: dict[int, float] = {}
    for ratio in mine:
        time = ratio.peer_us if ratio.peer == name else ratio.ours_us
        if ratio.size is not None and time is not None:
            first.setdefault(ratio.size, time)
    return list(first.values())
