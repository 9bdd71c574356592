"""Fully connected layers, attention and the interaction of the models, in TensorFlow. ``path``: that of the reference.

Each layer stands in the name scope of its path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.tensorflow.parameters import Parameters

DICE_EPS = 1e-8


def _dice(parameters: Parameters, path: str, x: Any) -> Any:
    width = x.shape[-1]
    mean, variance, alpha = (
        parameters.vector(f"{path}.{name}", width) for name in ("running_mean", "running_var", "alpha")
    )
    gate = tf.sigmoid(tf.nn.batch_normalization(x, mean, variance, None, None, DICE_EPS))
    return x * (gate + alpha * (1.0 - gate))


def _prelu(parameters: Parameters, path: str, x: Any) -> Any:
    slope = parameters.vector(f"{path}.weight", x.shape[-1])
    return tf.maximum(x, 0.0) + slope * tf.minimum(x, 0.0)


ACTIVATIONS: dict[str, Callable[[Parameters, str, Any], Any]] = {
    "relu": lambda parameters, path, x: tf.nn.relu(x),
    "sigmoid": lambda parameters, path, x: tf.sigmoid(x),
    "prelu": _prelu,
    "dice": _dice,
    "none": lambda parameters, path, x: x,
}


def fully_connected(parameters: Parameters, path: str, x: Any, outputs: int, activation: str) -> Any:
    """``activation(x W + b)``: [R, inputs] to [R, outputs]."""
    with tf.name_scope(path):
        kernel = parameters.kernel(f"{path}.linear.weight", x.shape[-1], outputs)
        linear = tf.nn.bias_add(tf.matmul(x, kernel), parameters.vector(f"{path}.linear.bias", outputs))
        return ACTIVATIONS[activation](parameters, f"{path}.activation", linear)


def stack(parameters: Parameters, path: str, x: Any, units: tuple[int, ...], activation: str) -> Any:
    """Layers ``<path>.0``, ``<path>.1``, ..."""
    for number, outputs in enumerate(units):
        x = fully_connected(parameters, f"{path}.{number}", x, outputs, activation)
    return x


def logit(parameters: Parameters, x: Any) -> Any:
    """The layer ``out``: [N, inputs] to [N]."""
    return tf.squeeze(fully_connected(parameters, "out", x, 1, "none"), 1)


def relevance(parameters: Parameters, query: Any, keys: Any, mask: Any, units: tuple[int, ...], activation: str) -> Any:
    """Ratings [N, T] of keys [N, T, w] for queries [N, w], by the block ``attention``; 0 where ``mask`` is False."""
    query = tf.broadcast_to(query[:, tf.newaxis], tf.shape(keys))
    pairs = tf.concat([query, keys, query - keys, query * keys], -1)
    hidden = stack(parameters, "attention.units", tf.reshape(pairs, [-1, 4 * keys.shape[-1]]), units, activation)
    rated = fully_connected(parameters, "attention.score", hidden, 1, "none")
    return tf.where(mask, tf.reshape(rated, tf.shape(mask)), 0.0)


def local_activation(parameters: Parameters, query: Any, keys: Any, lengths: Any, units: tuple[int, ...]) -> Any:
    """DIN's pooled interest [N, w] (``zoo.layers.attention.LocalActivationUnit``)."""
    weights = relevance(parameters, query, keys, _real(lengths, keys), units, "dice")
    with tf.name_scope("attention"):
        return tf.squeeze(tf.matmul(weights[:, tf.newaxis], keys), 1)


def softmax_attention(parameters: Parameters, query: Any, keys: Any, lengths: Any, units: tuple[int, ...]) -> Any:
    """DIEN's scores [N, T] (``zoo.layers.attention.SoftmaxAttention``); all 0 for an empty history."""
    mask = _real(lengths, keys)
    query = fully_connected(parameters, "attention.query", query, keys.shape[-1], "prelu")
    ratings = relevance(parameters, query, keys, mask, units, "sigmoid")
    return tf.where(mask, tf.nn.softmax(tf.where(mask, ratings, tf.float32.min), 1), 0.0)


def summed_history(history: Any, lengths: Any) -> Any:
    """Sum [N, W] of each sample's behaviours; zeros for an empty history."""
    return tf.reduce_sum(history * tf.cast(_real(lengths, history), tf.float32)[..., tf.newaxis], 1)


def mean_history(history: Any, lengths: Any) -> Any:
    """Mean [N, W] of each sample's behaviours; zeros for an empty history."""
    counts = tf.cast(tf.maximum(lengths, 1), tf.float32)
    return summed_history(history, lengths) / counts[:, tf.newaxis]


def dot_interaction(vectors: Any) -> Any:
    """Dot products of all pairs i > j of vectors [N, F, d]: [N, F (F - 1) / 2], in the order (1, 0), (2, 0), (2, 1)."""
    count = vectors.shape[1]
    row, column = np.tril_indices(count, -1)
    with tf.name_scope("interaction"):
        gram = tf.matmul(vectors, vectors, transpose_b=True)
        return tf.gather(tf.reshape(gram, [-1, count * count]), row * count + column, axis=1)


def _real(lengths: Any, steps: Any) -> Any:
    """[N, T] bool: True at the real steps."""
    return tf.sequence_mask(lengths, tf.shape(steps)[1])
