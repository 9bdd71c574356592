"""The four models behind their lookups, in TensorFlow: ``LOGITS`` by name. ``zoo/models`` holds the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from zoo.configs import DienConfig, DinConfig, DlrmConfig, WdlConfig
from zoo.tensorflow.layers import (
    dot_interaction,
    local_activation,
    logit,
    mean_history,
    softmax_attention,
    stack,
    summed_history,
)
from zoo.tensorflow.lookups import Found
from zoo.tensorflow.parameters import Parameters
from zoo.tensorflow.recurrences import augru_state, gru_states

Logit = Callable[[Any, Parameters, Found, Any], Any]
"""(config, parameters, what was found, steps of the longest history) to logits [N]."""


def wdl(config: WdlConfig, parameters: Parameters, found: Found, steps: Any) -> Any:
    """Wide linear model + deep network; histories enter by their mean."""
    of_user = [found.to_samples(x) for x in (found.user, *_pooled(found))]
    parts = [*of_user, found.item, found.to_samples(found.user_dense), found.item_dense]
    return found.wide + logit(parameters, stack(parameters, "deep", tf.concat(parts, 1), config.deep_units, "relu"))


def din(config: DinConfig, parameters: Parameters, found: Found, steps: Any) -> Any:
    """Local activation unit over the behaviours."""
    keys, lengths = found.to_samples(found.history), found.to_samples(found.lengths)
    interest = local_activation(parameters, found.target, keys, lengths, config.attention_units)
    return _top(config, parameters, found, interest)


def dien(config: DienConfig, parameters: Parameters, found: Found, steps: Any) -> Any:
    """GRU, softmax attention of its states, AUGRU."""
    states = gru_states(parameters, tf.transpose(found.history, [1, 0, 2]), steps, config.hidden_units)
    keys, lengths = found.to_samples(tf.transpose(states, [1, 0, 2])), found.to_samples(found.lengths)
    scores = softmax_attention(parameters, found.target, keys, lengths, config.attention_units)
    interest = augru_state(parameters, states, scores, steps, config.hidden_units, found.user_of)
    return _top(config, parameters, found, interest)


def dlrm(config: DlrmConfig, parameters: Parameters, found: Found, steps: Any) -> Any:
    """Bottom MLP on the dense values, dot products among all vectors, top MLP; histories enter by their mean."""
    dense = tf.concat([found.to_samples(found.user_dense), found.item_dense], 1)
    parts = [*(found.to_samples(x) for x in (found.user, *_pooled(found))), found.item]
    bottom = [stack(parameters, "bottom", dense, config.bottom_units, "relu")] if dense.shape[1] else []
    joined = tf.concat([*bottom, *parts], 1)
    dim = config.embedding_dim
    crossed = dot_interaction(tf.reshape(joined, [-1, joined.shape[1] // dim, dim]))
    return logit(parameters, stack(parameters, "top", tf.concat([*bottom, crossed], 1), config.top_units, "relu"))


def _pooled(found: Found) -> list[Any]:
    """The mean [U, W] of the behaviours of each user, of data that have any."""
    return [] if found.history is None else [mean_history(found.history, found.lengths)]


def _top(config: DinConfig | DienConfig, parameters: Parameters, found: Found, interest: Any) -> Any:
    """The top MLP of DIN and DIEN, on [user, item, dense, summed history, target * summed history, interest]."""
    summed = found.to_samples(summed_history(found.history, found.lengths))
    sides = [found.to_samples(found.user), found.item, found.to_samples(found.user_dense), found.item_dense]
    x = tf.concat([*sides, summed, found.target * summed, interest], 1)
    return logit(parameters, stack(parameters, "top", x, config.top_units, "dice"))


LOGITS: dict[str, Logit] = {"wdl": wdl, "din": din, "dien": dien, "dlrm": dlrm}
