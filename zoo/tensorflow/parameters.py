"""The reference's weights, by their names, as tensors of a TensorFlow graph that is being built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from zoo.checkpoint import check_weights

Array = npt.NDArray[Any]
TRAINING_ONLY = ("auxiliary",)
"""First parts of the names of weights that no graph reads (``CtrModel.training_only``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """``operation`` makes a variable of what ``value`` is fed: ``array``, in whose memory the variable then lies."""

    operation: Any
    value: Any
    array: Array


class Parameters:
    """Gives each weight as a tensor; a name stands for one variable of the graph, however often it is asked for.

    constants: all but the tables become constants of the graph, which its optimizer may fold.
    """

    def __init__(self, weights: Mapping[str, Array], *, constants: bool = False) -> None:
        self.assignments: list[Assignment] = []
        self._weights, self._constants = weights, constants
        self._made: dict[str, Any] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def table(self, name: str, rows: int, dim: int) -> Any:
        """A table [rows, dim]: a variable that is read where its array lies."""
        return self._tensor(name, (rows, dim), self._variable)

    def vector(self, name: str, size: int) -> Any:
        """A bias, or anything else of one dimension [size]."""
        return self._tensor(name, (size,), self._dense)

    def kernel(self, name: str, inputs: int, outputs: int) -> Any:
        """A matrix [inputs, outputs], as TensorFlow multiplies by it; the weights hold [outputs, inputs]."""
        return self._tensor(name, (outputs, inputs), lambda name, array: self._dense(name, array.T))

    def check(self) -> None:
        """Raises ValueError where the weights lack what was asked for, have it in other shapes, or hold more."""
        unread = {name: self._weights[name].shape for name in self._weights if name.split(".")[0] in TRAINING_ONLY}
        check_weights(self._weights, self._shapes | unread)

    def _tensor(self, name: str, shape: tuple[int, ...], make: Callable[[str, Array], Any]) -> Any:
        if name not in self._made:
            self._shapes[name] = shape
            given = self._weights.get(name)
            fits = given is not None and given.shape == shape
            with tf.init_scope():  # of the graph itself, where a function of it asks
                self._made[name] = make(name, given if fits else np.broadcast_to(np.float32(0), shape))
        return self._made[name]

    def _dense(self, name: str, array: Array) -> Any:
        if self._constants:
            return tf.constant(np.ascontiguousarray(array, np.float32))
        return self._variable(name, array)

    def _variable(self, name: str, array: Array) -> Any:
        array = np.ascontiguousarray(array, np.float32)
        handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=array.shape, shared_name=name)
        value = tf.compat.v1.placeholder(tf.float32, array.shape)
        operation = tf.raw_ops.AssignVariableOp(resource=handle, value=value)
        self.assignments.append(Assignment(operation=operation, value=value, array=array))
        # Not tf.gather of the variable: that would copy it into memory of its own.
        return tf.ensure_shape(tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32), array.shape)
