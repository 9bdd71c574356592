"""The recurrences of DIEN in TensorFlow: each one loop over as many steps as the longest history has, at least one.

``zoo.layers.augru`` has the formulas. A loop of TensorFlow and not its operator GRUBlockCell: that one resets the state
before its product, ``torch.nn.GRU`` after it.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from zoo.tensorflow.columns import to_samples
from zoo.tensorflow.parameters import Parameters


class Recurrence:
    """Gates of ``inputs`` columns and a state of ``hidden`` units; weights ``<prefix>weight_ih<suffix>`` and so on."""

    def __init__(self, parameters: Parameters, prefix: str, suffix: str, inputs: int, hidden: int) -> None:
        self.hidden = hidden
        self._of_input = parameters.kernel(f"{prefix}weight_ih{suffix}", inputs, 3 * hidden)
        self._of_state = parameters.kernel(f"{prefix}weight_hh{suffix}", hidden, 3 * hidden)
        self._input_bias = parameters.vector(f"{prefix}bias_ih{suffix}", 3 * hidden)
        self._state_bias = parameters.vector(f"{prefix}bias_hh{suffix}", 3 * hidden)

    def gates(self, x: Any) -> Any:
        """What the steps [T, N, inputs] give the gates: [T, N, 3 h]."""
        flat = tf.nn.bias_add(tf.matmul(tf.reshape(x, [-1, x.shape[-1]]), self._of_input), self._input_bias)
        return tf.reshape(flat, [tf.shape(x)[0], tf.shape(x)[1], 3 * self.hidden])

    def reset_update_candidate(self, gates: Any, state: Any) -> tuple[Any, Any]:
        """(update gate, candidate), both [N, h], of one step's gates [N, 3 h]."""
        width = self.hidden
        of_state = tf.nn.bias_add(tf.matmul(state, self._of_state), self._state_bias)
        both = tf.sigmoid(gates[:, : 2 * width] + of_state[:, : 2 * width])
        candidate = tf.tanh(gates[:, 2 * width :] + both[:, :width] * of_state[:, 2 * width :])
        return both[:, width:], candidate

    def start(self, steps: Any) -> Any:
        """The first state of ``steps`` [T, N, ...]: zeros [N, h]."""
        return tf.zeros([tf.shape(steps)[1], self.hidden])


def gru_states(parameters: Parameters, x: Any, steps: Any, hidden: int) -> Any:
    """All states [T, N, h] of the block ``gru`` on x [T, N, inputs]; ``steps`` of them, at most T, are computed.

    Past the end of a history that is not the longest they hold what padding gives; nothing may read them there.
    """
    with tf.name_scope("gru"):
        layer = Recurrence(parameters, "gru.rnn.", "_l0", x.shape[-1], hidden)
        gates = layer.gates(x)

        def step(at: Any, state: Any, states: Any) -> tuple[Any, Any, Any]:
            update, candidate = layer.reset_update_candidate(gates[at], state)
            state = candidate + update * (state - candidate)
            return at + 1, state, states.write(at, state)

        kept = tf.TensorArray(tf.float32, tf.shape(x)[0], element_shape=[x.shape[1], hidden])
        states = tf.while_loop(lambda at, *_: at < steps, step, (0, layer.start(gates), kept))[2].stack()
        return tf.ensure_shape(states, [None, None, hidden])


def augru_state(parameters: Parameters, x: Any, scores: Any, steps: Any, hidden: int, user_of: Any | None) -> Any:
    """The last state [N, h] of the block ``augru`` on x [T, U, inputs] with attention scores [N, T].

    A score of 0, as past the end of a history, keeps the state.
    """
    with tf.name_scope("augru"):
        layer = Recurrence(parameters, "augru.", "", x.shape[-1], hidden)
        gates, attention = layer.gates(x), tf.transpose(scores)[..., tf.newaxis]

        def step(at: Any, state: Any) -> tuple[Any, Any]:
            update, candidate = layer.reset_update_candidate(to_samples(gates[at], user_of), state)
            return at + 1, state + attention[at] * update * (candidate - state)

        return tf.while_loop(lambda at, _: at < steps, step, (0, layer.start(attention)))[1]
