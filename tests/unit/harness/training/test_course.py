"""Where a training is evaluated, when it ends, what it keeps and when it reached a target: the fit loop's rules."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.record.training_rows import Evaluation
from harness.training.course import FINER, is_over, kept_of, looks, median_seconds, reached
from harness.training.target import target_from
from zoo.fitting import EarlyStopping
from zoo.training_batches import evaluation_steps
from zoo.training_config import TrainingConfig


def row(step: int, valid_auc: float, decides: bool = True, before: int | None = None, seconds: int = 1) -> Evaluation:
    """An evaluation after ``step`` steps."""
    first = step - 1 if before is None else before
    return Evaluation(
        side="baseline", seed=1, first_step=first, steps=step - first, samples=1, started_ns=0, cpu_ns=0, keep_cpu_ns=0,
        ended_ns=seconds * 10**9, decides=int(decides), valid_auc=valid_auc,
    )  # fmt: skip


@given(per_epoch=st.integers(1, 200), epochs=st.integers(1, 4), evaluations=st.integers(1, 7))
def test_looks_are_those_of_the_fit_loop_with_at_most_three_between(
    per_epoch: int, epochs: int, evaluations: int
) -> None:
    found = looks(per_epoch, TrainingConfig(max_epochs=epochs, evaluations=evaluations))
    steps = [look.step for look in found]
    assert steps == sorted(set(steps)) and steps[-1] == epochs * per_epoch and found[-1].decides
    due = evaluation_steps(per_epoch, evaluations)
    deciding = [step for step in range(1, epochs * per_epoch + 1) if (step - 1) % per_epoch + 1 in due]
    assert [look.step for look in found if look.decides] == deciding
    for start, stop in zip([0, *deciding], deciding, strict=False):
        between = [step for step in steps if start < step < stop]
        assert len(between) == min(FINER - 1, stop - start - 1)


@given(st.lists(st.tuples(st.sampled_from([0.5, 0.6, 0.7, 0.8]), st.booleans()), max_size=12))
def test_what_is_kept_is_what_early_stopping_keeps(aucs: list[tuple[float, bool]]) -> None:
    rows = [row(step, value, decides) for step, (value, decides) in enumerate(aucs, start=1)]
    model = torch.nn.Linear(1, 1)
    stopping = EarlyStopping(model)
    for each in rows:
        if each.decides:
            stopping.observe(each.valid_auc, each.step)
    best, stale = kept_of(rows)
    assert stale == stopping.stale
    assert (0 if best is None else best.step) == stopping.best_step
    for patience in (1, 2, 3):
        assert is_over(rows, 100, patience) == (bool(rows) and stopping.stale >= patience)


def test_the_last_step_ends_it_whatever_its_patience() -> None:
    rows = [row(1, 0.5), row(2, 0.6)]
    assert is_over(rows, 2, 9) and not is_over(rows, 3, 9) and not is_over([], 0, 1)


def test_a_target_is_reached_where_it_is_first_found() -> None:
    rows = [row(3, 0.6, False, 0, 2), row(6, 0.72, False, 3, 3), row(9, 0.69, True, 6, 4), row(12, 0.8, True, 9, 5)]
    assert reached(rows, 0.70) == (6, 5.0)
    assert reached(rows, 0.75) == (12, 14.0)
    assert reached(rows, 0.81) is None
    assert reached([row(1, math.nan), row(2, 0.7)], 0.7) == (2, 2.0)


def test_the_median_counts_what_was_never_reached_as_endless() -> None:
    assert median_seconds([3.0, 1.0, 2.0]) == 2.0 and median_seconds([4.0, 2.0]) == 3.0
    assert median_seconds([3.0, None, 2.0]) == 3.0
    assert median_seconds([3.0, None]) is None and median_seconds([None]) is None and median_seconds([]) is None


def test_the_target_is_the_median_less_what_is_no_difference() -> None:
    assert target_from([0.74, 0.70, 0.72]) == pytest.approx(0.719)
    assert target_from([0.70, 0.72]) == pytest.approx(0.709)
