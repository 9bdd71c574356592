"""Training plans by one number: seconds of fixed steps, summed over the models.

Each model has as many steps as its baseline takes in about the same time, so that none weighs more than another in a
plain sum. That is the rule of the Tianchi contest on DeepRec (2022), whose models' baselines cost 326 to 380 s each.
The geometric mean of the ratios stands beside it: it does not depend on how the steps are chosen.

A plan's seconds are those of the baseline over the ratio that its trial measured, since records of different hours
have seen a host of different speeds. Records without a rank (a failed gate, a noisy host) do not count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from harness.console.report import plan_text
from harness.record.result import Result
from harness.record.side_result import Interval
from leaderboard.store import Board, Workload
from zoo.configs import MODELS

BASELINE_S = 350.0
"""What each model's baseline is to cost."""
DIGITS = 2
"""Significant digits of the steps: a number that can be said, and that a baseline a little faster shares."""
BEST = "best of each"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A model's steps, what they cost, and the ratio of the plan's speed to the baseline's with its interval."""

    steps: int
    baseline_s: float
    ratio: float
    ratio_ci: Interval | None

    @property
    def seconds(self) -> float:
        """What the steps cost with the plan."""
        return self.baseline_s / self.ratio

    @property
    def log_half_width(self) -> float | None:
        """Half the interval of log(ratio)."""
        return None if self.ratio_ci is None else 0.5 * math.log(self.ratio_ci[1] / self.ratio_ci[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSum:
    """A plan in all models that it has a ranked record of. plans: by model, what it stands for there."""

    name: str
    plans: Mapping[str, str]
    shares: Mapping[str, Share]

    @property
    def missing(self) -> tuple[str, ...]:
        """Models without a ranked record: there is no sum then."""
        return tuple(sorted(set(MODELS) - set(self.shares)))

    @property
    def seconds(self) -> float | None:
        """The sum."""
        return None if self.missing else sum(share.seconds for share in self.shares.values())

    @property
    def seconds_ci(self) -> Interval | None:
        """Its interval: half widths of independent trials add up as squares."""
        total, halves = self.seconds, self._halves()
        if total is None or halves is None:
            return None
        errors = (share.seconds * half for share, half in zip(self.shares.values(), halves, strict=True))
        half = math.sqrt(sum(error * error for error in errors)) / total
        return total * math.exp(-half), total * math.exp(half)

    @property
    def ratio(self) -> float | None:
        """The geometric mean of the ratios."""
        return None if self.missing else math.exp(self._mean_log())

    @property
    def ratio_ci(self) -> Interval | None:
        """Its interval, by the same rule."""
        halves = self._halves()
        if self.missing or halves is None:
            return None
        half = math.sqrt(sum(each * each for each in halves)) / len(halves)
        return math.exp(self._mean_log() - half), math.exp(self._mean_log() + half)

    def _mean_log(self) -> float:
        return sum(math.log(share.ratio) for share in self.shares.values()) / len(self.shares)

    def _halves(self) -> list[float] | None:
        halves = [share.log_half_width for share in self.shares.values()]
        known = [half for half in halves if half is not None]
        return known if len(known) == len(halves) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSums:
    """Plans by rising seconds, those without a sum last. workloads: by model, that of all records that count.
    baseline_s: the same sum for ``opt=[]``, None where a model is missing."""

    hardware_class: str
    workloads: Mapping[str, Workload]
    baseline_s: float | None
    plans: tuple[PlanSum, ...]


def training_sums(board: Board) -> TrainingSums | None:
    """Of the newest record of each plan on each model; a model's records are of one workload, that of its newest one,
    and all of the hardware of the newest of all. None without a ranked record of a training that has a ratio."""
    entries = [entry for group in board.groups.values() for entry in group if not entry.unranked]
    found = [entry.result for entry in entries if entry.result.trains and entry.result.speedup[0] is not None]
    found.sort(key=lambda result: result.created)
    if not found:
        return None
    hardware = found[-1].hardware_class
    found = [result for result in found if result.hardware_class == hardware]
    workloads = {str(result.trial["model"]): Workload.of(result) for result in found}
    found = [result for result in found if Workload.of(result) == workloads[result.trial["model"]]]
    costs = {model: _cost([r for r in found if r.trial["model"] == model]) for model in workloads}
    plans = _plans({(plan_text(result), str(result.trial["model"])): result for result in found}, costs)
    return TrainingSums(
        hardware_class=hardware,
        workloads=workloads,
        baseline_s=None if set(MODELS) - set(costs) else sum(seconds for _, seconds in costs.values()),
        plans=tuple(sorted(plans, key=lambda plan: (len(plan.missing), plan.seconds or 0.0, plan.name))),
    )


def _cost(results: Sequence[Result]) -> tuple[int, float]:
    """Steps of a model, and the seconds that they cost its baseline in the median of its records."""
    step_s = median(_step_s(result) for result in results)
    exact = BASELINE_S / step_s
    scale = 10 ** max(0, math.floor(math.log10(exact)) + 1 - DIGITS)
    steps = max(1, round(exact / scale) * scale)
    return steps, steps * step_s


def _step_s(result: Result) -> float:
    train = result.baseline.train
    assert train is not None and train.steps
    return train.seconds / train.steps


def _plans(newest: Mapping[tuple[str, str], Result], costs: Mapping[str, tuple[int, float]]) -> list[PlanSum]:
    by_plan: dict[str, dict[str, Share]] = {}
    for (plan, model), result in newest.items():
        ratio, bounds, _ = result.speedup
        assert ratio is not None
        steps, baseline_s = costs[model]
        by_plan.setdefault(plan, {})[model] = Share(steps=steps, baseline_s=baseline_s, ratio=ratio, ratio_ci=bounds)
    sums = [PlanSum(name=p, plans=dict.fromkeys(shares, p), shares=_sorted(shares)) for p, shares in by_plan.items()]
    if len(sums) > 1:
        best = {model: _fastest(sums, model) for model in costs}
        shares = {model: by_plan[plan][model] for model, plan in best.items()}
        sums.append(PlanSum(name=BEST, plans=best, shares=_sorted(shares)))
    return sums


def _fastest(plans: Sequence[PlanSum], model: str) -> str:
    return max((plan for plan in plans if model in plan.shares), key=lambda plan: plan.shares[model].ratio).name


def _sorted(shares: Mapping[str, Share]) -> dict[str, Share]:
    return dict(sorted(shares.items()))
