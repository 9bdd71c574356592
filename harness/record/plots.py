"""Pictures of a record, drawn from its raw columns: late fraction, latency distribution, latency over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.record.derive import counted, latencies_ms
from harness.record.result import Result, SegmentInfo
from harness.record.side_result import SideResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"baseline": "#4c6a92", "candidate": "#c8553d"}

Columns = Mapping[str, npt.NDArray[Any]]


def write_plots(folder: Path, result: Result, queries: Columns) -> list[Path]:
    """Draw late_fraction, latency_cdf and latency_over_time as PNG; returns the files. Needs no display."""
    figures = {
        "late_fraction": _late_fraction(result),
        "latency_cdf": _latency_cdf(result, queries),
        "latency_over_time": _latency_over_time(result, queries),
    }
    written = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=120)
        written.append(path)
    return written


def new_figure(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """A figure with one grid, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.25)
    return figure, axes


def _late_fraction(result: Result) -> Figure:
    """One dot per segment; the twin's late fraction around each LBT with the LBT's interval; the allowed fraction."""
    figure, axes = new_figure("offered rate, queries/s", "late fraction")
    allowed = 1 - result.trial["sla"]["percentile"] / 100
    for side, colour in COLOURS.items():
        segments = _rated_segments(result.segments, side)
        if not segments:
            continue
        kept = [s for s in segments if not s.voided]
        voided = [s for s in segments if s.voided]
        axes.plot(*_late_points(kept), "o", color=colour, alpha=0.7, label=side, clip_on=False)
        axes.plot(*_late_points(voided), "x", color=colour, alpha=0.7)
        measured = result.baseline if side == "baseline" else result.candidate
        if measured is not None:
            _fit(axes, measured, allowed, colour)
    limit = result.trial["sla"]["limit_ms"]
    axes.axhline(allowed, color="black", lw=1, ls="--", label=f"SLA: {allowed:.2g} later than {limit:g} ms")
    axes.set_yscale("symlog", linthresh=allowed / 10, linscale=0.5)
    axes.set_ylim(0, 1.05)
    legend_above(axes)
    return figure


def _fit(axes: Axes, side: SideResult, allowed: float, colour: str) -> None:
    """Late fraction allowed (rate / LBT)^slope as far as it was fitted, and the same at both ends of the interval."""
    if not side.lbt_qps or side.lbt_slope is None or side.lbt_status not in ("measured", "few_clumps"):
        return
    relative = np.linspace(0.8, 1.2, 60)
    late = np.minimum(allowed * relative**side.lbt_slope, 1.0)
    axes.plot(side.lbt_qps * relative, late, color=colour, lw=1)
    if side.lbt_ci is not None:
        axes.fill_betweenx(late, side.lbt_ci[0] * relative, side.lbt_ci[1] * relative, color=colour, alpha=0.15, lw=0)


def _latency_cdf(result: Result, queries: Columns) -> Figure:
    """Share of the queries within x ms, at 70 % of each side's own LBT."""
    figure, axes = new_figure("latency, ms", "share of queries")
    for side, colour in COLOURS.items():
        rows = counted(queries, _of_purpose(result.segments, side, "latency"))
        if rows.any():
            values = np.sort(latencies_ms(queries)[rows])
            share = np.arange(1, len(values) + 1) / len(values)
            axes.step(np.where(np.isfinite(values), values, np.nan), share, where="post", color=colour, label=side)
    axes.axvline(result.trial["sla"]["limit_ms"], color="black", lw=1, ls="--", label="SLA limit")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    legend_above(axes)
    return figure


def _latency_over_time(result: Result, queries: Columns) -> Figure:
    """Latency of every query of the quads against its arrival; the background shows whose turn it was."""
    figure, axes = new_figure("planned arrival, s", "latency, ms")
    quads = [s for s in result.segments if s.purpose == "quad"]
    first = min((s.counted_from_ns for s in quads), default=0)
    latencies = latencies_ms(queries)
    for side, colour in COLOURS.items():
        own = [s for s in quads if s.side == side]
        rows = counted(queries, own)
        seconds = (queries["planned_ns"][rows] - first) / 1e9
        axes.plot(seconds, latencies[rows], ",", color=colour)
        axes.plot([], [], "o", color=colour, label=side)
        for segment in own:
            span = ((segment.counted_from_ns - first) / 1e9, (segment.counted_to_ns - first) / 1e9)
            axes.axvspan(*span, color="black" if segment.voided else colour, alpha=0.08, lw=0)
    axes.axhline(result.trial["sla"]["limit_ms"], color="black", lw=1, ls="--", label="SLA limit")
    axes.set_yscale("log")
    legend_above(axes)
    return figure


def legend_above(axes: Axes) -> None:
    """The legend where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)


def _rated_segments(segments: Sequence[SegmentInfo], side: str) -> list[SegmentInfo]:
    return [s for s in segments if s.side == side and s.queries and s.purpose in ("search", "quad", "latency")]


def _late_points(segments: Sequence[SegmentInfo]) -> tuple[list[float], list[float]]:
    return [s.offered_qps or 0.0 for s in segments], [s.late / s.queries for s in segments]


def _of_purpose(segments: Sequence[SegmentInfo], side: str, purpose: str) -> list[SegmentInfo]:
    return [s for s in segments if s.side == side and s.purpose == purpose]
