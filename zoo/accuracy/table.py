"""The outcomes as a page of Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.accuracy.intervals import Estimate
from zoo.accuracy.runs import Outcome, Row


def page(outcomes: Sequence[Outcome], command: str, notes: str) -> str:
    """The whole page: how it was made, ``notes``, one table per contest."""
    head = f"# Accuracy\n\nMade by\n\n```\n{command}\n```\n\n{notes.strip()}\n"
    return head + "".join(f"\n{section(outcome)}" for outcome in outcomes)


def section(outcome: Outcome) -> str:
    """Heading, note, sizes and table of one contest."""
    train, valid, test = outcome.samples
    ceiling = "" if outcome.bayes_auc is None else f" Bayes AUC **{outcome.bayes_auc:.4f}**."
    lines = [
        f"## {outcome.title}",
        "",
        *([outcome.note, ""] if outcome.note else []),
        f"{train:,} training, {valid:,} validation and {test:,} test samples; {outcome.seeds} seeds.{ceiling}",
        "",
        f"| model | test AUC [95 %] | sd between seeds | minus {outcome.rows[0].label} [95 %] |",
        "| --- | --- | --- | --- |",
        *(_line(row) for row in outcome.rows),
    ]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    difference = "" if row.difference is None else _interval(row.difference, "+.4f")
    return f"| {row.label} | {_interval(row.auc, '.4f')} | {row.auc.spread:.4f} | {difference} |"


def _interval(estimate: Estimate, form: str) -> str:
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"
