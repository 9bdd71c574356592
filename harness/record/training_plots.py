"""The picture of a training record: samples per second of every timed stretch, in the order in which they ran."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from harness.record.plots import COLOURS, legend_above, new_figure

Columns = Mapping[str, npt.NDArray[Any]]


def write_training_plots(folder: Path, chunks: Columns) -> list[Path]:
    """Draw training_rate as PNG; returns the file. Needs no display."""
    figure, axes = new_figure("time, s", "samples/s")
    timed = chunks["purpose"] == "quad"
    first = int(chunks["started_ns"][timed].min()) if timed.any() else 0
    for side, colour in COLOURS.items():
        own = timed & (chunks["side"] == side)
        starts, ends = ((chunks[name][own] - first) / 1e9 for name in ("started_ns", "ended_ns"))
        if own.any():
            axes.hlines(chunks["samples"][own] / (ends - starts), starts, ends, color=colour, lw=3, label=side)
    axes.set_ylim(bottom=0)
    if timed.any():
        legend_above(axes)
    path = folder / "training_rate.png"
    figure.savefig(path, dpi=120)
    return [path]
