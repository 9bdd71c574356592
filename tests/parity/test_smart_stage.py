"""smart_stage on the models: no bit changes, the step asks for nothing that could be ahead, and the record says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backends.torch_training import TorchTraining
from optimizations.fusion.packed_rows import steps_within
from optimizations.fusion.torch_sequence import recurrent_handle
from optimizations.kernels.loader import loaded_functions
from optimizations.lowering import LoweringError
from optimizations.smart_stage import boundary
from optimizations.smart_stage.dependencies import Dependencies
from optimizations.smart_stage.known import Known
from optimizations.smart_stage.recipe import Call, Place, Recipe
from tests.parity.test_training_steps import CONFIGS, training_of
from zoo.layers.augru import Gru
from zoo.layers.derived import derived
from zoo.layers.ragged import step_mask

PLANS: dict[str, dict[str, Any]] = {"plain": {}, "fusion": {"fusion": {}}}
AHEAD = {
    ("wdl", "plain"): {"split_bags", "turned", "divisors", "step_mask"},
    ("din", "plain"): {"real_steps", "step_mask", "turned"},
    ("dien", "plain"): {"pack", "followed", "real_steps", "step_mask", "turned", "not_empty"},
    ("dlrm", "plain"): {"split_bags", "turned", "divisors", "step_mask"},
    ("wdl", "fusion"): {"bag_entries", "row_order"},
    ("din", "fusion"): {"real_rows", "real_count", "row_starts", "row_order"},
    ("dien", "fusion"): {"pairs_of", "steps_within", "real_rows", "real_count", "row_order"},
    ("dlrm", "fusion"): {"bag_entries", "row_order"},
}
"""At least."""


def watched_training(name: str, opts: dict[str, Any], **changes: Any) -> tuple[TorchTraining, list[Known]]:
    """A training, and what was known of every input that it has learnt from."""
    session, known = training_of(name, opts, **changes), []
    learn = session._steps.learn

    def watched(given: Any) -> Any:
        known.extend(part.known for part in given)
        return learn(given)

    session._steps.learn = watched  # type: ignore[method-assign]
    return session, known


@pytest.mark.parametrize("plan", list(PLANS))
@pytest.mark.parametrize("name", list(CONFIGS))
def test_it_changes_no_bit_and_leaves_no_call_to_the_step(name: str, plan: str) -> None:
    plain = training_of(name, {**PLANS[plan], "stage": {}}, average=0.0)
    smart, known = watched_training(name, {**PLANS[plan], "smart_stage": {"depth": 3, "threads": 2}}, average=0.0)
    for session in (plain, smart):
        assert session.train(4) == 160
        assert session.read(4) == 140
        assert session.hold(3) == session.compute() == 100  # the fifth batch has 20 samples
    for (path, mine), theirs in zip(smart.state().items(), plain.state().values(), strict=True):
        assert np.array_equal(mine, theirs), path
    assert len(known) == 7 and all(each.asked > 0 and each.missed == 0 for each in known)
    built = smart.report[-1]["built"]
    assert smart.report[-1]["matched"] == ["train.derived", "train.prefetch", "train.prefetch_threads"]
    assert AHEAD[name, plan] <= set(built["ahead"]), built
    assert built["summary"].startswith("ahead with the features: ")


@pytest.mark.parametrize("name", list(CONFIGS))
@settings(max_examples=3)
@given(size=st.integers(1, 60), plan=st.sampled_from(list(PLANS)))
def test_batches_of_any_size_find_what_was_made_for_them(name: str, size: int, plan: str) -> None:
    """The recipe was read off small steps: every other one must ask for the same, with its own sizes."""
    session, known = watched_training(name, {**PLANS[plan], "smart_stage": {}}, batch_size=size, average=0.0)
    plain = training_of(name, PLANS[plan], batch_size=size, average=0.0)
    assert session.train(3) == plain.train(3)
    for (path, mine), theirs in zip(session.state().items(), plain.state().values(), strict=True):
        assert np.array_equal(mine, theirs), path
    # A step of one or two samples may go another way than those that were watched.
    assert size < 8 or all(each.missed == 0 for each in known)


@pytest.mark.parametrize("name", ["din", "dien"])
def test_it_composes_with_parts(name: str) -> None:
    parts = {"fusion": {}, "micro_batch": {"parts": 3}}
    both, alone = training_of(name, {**parts, "smart_stage": {}}), training_of(name, parts)
    for session in (both, alone):
        assert session.train(5) == 180
    for (path, mine), theirs in zip(both.state().items(), alone.state().values(), strict=True):
        assert np.array_equal(mine, theirs), path


def test_looking_for_the_boundary_moves_nothing() -> None:
    """Parameters, averages of Dice, the generator behind dropout, and the batches stay where they were."""
    torch.manual_seed(11)
    plain, smart = (training_of("dien", opts, dropout=0.3) for opts in ({}, {"smart_stage": {}}))
    for (path, mine), theirs in zip(smart.state().items(), plain.state().values(), strict=True):
        assert np.array_equal(mine, theirs), path
    torch.manual_seed(11)
    plain.train(2)
    torch.manual_seed(11)
    smart.train(2)
    for (path, mine), theirs in zip(smart.state().items(), plain.state().values(), strict=True):
        assert np.array_equal(mine, theirs), path


@pytest.mark.parametrize("name", list(CONFIGS))
def test_in_fused_training_nothing_stays_that_could_be_made_ahead(name: str) -> None:
    """The trace is the judge: what a later change computes from inputs in the step, outside of a derived function,
    would stand here."""
    built = training_of(name, {"fusion": {}, "smart_stage": {}}).report[-1]["built"]
    assert built["left"] == {}, built


def test_a_handle_that_is_freed_while_a_result_is_derived_is_nobody_s_doing() -> None:
    """The garbage collector frees one whenever it likes: now and then this kept a result in the step."""
    handles, lengths = [recurrent_handle(Gru(3, 4), "fp32")], torch.arange(3)
    dependencies = Dependencies([lengths], loaded_functions(), inside=lambda: True)
    with dependencies:
        handles.clear()
        steps_within(lengths, 9)
    assert dependencies.moved == {"recarena_real_steps": 1} and not dependencies.impure


@derived
def breaks(lengths: torch.Tensor) -> torch.Tensor:
    raise OSError("no order can be found")


def test_an_error_ahead_ends_the_training_with_its_traceback() -> None:
    session = training_of("din", {"smart_stage": {}})
    session._steps._recipe = Recipe((Call(breaks, (Place(-1, 0),)),))  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="no order can be found") as caught:
        session.train(3)
    assert "breaks" in [frame.name for frame in caught.traceback]


def test_a_model_that_writes_what_it_was_given_keeps_its_inputs_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared inputs alone are then ahead, and the record says why."""

    def writes(lengths: torch.Tensor, steps: int) -> torch.Tensor:
        found = step_mask.__wrapped__(lengths, steps)  # type: ignore[attr-defined]
        lengths += 1
        return found

    monkeypatch.setattr("zoo.layers.attention.step_mask", derived(writes))
    report = training_of("din", {"smart_stage": {}}).report[-1]
    assert report["matched"] == ["train.prefetch", "train.prefetch_threads"]
    assert (
        report["fallbacks"][0]["path"] == "train.derived" and "changed by the step" in report["fallbacks"][0]["reason"]
    )


def test_a_result_that_comes_out_otherwise_ahead_is_refused() -> None:
    calls = [0]

    @derived
    def counts(lengths: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return lengths + calls[0]

    lengths = torch.tensor([1, 2])
    known = Known()
    known.make(counts, (lengths,))
    again, same = (boundary.Seen(counts, (lengths,), lengths + number, call=0) for number in (2, 1))
    boundary._check(known, [same])
    outer = boundary.Seen(counts, (lengths,), lengths, inner=[same, again])
    with pytest.raises(LoweringError, match="counts gives something else"):
        boundary._check(known, [outer])
