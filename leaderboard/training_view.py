"""The sums of training plans on a terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from harness.console.numbers import DASH, number, with_interval
from leaderboard.training_sum import BEST, PlanSum, TrainingSums


def training_view(sums: TrainingSums | None) -> RenderableType:
    """One row per plan, seconds by model, their sum, and the geometric mean of the ratios."""
    if sums is None:
        return "no ranked record of a training with a ratio"
    models = sorted(sums.workloads)
    title = escape(f"training on {sums.hardware_class}: seconds of fixed steps, each baseline about as many")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("plan", overflow="fold")
    for heading in (*models, "sum, s", "geometric mean of ratios"):
        table.add_column(heading, justify="right", overflow="fold")
    own = {model: next(plan.shares[model] for plan in sums.plans if model in plan.shares) for model in models}
    table.add_row("steps", *(f"{own[model].steps:,}" for model in models), "", "")
    table.add_row(escape("[]"), *(number(own[m].baseline_s) for m in models), number(sums.baseline_s), "1")
    for plan in sums.plans:
        table.add_row(*_row(plan, models))
    notes = [f"{model}: {sums.workloads[model].title}" for model in models]
    notes += [f"{plan.name} has no ranked record of {', '.join(plan.missing)}" for plan in sums.plans if plan.missing]
    notes += [
        f"{BEST}: " + ", ".join(f"{model} {name}" for model, name in sorted(plan.plans.items()))
        for plan in sums.plans
        if plan.name == BEST
    ]
    return Group(table, *map(escape, notes))


def _row(plan: PlanSum, models: list[str]) -> list[str]:
    seconds = [
        f"{number(plan.shares[model].seconds)} ({number(plan.shares[model].ratio)}x)" if model in plan.shares else DASH
        for model in models
    ]
    return [
        escape(plan.name),
        *seconds,
        with_interval(plan.seconds, plan.seconds_ci),
        with_interval(plan.ratio, plan.ratio_ci),
    ]
