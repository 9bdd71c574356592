"""Numbers and verdicts as a reader sees them."""

from __future__ import annotations

from rich.markup import escape

from harness.record.result import Result
from harness.record.side_result import Interval

DASH = "-"


def number(value: float | None, digits: int = 3, unit: str = "") -> str:
    """``digits`` significant digits without exponent, thousands separated; a dash for None."""
    if value is None:
        return DASH
    if value == 0:
        return f"0{unit}"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    decimals = max(0, digits - whole) if whole else digits
    return f"{value:,.{decimals}f}{unit}"


def interval(value: Interval | None, digits: int = 3) -> str:
    """``[lo, hi]`` or a dash."""
    return DASH if value is None else f"[{number(value[0], digits)}, {number(value[1], digits)}]"


def with_interval(value: float | None, bounds: Interval | None, digits: int = 3) -> str:
    """``value [lo, hi]``, the value alone where it has no interval, or a dash."""
    return number(value, digits) if bounds is None else f"{number(value, digits)} {interval(bounds, digits)}"


def ratio_verdict(value: float | None, bounds: Interval | None) -> str:
    """ "faster", "slower", "no difference" (the interval holds 1), "indicative" (no interval) or a dash."""
    if value is None:
        return DASH
    if bounds is None:
        return "indicative"
    if bounds[0] > 1:
        return "faster"
    return "slower" if bounds[1] < 1 else "no difference"


def verdict_line(result: Result) -> str:
    """The verdict on the ratio of what the trial measures; none where the measurement is void."""
    if result.void:
        return "verdict: none, the measurement is void (exit code 5)"
    value, bounds, _ = result.speedup
    return f"verdict: {ratio_verdict(value, bounds)}"


def validity_line(result: Result) -> str:
    """Whether the host was quiet enough, and why not."""
    validity = result.validity
    why = f": {escape('; '.join(validity.reasons))}" if validity.reasons else ""
    return f"validity: {validity.verdict}, {validity.voided_quads} quads voided{why}"
