"""A verification on a terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from leaderboard.verify import Verification


def verification_view(verification: Verification) -> RenderableType:
    """All recomputed numbers, what is wrong with the files, and the conclusion."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "published", "recomputed", "agrees"):
        table.add_column(heading, justify="right" if heading in ("published", "recomputed") else "left")
    for finding in verification.findings:
        agrees = "yes" if finding.agrees else "NO"
        table.add_row(*map(escape, (finding.what, _text(finding.published), _text(finding.recomputed))), agrees)
    problems = [escape(f"problem: {problem}") for problem in verification.problems]
    return Group(table, *problems, _conclusion(verification))


def _conclusion(verification: Verification) -> str:
    wrong = [finding for finding in verification.findings if not finding.agrees]
    if verification.passed:
        return f"verified: files and {len(verification.findings)} recomputed numbers are as published"
    return f"NOT verified: {len(verification.problems)} problems, {len(wrong)} of {_count(verification)} disagree"


def _count(verification: Verification) -> str:
    return f"{len(verification.findings)} recomputed numbers"


def _text(value: float | str | None) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str("-" if value is None else value)
