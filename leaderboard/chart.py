"""Charts of the page as SVG text: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from harness.console.report import number
from harness.record.result import Result, SegmentInfo
from leaderboard.store import Entry

WIDTH = 720
BAR_HEIGHT, BAR_LEFT, BAR_RIGHT = 30, 170, 110
PLOT_WIDTH, PLOT_HEIGHT, PLOT_LEFT, PLOT_BOTTOM, PLOT_TOP = 460, 240, 52, 40, 12
RATED = ("search", "quad", "latency")
LOWEST_EXPONENT = -4


def lbt_bars(entries: Sequence[Entry]) -> str:
    """Latency-bound throughput of the entries, longest bar first, with the interval as a whisker."""
    shown = sorted((e for e in entries if e.lbt_qps > 0), key=lambda e: -e.lbt_qps)
    if not shown:
        return ""
    top = max(max(e.lbt_qps, (e.result.measured.lbt_ci or (0.0, 0.0))[1]) for e in shown)
    scale = (WIDTH - BAR_LEFT - BAR_RIGHT) / top
    parts = [_bar(index, entry, scale) for index, entry in enumerate(shown)]
    return _svg(WIDTH, BAR_HEIGHT * len(shown) + 8, "Latency-bound throughput, queries per second", parts)


def late_curve(result: Result) -> str:
    """Late fraction of both sides against the offered rate; dashed: what the SLA allows; bands: the LBT intervals."""
    segments = [s for s in result.segments if s.purpose in RATED and s.queries and s.offered_qps and not s.voided]
    if not segments:
        return ""
    top_qps = 1.08 * max(s.offered_qps or 0.0 for s in segments)
    parts = _axes(top_qps)
    allowed = 1 - float(result.trial["sla"]["percentile"]) / 100
    y = _y(allowed)
    parts.append(f'<line class="sla" x1="{PLOT_LEFT}" x2="{PLOT_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
    sides = {"baseline": result.baseline, "candidate": result.candidate}
    for name, side in sides.items():
        if side is not None and side.lbt_ci is not None:
            low, high = (_x(value, top_qps) for value in side.lbt_ci)
            parts.append(
                f'<rect class="band {name}" x="{low:.1f}" y="{PLOT_TOP}" width="{max(1.0, high - low):.1f}" '
                f'height="{PLOT_HEIGHT - PLOT_TOP - PLOT_BOTTOM}"/>'
            )
        parts += [_dot(segment, name, top_qps) for segment in segments if segment.side == name]
    return _svg(PLOT_WIDTH, PLOT_HEIGHT, "Late fraction against the offered rate", parts)


def _bar(index: int, entry: Entry, scale: float) -> str:
    y, length = index * BAR_HEIGHT + 6, entry.lbt_qps * scale
    kind = "unranked" if entry.unranked else entry.kind
    middle, end = y + BAR_HEIGHT / 2 - 4, BAR_LEFT + length
    pieces = [
        f'<text class="name" x="{BAR_LEFT - 8}" y="{middle + 4}" text-anchor="end">'
        f"{escape(entry.result.plan_name)}</text>",
        f'<rect class="bar {kind}" x="{BAR_LEFT}" y="{y}" width="{length:.1f}" height="{BAR_HEIGHT - 9}" rx="2"/>',
    ]
    if entry.result.measured.lbt_ci is not None:
        low, high = (BAR_LEFT + value * scale for value in entry.result.measured.lbt_ci)
        pieces.append(
            f'<path class="whisker" d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 5}v10M{high:.1f} '
            f'{middle - 5}v10"/>'
        )
        end = max(end, high)
    pieces.append(f'<text x="{end + 8:.1f}" y="{middle + 4}">{number(entry.lbt_qps)} qps</text>')
    return "".join(pieces)


def _axes(top_qps: float) -> list[str]:
    bottom = PLOT_HEIGHT - PLOT_BOTTOM
    parts = [f'<path class="axis" d="M{PLOT_LEFT} {PLOT_TOP}V{bottom}H{PLOT_WIDTH}"/>']
    for exponent in range(LOWEST_EXPONENT + 1, 1):
        y = _y(10.0**exponent)
        label = f"{10.0**exponent * 100:g} %"
        parts.append(f'<line class="grid" x1="{PLOT_LEFT}" x2="{PLOT_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{PLOT_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    parts.append(f'<text x="{PLOT_LEFT - 6}" y="{bottom + 4}" text-anchor="end">0</text>')
    for qps in _ticks(top_qps):
        x = _x(qps, top_qps)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{number(qps, 1)}</text>')
    centre = (PLOT_LEFT + PLOT_WIDTH) / 2
    parts.append(f'<text x="{centre}" y="{PLOT_HEIGHT - 4}" text-anchor="middle">offered rate, queries/s</text>')
    return parts


def _dot(segment: SegmentInfo, side: str, top_qps: float) -> str:
    share, qps = segment.late / segment.queries, segment.offered_qps or 0.0
    title = f"{side}: {number(qps)} qps, {segment.late} of {segment.queries} late ({segment.purpose})"
    return (
        f'<circle class="dot {side}" cx="{_x(qps, top_qps):.1f}" cy="{_y(share):.1f}" r="4">'
        f"<title>{escape(title)}</title></circle>"
    )


def _x(qps: float, top_qps: float) -> float:
    return PLOT_LEFT + min(qps / top_qps, 1.0) * (PLOT_WIDTH - PLOT_LEFT - 8)


def _y(share: float) -> float:
    """Logarithmic from 1 down to 10^LOWEST_EXPONENT, which stands for 0 as well."""
    exponent = max(math.log10(share), LOWEST_EXPONENT) if share > 0 else LOWEST_EXPONENT
    return PLOT_TOP + exponent / LOWEST_EXPONENT * (PLOT_HEIGHT - PLOT_TOP - PLOT_BOTTOM)


def _ticks(top: float) -> list[float]:
    """Round numbers from 0 to ``top``, at most seven of them."""
    rough = top / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [step * count for count in range(int(top / step) + 1)]


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{title}">'
        f"<title>{title}</title>{''.join(parts)}</svg>"
    )
