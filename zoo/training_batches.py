"""The batches of a training, from a seed: which samples in which order, and what is read of each. Numpy only.

Drawing a batch is cheap and has to happen in order, since everything random comes from one stream. Reading it may
happen at any time and on any thread.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from zoo.schema import Batch, Float32, Int64, Split, take_ragged


class Draw(NamedTuple):
    """A batch before it is read: sample numbers [N]; for each behaviour of their users, in order, the place [T] of a
    sampled one among all behaviours of the split, or None where the model wants none."""

    samples: Int64
    negatives: Int64 | None = None


class Reading(NamedTuple):
    """A batch as it is read: raw columns with U = N, labels [N], and a raw behaviour [T, H] per behaviour or None."""

    batch: Batch
    labels: Float32
    negatives: Int64 | None = None


class TrainingBatches:
    """Batches of the samples of ``split`` that have a label: a new order in each epoch, without end.

    Sampled behaviours are drawn from all behaviours of the split, so in proportion to their popularity. ``reordering``:
    a seed by which the samples of each batch change places, each with its own sampled behaviours: the same mathematics,
    its sums in another order.
    """

    def __init__(
        self, split: Split, batch_size: int, seed: int, with_negatives: bool, reordering: int | None = None
    ) -> None:
        self._split, self._size, self._with_negatives = split, batch_size, with_negatives
        self._reordering = None if reordering is None else np.random.default_rng(reordering)
        self._samples = np.flatnonzero(~np.isnan(split.labels))
        self._seed, self._rng = seed, np.random.default_rng(seed)
        self._first_order: Int64 | None = None
        self._order = self._samples[:0]
        self._epoch_began = self._rng.bit_generator.state
        self.steps = 0
        self.per_epoch = -(-len(self._samples) // batch_size)

    def __len__(self) -> int:
        """Samples of an epoch."""
        return len(self._samples)

    def draw(self) -> Draw:
        """The next batch; the last one of an epoch may be smaller."""
        number = self.steps % self.per_epoch
        if number == 0:
            self._epoch_began = self._rng.bit_generator.state
            self._order = self._rng.permutation(self._samples)
        self.steps += 1
        samples = self._order[number * self._size : (number + 1) * self._size]
        negatives = None
        if self._with_negatives:
            negatives = self._rng.integers(0, len(self._split.history), self._places(samples)[-1])
        if self._reordering is None:
            return Draw(samples, negatives)
        order = self._reordering.permutation(len(samples))
        if negatives is not None:
            negatives, _ = take_ragged(negatives, self._places(samples), order)
        return Draw(samples[order], negatives)

    def state_dict(self) -> dict[str, Any]:
        """The place in the order of batches, and what is random from there on."""
        reordering = None if self._reordering is None else self._reordering.bit_generator.state
        return {
            "steps": self.steps,
            "epoch_began": self._epoch_began,
            "random": self._rng.bit_generator.state,
            "reordering": reordering,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where batches of the same split, size and seed stood."""
        self.steps, self._epoch_began = state["steps"], state["epoch_began"]
        self._rng.bit_generator.state = self._epoch_began
        if self.steps:
            self._order = self._rng.permutation(self._samples)
        self._rng.bit_generator.state = state["random"]
        if self._reordering is not None:
            self._reordering.bit_generator.state = state["reordering"]

    def fork(self) -> TrainingBatches:
        """The same batches from here on, drawn without touching these."""
        other = copy.copy(self)
        other._rng, other._reordering = copy.deepcopy((self._rng, self._reordering))
        return other

    def at(self, step: int) -> TrainingBatches:
        """Batches from the ``step``-th one of the first epoch on, in its order, drawn without touching these. What else
        is random of them follows from the seed and ``step``, whatever was drawn before. ValueError outside of an epoch.
        """
        if not 0 <= step < self.per_epoch:
            raise ValueError(f"step {step} is not one of the {self.per_epoch} of an epoch")
        if self._first_order is None:
            self._first_order = np.random.default_rng(self._seed).permutation(self._samples)
        other = self.fork()
        other._rng = np.random.default_rng((self._seed, step) if step else self._seed)
        other._order, other.steps = self._first_order, step
        return other

    def of_size(self, samples: int) -> TrainingBatches:
        """Batches of another size of the same samples, from the beginning of an epoch, drawn without touching these."""
        other = self.fork()
        other._size, other.steps = samples, 0
        other.per_epoch = -(-len(self._samples) // samples)
        return other

    def read(self, draw: Draw) -> Reading:
        """The columns of a drawn batch."""
        negatives = None if draw.negatives is None else self._split.history[draw.negatives]
        return Reading(self._split.training_batch(draw.samples), self._split.labels[draw.samples], negatives)

    def cut(self, draw: Draw, parts: int) -> list[Draw]:
        """At most ``parts`` consecutive parts of as equal size as can be; none is empty."""
        parts = max(1, min(parts, len(draw.samples)))
        spans = list(itertools.pairwise(len(draw.samples) * k // parts for k in range(parts + 1)))
        if draw.negatives is None:
            return [Draw(draw.samples[start:stop]) for start, stop in spans]
        places = self._places(draw.samples)
        return [Draw(draw.samples[start:stop], draw.negatives[places[start] : places[stop]]) for start, stop in spans]

    def _places(self, samples: Int64) -> Int64:
        """Where the behaviours of each sample's user begin [N + 1] among those of all of them."""
        users = self._split.user_of[samples]
        places = np.zeros(len(samples) + 1, np.int64)
        np.cumsum(self._split.history_offsets[users + 1] - self._split.history_offsets[users], out=places[1:])
        return places


def evaluation_steps(per_epoch: int, evaluations: int) -> set[int]:
    """After which steps of an epoch, counted from 1, the fit loop takes the validation AUC."""
    return {round(per_epoch * part / evaluations) for part in range(1, evaluations + 1)}


def samples_of_steps(first: int, count: int, samples: int, batch_size: int) -> int:
    """Samples in steps [first, first + count) of a training with ``samples`` an epoch, counted from 0."""
    per_epoch = -(-samples // batch_size)

    def before(step: int) -> int:
        epochs, number = divmod(step, per_epoch)
        return epochs * samples + min(number * batch_size, samples)

    return before(first + count) - before(first)
