"""What lies behind the lookups, compiled by XLA: for fixed sizes, so samples and steps are padded to few of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.configs import ModelConfig
from zoo.schema import MISSING_ID, Batch, Rows, Schema, Side
from zoo.tensorflow.lookups import OF_USERS, Found
from zoo.tensorflow.models import Logit
from zoo.tensorflow.parameters import Parameters

LARGEST = 2**20
WARM_SAMPLES = 128
SMALL = (4, 16)
"""Below 32 samples a query has so little work that padding costs less than more sizes to compile."""


def sample_sizes() -> list[int]:
    """Samples that are compiled for: a few small sizes, then powers of two."""
    return [*SMALL, *(2**power for power in range(5, LARGEST.bit_length()))]


def step_sizes(longest: int) -> list[int]:
    """Steps that are compiled for: one, those of the longest history, and doublings of them."""
    return [1, *(longest * 2**power for power in range(LARGEST.bit_length()) if 1 < longest * 2**power <= LARGEST)]


def compiled_logit(
    model: Logit, config: ModelConfig, parameters: Parameters, found: Found, steps: Any, longest: int
) -> Any:
    """Logits [N] of ``model``. Padding is sample upon sample of zeros without a history, and is cut off again."""
    users, count = tf.shape(found.lengths)[0], tf.shape(found.item)[0]
    more_users, more_samples = (_next(number, sample_sizes()) - number for number in (users, count))
    more_steps = _next(steps, step_sizes(longest)) - steps

    def padded(name: str, x: Any) -> Any:
        if x is None:
            return None
        ends = [more_users if name in OF_USERS else more_samples] + [0] * (x.shape.rank - 1)
        if name == "history":
            ends[1] = more_steps
        return tf.pad(x, [[0, end] for end in ends])

    given = Found(**{name: padded(name, x) for name, x in found._asdict().items()})

    @tf.function(jit_compile=True, autograph=False)
    def compiled(given: Found, steps: Any) -> Any:
        return model(config, parameters, given, steps)

    return compiled(given, steps)[:count]


def warm_batches(schema: Schema) -> Iterator[Batch]:
    """A query of each size up to ``WARM_SAMPLES`` samples and the longest history: whoever meets a size first waits for
    its compilation."""
    steps = [size for size in step_sizes(schema.max_history) if size <= schema.max_history] if schema.history else [0]
    for samples in sample_sizes():
        for longest in steps if samples <= WARM_SAMPLES else ():
            yield _blank(schema, samples, longest)


def _blank(schema: Schema, samples: int, steps: int) -> Batch:
    """Samples of one user, with every value missing."""
    history = np.full((steps, len(schema.history)), MISSING_ID, np.int64)
    users, items = _blank_rows(schema, "user", 1), _blank_rows(schema, "item", samples)
    return Batch(users, items, history, np.array([0, steps]), np.zeros(samples, np.int64))


def _blank_rows(schema: Schema, side: Side, count: int) -> Rows:
    columns = [field.column for field in schema.ids_of(side) if field.source == "id"]
    return Rows(
        np.zeros((count, len(schema.dense_of(side))), np.float32),
        np.full((count, max(columns, default=-1) + 1), MISSING_ID, np.int64),
        np.zeros(0, np.int64),
        np.zeros(count * len(schema.bags_of(side)) + 1, np.int64),
    )


def _next(number: Any, sizes: list[int]) -> Any:
    """The least of ascending ``sizes`` that is not below ``number``."""
    known = tf.constant(np.array(sizes, np.int32))
    return known[tf.searchsorted(known, number[tf.newaxis])[0]]
