"""Rows of the embedding tables, concatenated for the deep part, and single weights for the wide part, in TensorFlow."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from zoo.blueprint import field_dim
from zoo.configs import ModelConfig, WdlConfig
from zoo.schema import BagField, Schema, Side
from zoo.tensorflow.columns import Columns, SideColumns, to_samples
from zoo.tensorflow.parameters import Parameters


class Found(NamedTuple):
    """All that the blocks behind the lookups read. A part that the model lacks is None.

    U = N where ``user_of`` is None: the user's rows stand once per sample.
    """

    user: Any  # [U, Eu]
    item: Any  # [N, Ei]
    user_dense: Any  # [U, Du]
    item_dense: Any  # [N, Di]
    lengths: Any  # [U] int64
    history: Any = None  # [U, T, W]
    target: Any = None  # [N, W]
    wide: Any = None  # [N]
    user_of: Any = None  # [N] int64

    def to_samples(self, x: Any) -> Any:
        """Rows [U, ...] of the users as rows of the samples [N, ...]."""
        return to_samples(x, self.user_of)


OF_USERS = ("user", "user_dense", "lengths", "history")
"""Parts with a row per user."""


def look_up(columns: Columns, config: ModelConfig, schema: Schema, parameters: Parameters) -> Found:
    """Vectors of both sides, of the targets and of the behaviours; the wide logit of a model that has one."""
    user, item = (_Side(columns, schema, side) for side in ("user", "item"))
    dims = {field.table: field_dim(config, field.name) for field in (*schema.ids, *schema.bags)}
    dims |= {field.table: field_dim(config, field.target) for field in schema.history}
    tables = {name: (f"embedding.tables.{name}.weight", rows, dims[name]) for name, rows in schema.tables().items()}

    def table(name: str) -> Any:
        return parameters.table(*tables[name])

    with tf.name_scope("embedding"):
        of_item = item.vectors(lambda field: table(field.table))
        target = history = None
        if schema.history:
            places = {field.name: k for k, field in enumerate(schema.ids_of("item"))}
            target = tf.concat([of_item[places[field.target]] for field in schema.history], 1)
            behaviours = tf.unstack(columns.history, axis=2)
            parts = [tf.gather(table(f.table), rows) for f, rows in zip(schema.history, behaviours, strict=True)]
            history = tf.concat(parts, 2)
        of_user = user.vectors(lambda field: table(field.table))
        found = Found(
            user=joined(of_user, columns.user),
            item=joined(of_item, columns.item),
            user_dense=columns.user.dense,
            item_dense=columns.item.dense,
            lengths=columns.lengths,
            history=history,
            target=target,
            user_of=columns.user_of,
        )
    if isinstance(config, WdlConfig):
        found = found._replace(wide=_wide(columns, schema, parameters, user, item))
    return found


def joined(parts: list[Any], side: SideColumns) -> Any:
    """Parts side by side; of none, as many rows as ``side`` has, without a column."""
    return tf.concat(parts, 1) if parts else tf.zeros([tf.shape(side.dense)[0], 0])


class _Side:
    """The fields of one side, and which rows they ask for."""

    def __init__(self, columns: Columns, schema: Schema, side: Side) -> None:
        self.columns: SideColumns = getattr(columns, side)
        self.ids, self.bags, self.dense = schema.ids_of(side), schema.bags_of(side), schema.dense_of(side)

    def vectors(self, table: Any) -> list[Any]:
        """[N, dim] of each id field, then the sum or mean of each bag; ``table(field)`` is asked for its table."""
        columns = tf.unstack(self.columns.rows, axis=1) if self.ids else []
        plain = [tf.gather(table(field), rows) for field, rows in zip(self.ids, columns, strict=True)]
        return plain + [self._pooled(table(field), field) for field in self.bags]

    def _pooled(self, table: Any, field: BagField) -> Any:
        rows, lengths = self.columns.bag_rows[..., field.column], self.columns.bag_lengths[:, field.column]
        real = tf.sequence_mask(lengths, tf.shape(rows)[1], tf.float32)
        total = tf.reduce_sum(tf.gather(table, rows) * real[..., tf.newaxis], 1)
        if field.pooling == "sum":
            return total
        return total / tf.cast(tf.maximum(lengths, 1), tf.float32)[:, tf.newaxis]


def _wide(columns: Columns, schema: Schema, parameters: Parameters, user: _Side, item: _Side) -> Any:
    """Logit [N] of the linear part."""
    with tf.name_scope("wide"):
        dense, split = parameters.vector("wide.dense", len(schema.dense)), len(user.dense)
        of_user = _wide_side(user, parameters, dense[:split])
        logit = to_samples(of_user, columns.user_of) + _wide_side(item, parameters, dense[split:])
        for k, field in enumerate(schema.crosses):
            table = parameters.table(f"wide.crosses.{field.name}.weight", field.rows, 1)
            logit += tf.squeeze(tf.gather(table, columns.crosses[:, k]), 1)
        return logit + parameters.vector("wide.bias", 1)


def _wide_side(side: _Side, parameters: Parameters, dense: Any) -> Any:
    weights = side.vectors(lambda field: parameters.table(f"wide.tables.{field.name}.weight", field.rows, 1))
    logit = tf.reduce_sum(joined(weights, side.columns), 1)
    return logit + tf.linalg.matvec(side.columns.dense, dense) if side.dense else logit
