"""Where a step's stage ends: found by taking some steps, watching what depends on a parameter, and learning nothing.

What is found is proven on these steps: no operator within what is made ahead reads anything that depends on a
parameter, nobody changes what it is made of or what was made, and made ahead it is the same to the last bit.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from optimizations.kernels.loader import loaded_functions
from optimizations.lowering import LoweringError
from optimizations.micro_batch.pipelines import padded
from optimizations.smart_stage.dependencies import Dependencies
from optimizations.smart_stage.known import Known, tensors_in
from optimizations.smart_stage.recipe import Recipe, Seen, Watched, find_recipe
from zoo.layers.derived import derived_by
from zoo.learning import Given, Learner, gradients
from zoo.models.ctr_model import CtrModel
from zoo.training_batches import TrainingBatches

SAMPLES, MORE_STEPS = (11, 13, 17), (3, 7, 13)
"""Of the watched steps: their samples, and by how many steps histories are padded beyond the longest one. Sizes that do
not come along by chance, lest one be taken for another, or for a constant."""


class Boundary(NamedTuple):
    """What is made ahead; and for the record: its "summary", results "ahead" by name, and operators that depend on no
    parameter and are "left" in the step, by name."""

    recipe: Recipe
    report: dict[str, Any]


def find_boundary(learner: Learner, batches: TrainingBatches) -> Boundary:
    """Watch small steps of ``learner`` on samples of ``batches``. Neither of the two is moved by it.

    Raises LoweringError where what a step derives from its inputs is changed by somebody, or comes out otherwise ahead,
    and where there are too few samples.
    """
    givens = _givens(learner, batches)
    seen = [_watch(learner, given) for given in givens]
    recipe = find_recipe([given.input for given in givens], [step.calls for step, _ in seen])
    for given, (step, _) in zip(givens, seen, strict=True):
        _check(recipe.make(given.input), step.calls)
    step, left = seen[-1]
    return Boundary(recipe, _report(recipe, step.calls, left))


def _givens(learner: Learner, batches: TrainingBatches) -> list[Given]:
    """Inputs of a few samples. Padding beyond the longest history means nothing, and is of a size that can be told."""
    if len(batches) < max(SAMPLES):
        raise LoweringError(f"fewer than {max(SAMPLES)} samples to watch a step on")
    smaller = [batches.of_size(samples) for samples in SAMPLES]
    givens = [learner.engineer(each.read(each.draw())) for each in smaller]
    longest = max(given.input.features.history.shape[1] for given in givens)
    if not givens[0].input.features.history.shape[2]:
        return givens
    return [padded(given, longest + more) for given, more in zip(givens, MORE_STEPS, strict=True)]


def _watch(learner: Learner, given: Given) -> tuple[Watched, Counter[str]]:
    """What a step calls of derived functions, and its operators outside of them that depend on no parameter."""
    held: list[tuple[Tensor, npt.NDArray[Any]]] = []

    def hold(tensor: Tensor) -> None:
        dependencies.hold(tensor)
        held.append((tensor, np.array(tensor.numpy())))

    def done(call: Seen) -> None:
        for tensor in () if call.impure else tensors_in(call.result):
            hold(tensor)

    inputs = [*tensors_in(given.input), given.labels]
    dependencies = Dependencies(inputs, loaded_functions(), lambda: watched.inside)
    watched = Watched(lambda: (dependencies.moved.total(), dependencies.impure.total()), done)
    for each in inputs:
        hold(each)
    with _untouched(learner.model):
        learner.begin()
        with derived_by(watched), dependencies:
            gradients(learner.model, given._replace(known=watched))
            learner.derive()
        learner.begin()
    if any(not np.array_equal(tensor.numpy(), before, equal_nan=True) for tensor, before in held if before.size):
        raise LoweringError("what a step derives from its inputs, or these themselves, are changed by the step")
    return watched, dependencies.left


@contextlib.contextmanager
def _untouched(model: CtrModel) -> Iterator[None]:
    """Afterwards buffers and the framework's generator are as they were."""
    buffers, drawn = [buffer.clone() for buffer in model.buffers()], torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(drawn)
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)


def _check(known: Known, calls: Sequence[Seen]) -> None:
    for seen in calls:
        if seen.call is None:
            _check(known, seen.inner)
        elif not _same(known.made[seen.call], seen.result):
            raise LoweringError(f"{seen.function.__name__} gives something else when it is made ahead")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _report(recipe: Recipe, calls: Sequence[Seen], left: Counter[str]) -> dict[str, Any]:
    ahead, stay = Counter(call.function.__name__ for call in recipe.calls), Counter(left)
    operators = _moved(calls, stay)
    stays = f"{stay.total()} stay ({', '.join(sorted(stay))})" if stay else "none stays"
    return {
        "summary": f"ahead with the features: {operators} operators that depend on no parameter, as {ahead.total()} "
        f"results ({', '.join(sorted(ahead))}); {stays}",
        "ahead": dict(sorted(ahead.items())),
        "left": dict(sorted(stay.items())),
    }


def _moved(calls: Sequence[Seen], stay: Counter[str]) -> int:
    """Operators of the calls that are made ahead; those of the others are added to what is to ``stay``."""
    moved = 0
    for seen in calls:
        if seen.call is not None:
            moved += seen.operators
            continue
        moved += _moved(seen.inner, stay)
        own = seen.operators - sum(each.operators for each in seen.inner)
        stay.update({seen.function.__name__: own} if own else {})
    return moved
