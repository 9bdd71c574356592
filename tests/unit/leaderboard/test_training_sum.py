"""The sum of training seconds over the models, against figures computed by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.record.result import Ratio, Result
from harness.record.side_result import TrainResult
from leaderboard.store import Board, Entry, Workload
from leaderboard.training_sum import BEST, PlanSum, TrainingSums, training_sums
from leaderboard.training_view import training_view

Fabricated = Callable[..., tuple[Any, Any]]
STEP_S = {"wdl": 0.1, "din": 0.033, "dien": 0.15, "dlrm": 0.024}
STEPS = {"wdl": 3500, "din": 11_000, "dien": 2300, "dlrm": 15_000}
"""350 s of each, to two digits: 3,500, 10,606, 2,333 and 14,583."""
FUSION = {"wdl": 1.25, "din": 2.0, "dien": 4.0, "dlrm": 1.6}


def trained(fabricate: Fabricated, model: str, ratio: float | None, half: float | None = 0.04, **fields: Any) -> Result:
    """A result of a training whose baseline takes ``STEP_S`` a step; ``half``: of the interval of the log ratio."""
    slower, batch = fields.pop("slower", 1.0), fields.pop("batch", 512)
    result: Result = fabricate(model=model, **fields)[1].result
    train = TrainResult(
        samples_per_s=1.0,
        input_rows_per_s=None,
        seconds=200 * STEP_S[model] * slower,
        steps=200,
        seconds_to_auc=None,
        peak_bytes=None,
        seeds=(1,),
    )
    bounds = None if ratio is None or half is None else (ratio * math.exp(-half), ratio * math.exp(half))
    none: dict[str, None] = dict.fromkeys(("lbt", "lbt_ci", "service", "offline"))
    return dataclasses.replace(
        result,
        trial={**result.trial, "scope": "train", "training": {"batch_size": batch}},
        baseline=dataclasses.replace(result.baseline, train=train),
        ratio=None if ratio is None else Ratio(**none, train=ratio, train_ci=bounds),
    )


def sums_of(*results: Result, unranked: tuple[Result, ...] = ()) -> TrainingSums | None:
    groups: dict[Workload, list[Entry]] = {}
    for result in (*results, *unranked):
        entry = Entry(path=Path("record"), result=result, unranked=("gate",) if result in unranked else ())
        groups.setdefault(Workload.of(result), []).append(entry)
    return training_sums(Board(groups=groups, unreadable={}))


def fused(fabricate: Fabricated, **fields: Any) -> list[Result]:
    return [trained(fabricate, model, ratio, **fields) for model, ratio in FUSION.items()]


def by_name(sums: TrainingSums | None) -> dict[str, PlanSum]:
    assert sums is not None
    return {plan.name: plan for plan in sums.plans}


def test_the_sum_and_the_geometric_mean_by_hand(fabricate: Fabricated) -> None:
    """Baselines 350, 363, 345 and 360 s, 1,418 in all. With the plan 280 + 181.5 + 86.25 + 225 = 772.75 s; the product
    of the ratios is 16, its fourth root 2. Half widths of 0.04: of the mean log ratio sqrt(4) x 0.04 / 4 = 0.02, of
    the sum 0.04 sqrt(280^2 + 181.5^2 + 86.25^2 + 225^2) = 16.4636, 0.021305 of it."""
    sums = sums_of(*fused(fabricate))
    assert sums is not None and sums.baseline_s == pytest.approx(1418)
    (plan,) = sums.plans
    assert {model: share.steps for model, share in plan.shares.items()} == STEPS
    assert plan.shares["din"].baseline_s == pytest.approx(363)
    assert plan.seconds == pytest.approx(772.75) and plan.ratio == pytest.approx(2.0)
    assert plan.ratio_ci == pytest.approx((2 * math.exp(-0.02), 2 * math.exp(0.02)))
    assert plan.seconds_ci == pytest.approx((772.75 * math.exp(-0.021305), 772.75 * math.exp(0.021305)), rel=1e-5)


def test_the_steps_hold_for_all_plans_of_a_model(fabricate: Fabricated) -> None:
    """The median baseline of its records; a plan's seconds are that baseline over its own ratio, whatever the host's
    speed was when it was measured."""
    staged = [
        trained(fabricate, model, 1.0, opts={"stage": {}}, slower=1.2, created="2026-03-02T12:00:00Z")
        for model in STEP_S
    ]
    plans = by_name(sums_of(*fused(fabricate), *staged))
    # medians of two: 1.1 times the step, so 3,182, 9,642, 2,121 and 13,258 steps
    assert {m: s.steps for m, s in plans["[stage]"].shares.items()} == {
        "wdl": 3200,
        "din": 9600,
        "dien": 2100,
        "dlrm": 13_000,
    }
    expected = {"wdl": 352.0, "din": 348.48, "dien": 346.5, "dlrm": 343.2}
    for plan, ratios in (("[stage]", dict.fromkeys(FUSION, 1.0)), ("[fusion]", FUSION)):
        seconds = {model: share.seconds for model, share in plans[plan].shares.items()}
        assert seconds == pytest.approx({model: expected[model] / ratio for model, ratio in ratios.items()})


def test_the_best_of_each_model_is_a_plan_of_its_own(fabricate: Fabricated) -> None:
    staged = [trained(fabricate, m, r, opts={"stage": {}}) for m, r in (("wdl", 1.5), ("din", 1.1))]
    sums = sums_of(*fused(fabricate), *staged)
    assert sums is not None and [plan.name for plan in sums.plans] == [BEST, "[fusion]", "[stage]"]
    best, _, partial = sums.plans
    assert best.plans == {"wdl": "[stage]", "din": "[fusion]", "dien": "[fusion]", "dlrm": "[fusion]"}
    assert best.ratio == pytest.approx((1.5 * 2 * 4 * 1.6) ** 0.25)
    assert (partial.missing, partial.seconds, partial.ratio, partial.ratio_ci) == (("dien", "dlrm"), None, None, None)


def test_what_has_no_rank_does_not_count(fabricate: Fabricated) -> None:
    *rest, last = fused(fabricate)
    plan = by_name(sums_of(*rest, unranked=(last,)))["[fusion]"]
    assert plan.missing == ("dlrm",) and plan.seconds is None
    assert sums_of(unranked=(last,)) is None and sums_of() is None
    alone = trained(fabricate, "wdl", None, opts={})
    assert sums_of(alone) is None  # the plain loop by itself has no ratio


def test_only_records_that_can_be_compared_count(fabricate: Fabricated) -> None:
    """The newest record decides on the hardware, the newest of each model on its batch."""
    elsewhere = trained(fabricate, "wdl", 9.0, hardware="arm64", created="2026-02-01T12:00:00Z")
    small = trained(fabricate, "din", 9.0, batch=64, created="2026-02-01T12:00:00Z")
    older = trained(fabricate, "dien", 9.0, created="2026-02-01T12:00:00Z")
    sums = sums_of(elsewhere, small, older, *fused(fabricate))
    assert sums is not None and sums.hardware_class == "x86_64-2c-avx512"
    assert sums.plans[0].ratio == pytest.approx(2.0)
    serving: Result = fabricate(created="2026-04-01T12:00:00Z")[1].result
    assert sums_of(serving, *fused(fabricate)) == sums_of(*fused(fabricate))


def test_a_ratio_without_an_interval_leaves_none(fabricate: Fabricated) -> None:
    *rest, _ = fused(fabricate)
    plan = by_name(sums_of(*rest, trained(fabricate, "dlrm", 1.6, half=None)))["[fusion]"]
    assert (plan.seconds, plan.ratio) == pytest.approx((772.75, 2.0))
    assert (plan.seconds_ci, plan.ratio_ci) == (None, None)


def test_the_table_says_it(fabricate: Fabricated) -> None:
    def text(sums: TrainingSums | None) -> str:
        console = Console(width=200, no_color=True)
        with console.capture() as capture:
            console.print(training_view(sums))
        return capture.get()

    shown = text(sums_of(*fused(fabricate), trained(fabricate, "wdl", 1.5, opts={"stage": {}})))
    for part in ("11,000", "86.2 (4.00x)", "773 [756, 789]", "2.00 [1.96, 2.04]", "[stage] has no ranked record of"):
        assert part in shown
    assert text(None).strip() == "no ranked record of a training with a ratio"


def test_a_plan_with_other_options_is_another_plan(fabricate: Fabricated) -> None:
    """A newer run with a part switched off stands beside the whole plan, and not in its place."""
    half = [
        trained(fabricate, model, 1.1, opts={"fusion": {"fc": False}}, created="2026-03-02T12:00:00Z")
        for model in FUSION
    ]
    plans = by_name(sums_of(*fused(fabricate), *half))
    assert plans["[fusion]"].ratio == pytest.approx(2.0)
    assert plans["[fusion] (fusion.fc=False)"].ratio == pytest.approx(1.1)
