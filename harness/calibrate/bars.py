"""The bars that the estimator is held to, and whether the rows of a study meet them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.calibrate.summary import Row

REPEATS = 1000
"""Fewer say little: a share of 5 % is known to within 1 % from the 2,000 sides of so many."""
POOLED_COVERAGE = (0.93, 0.97)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One demand on each cell.

    value: what it looks at, from least to most. form: how that is printed. least_correlation: of system and twin, below
    which nothing is demanded: there the estimate rests on late queries alone. steady: asked only where a side has one
    LBT.
    """

    name: str
    value: Callable[[Row], float]
    most: float
    least: float = 0.0
    form: str = "{:.1%}"
    least_correlation: float = 0.0
    steady: bool = True

    def asked(self, row: Row) -> bool:
        """Whether the bar holds for this cell."""
        return (row.steady or not self.steady) and row.correlation >= self.least_correlation

    def met(self, row: Row) -> bool:
        """Whether the cell meets it; without any interval it does not."""
        return self.least <= self.value(row) <= self.most

    def verdict(self, row: Row) -> str:
        """In words, with the number."""
        if not self.asked(row):
            return "not asked"
        return f"{'met' if self.met(row) else 'MISSED'}: {self.form.format(self.value(row))}"


def _error(row: Row) -> float:
    return row.error


def _sd(row: Row) -> float:
    return row.sd


def _overstated(row: Row) -> float:
    return row.overstated


def _coverage(row: Row) -> float:
    """Of the sides' intervals; of the ratio's where a side has no one LBT."""
    return row.covered if row.steady else row.ratio_covered


_ALWAYS = (
    Bar(name="mean error at most 1 %", value=_error, least=-0.01, most=0.01, form="{:+.2%}"),
    Bar(name="interval holds the truth: at least 91 %", value=_coverage, least=0.91, most=1.0, steady=False),
)
BARS = {
    "standard": (
        *_ALWAYS,
        Bar(name="sd at most 2 %", value=_sd, most=0.02, form="{:.2%}", least_correlation=0.9),
        Bar(name="> 2 % too high: at most 10 %", value=_overstated, most=0.1, least_correlation=0.9),
    ),
    "quick": (
        *_ALWAYS,
        Bar(name="sd at most 5 %", value=_sd, most=0.05, form="{:.2%}", least_correlation=0.85),
    ),
}


def verdicts(rows: Sequence[Row]) -> str:
    """Whether each cell, and all of them together, meet the bars of their budget, as Markdown; rows of one budget."""
    if not rows:
        return ""
    bars = BARS[rows[0].budget]
    lines = [("cell", "repeats", *(bar.name for bar in bars), "all"), ("---",) * (len(bars) + 3)]
    for row in rows:
        all_met = all(bar.met(row) for bar in bars if bar.asked(row))
        said = (bar.verdict(row) for bar in bars)
        lines.append((row.cell, str(row.repeats), *said, _in_all(all_met, row.repeats)))
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{table}\n{_pooled(rows)}\n"


def _pooled(rows: Sequence[Row]) -> str:
    """What the intervals of all cells do together."""
    share, sides = _mean([(row.covered, row.sides) for row in rows if row.steady])
    of_ratios, ratios = _mean([(row.ratio_covered, row.ratios) for row in rows])
    low, high = POOLED_COVERAGE
    verdict = _in_all(low <= share <= high, min(row.repeats for row in rows))
    return (
        f"Pooled: the intervals of the sides hold the truth in {share:.1%} of {sides} cases (bar: {low:.0%} to "
        f"{high:.0%}): {verdict}. Those of the ratios do in {of_ratios:.1%} of {ratios} (no bar)."
    )


def _mean(shares: Sequence[tuple[float, int]]) -> tuple[float, int]:
    """Mean of shares by their counts, and the count of all; what has no count has no share."""
    count = sum(n for _, n in shares)
    return (math.fsum(share * n for share, n in shares if n) / count if count else math.nan), count


def _in_all(met: bool, repeats: int) -> str:
    return f"{'met' if met else 'MISSED'}{'' if repeats >= REPEATS else ' so far'}"
