"""The parts of a training batch side by side: gradients of each in a thread of its own, then one update from their sum.

A part's thread reads its rows, engineers its features, looks up, and goes forward and backward. What one part has to
know of the others (statistics of the batch, the number of terms of a loss) it gets at a ``Meeting``.
"""

from __future__ import annotations

import copy
import functools
import threading
import weakref
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from optimizations.lowering import LoweringError
from optimizations.micro_batch.meeting import Meeting
from optimizations.micro_batch.shared_dice import SharedDice
from zoo.layers.mlp import Dice
from zoo.layers.tensors import TrainingInput
from zoo.learning import Given, Learner, gradients
from zoo.losses import Share
from zoo.models.ctr_model import CtrModel
from zoo.training_batches import Draw, TrainingBatches

Work = Callable[[int], Any]
Outcome = tuple[int, Any, BaseException | None]
"""Place, what its work returned, what it raised."""


class Pipelines:
    """Steps of ``learner`` in ``parts`` threads, which share out ``threads`` threads of the framework.

    The parameters stay those of ``learner.model``; each thread has a copy of its modules on the same memory, with
    gradients of its own. Raises LoweringError for a model that knows its batch otherwise than by ``Dice``.
    """

    def __init__(self, batches: TrainingBatches, learner: Learner, parts: int, threads: int) -> None:
        self._batches, self._learner, self._parts = batches, learner, parts
        self._meeting: Meeting[Any] = Meeting(1)
        self._models = [replica(learner.model, lambda: self._meeting, place) for place in range(parts)]
        torch.set_num_threads(max(1, threads // parts))
        self._crew = Crew(parts)
        torch.set_num_threads(threads)  # of the thread that updates

    def prepare(self, draw: Draw) -> list[Given]:
        """The inputs of all parts, one after another; any thread may do so ahead."""
        parts = [self._input(part) for part in self._batches.cut(draw, self._parts)]
        steps = max(part.input.features.history.shape[1] for part in parts)
        return [padded(part, steps) for part in parts]

    def read(self, draw: Draw) -> list[Given]:
        """The inputs of all parts, each in the thread of its part."""
        parts = self._batches.cut(draw, self._parts)
        return self._side_by_side(len(parts), lambda place: self._padded_input(place, parts[place]))

    def learn(self, given: Sequence[Given]) -> None:
        """One update from parts whose inputs are there."""
        samples = sum(len(part.labels) for part in given)
        self._step(len(given), lambda place: self._gradients(place, given[place], samples))

    def step(self, draw: Draw) -> None:
        """One update, inputs included."""
        parts, samples = self._batches.cut(draw, self._parts), len(draw.samples)
        self._step(len(parts), lambda place: self._gradients(place, self._padded_input(place, parts[place]), samples))

    def _input(self, part: Draw) -> Given:
        return self._learner.engineer(self._batches.read(part))

    def _padded_input(self, place: int, part: Draw) -> Given:
        """As long as the longest part: so long are the histories of the whole batch."""
        given = self._input(part)
        if not given.input.features.history.shape[2]:
            return given
        return padded(given, max(self._meeting.exchange(place, given.input.features.history.shape[1])))

    def _step(self, parts: int, work: Work) -> None:
        self._learner.begin()
        for model in self._models:
            model.train()
        self._side_by_side(parts, work)
        add_up(self._learner.model, self._models)
        self._learner.update()

    def _gradients(self, place: int, given: Given, samples: int) -> None:
        model = self._models[place]
        share = Share(len(given.labels) / samples, 0.0)
        if model.needs_negatives:
            own = model.auxiliary_terms(given.input)
            share = share._replace(auxiliary=own / max(1, sum(self._meeting.exchange(place, own))))
        gradients(model, given, share)

    def _side_by_side(self, parts: int, work: Work) -> list[Any]:
        self._meeting = Meeting(parts)
        return self._crew.run(parts, work, self._meeting.give_up)


def replica(model: CtrModel, meeting: Callable[[], Meeting[Any]], place: int) -> CtrModel:
    """A copy of the model's modules: parameters on the same memory with gradients of their own, the same buffers, and
    ``SharedDice`` in place of ``Dice``."""
    for path, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            raise LoweringError(
                f"{path} normalises by its batch ({type(module).__name__}): parts would learn otherwise"
            )
    memo: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    memo |= {id(own): nn.Parameter(own.detach(), own.requires_grad) for own in model.parameters()}
    copied = copy.deepcopy(model, memo)
    for path, module in list(copied.named_modules()):
        if isinstance(module, Dice):
            parent, _, name = path.rpartition(".")
            setattr(copied.get_submodule(parent), name, SharedDice(module, meeting, place))
    return copied


def padded(given: Given, steps: int) -> Given:
    """With histories of ``steps`` steps. What is padded is looked up, too: the row of the padding is then touched, and
    moved by ``embedding_l2``, where it is in the whole batch."""
    features, negatives = given.input
    more = (0, 0, 0, steps - features.history.shape[1])
    features = features._replace(history=F.pad(features.history, more))
    return given._replace(
        input=TrainingInput(features, None if negatives is None else F.pad(negatives, more)),
    )


def add_up(model: nn.Module, replicas: Sequence[nn.Module]) -> None:
    """The gradients of the replicas, added in their order, become those of ``model``; the replicas' own are dropped."""
    for own, *copies in zip(model.parameters(), *(each.parameters() for each in replicas), strict=True):
        found = [each.grad for each in copies if each.grad is not None]
        own.grad = _sum(found) if found else None
        for each in copies:
            each.grad = None


def _sum(found: Sequence[Tensor]) -> Tensor:
    if not found[0].is_sparse:
        return functools.reduce(Tensor.add_, found[1:], found[0])
    indices, values = ([getattr(each, name)() for each in found] for name in ("_indices", "_values"))
    return torch.sparse_coo_tensor(torch.cat(indices, 1), torch.cat(values), found[0].shape, check_invariants=False)


class Crew:
    """``count`` threads that work when they are asked to, and wait without using the processor otherwise. They keep
    nothing of the work behind them, and end when this object is gone."""

    def __init__(self, count: int) -> None:
        self._orders: list[SimpleQueue[Work | None]] = [SimpleQueue() for _ in range(count)]
        self._done: SimpleQueue[Outcome] = SimpleQueue()
        for place, orders in enumerate(self._orders):
            threading.Thread(target=_serve, args=(place, orders, self._done), daemon=True).start()
        weakref.finalize(self, _dismiss, self._orders)
        self.run(count, lambda place: torch.get_num_threads(), lambda: None)  # each takes its number of threads now

    def run(self, count: int, work: Work, give_up: Callable[[], None]) -> list[Any]:
        """``work(0)`` ... ``work(count - 1)``, each in its thread; returns what they return.

        Raises the first exception of any of them, after ``give_up`` and once all have ended.
        """
        for orders in self._orders[:count]:
            orders.put(work)
        results, failure = [None] * count, None
        for _ in range(count):
            place, results[place], error = self._done.get()
            if error is not None and failure is None:
                failure = error
                give_up()
        if failure is not None:
            raise failure
        return results


def _dismiss(orders: Sequence[SimpleQueue[Work | None]]) -> None:
    for each in orders:
        each.put(None)


def _serve(place: int, orders: SimpleQueue[Work | None], done: SimpleQueue[Outcome]) -> None:
    torch.set_flush_denormal(True)  # of this thread
    while (work := orders.get()) is not None:
        outcome = _outcome(place, work)
        del work  # it knows the model, and whoever hears that it is done may be about to drop that
        done.put(outcome)
        del outcome


def _outcome(place: int, work: Work) -> Outcome:
    try:
        return place, work(place), None
    except BaseException as error:  # whoever waits for the part must hear of it, whatever it is
        return place, None, error
