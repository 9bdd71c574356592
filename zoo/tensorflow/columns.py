"""Raw columns to table rows and normalised numbers: ``zoo.layers.features`` in TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from zoo.schema import HASH_MULTIPLIER, MISSING_ID, BagField, HistoryField, IdField, Schema, Side

_SIGNED_MULTIPLIER = HASH_MULTIPLIER - 2**64
_LOW_31_BITS = 2**31 - 1
_CROSS_SHIFT = 2**31
Field = IdField | BagField | HistoryField


class SideColumns(NamedTuple):
    """Engineered columns of R rows of one side."""

    dense: Any  # [R, D] float32, normalised, filled
    rows: Any  # [R, F] int64, table rows, in the order of schema.ids_of(side)
    bag_rows: Any  # [R, L, B] int64, table rows, padded; None without a bag
    bag_lengths: Any  # [R, B] int64


class Columns(NamedTuple):
    """What the tables are asked for. U = N where ``user_of`` is None: the user's columns stand once per sample."""

    user: SideColumns  # U rows
    item: SideColumns  # N rows
    history: Any  # [U, T, H] int64, table rows, padded with 0
    lengths: Any  # [U] int64, may be 0
    crosses: Any  # [N, C] int64
    user_of: Any  # [N] int64


def engineered(inputs: Mapping[str, Any], schema: Schema, expand_first: bool) -> Columns:
    """Columns of the arguments ``zoo.onnx.inputs.INPUTS``. expand_first: the user's are copied per sample first."""
    user_of = inputs["user_of"]

    def expanded(x: Any) -> Any:
        return to_samples(x, user_of if expand_first else None)

    with tf.name_scope("features"):
        user = _side(inputs, schema, "user", user_of if expand_first else None)
        item = _side(inputs, schema, "item", None)
        history, late = expanded(inputs["history"]), None if expand_first else user_of
        return Columns(
            user=user,
            item=item,
            history=table_rows(history, schema.history) if schema.history else history,
            lengths=expanded(inputs["history_lengths"]),
            crosses=_crosses(schema, to_samples(user.rows, late), item.rows) if schema.crosses else None,
            user_of=late,
        )


def to_samples(x: Any, user_of: Any | None) -> Any:
    """Rows [U, ...] of the users as rows [N, ...] of the samples; ``x`` itself when it already stands per sample."""
    return x if user_of is None else tf.gather(x, user_of)


def hash_ids(raw: Any, sizes: Any) -> Any:
    """``zoo.schema.hash_rows`` in int64: the product wraps, a mask makes the shift logical. ``sizes`` broadcast."""
    mixed = tf.bitwise.bitwise_and(tf.bitwise.right_shift(raw * _SIGNED_MULTIPLIER, 33), _LOW_31_BITS)
    return tf.where(tf.equal(raw, MISSING_ID), tf.constant(0, tf.int64), 1 + mixed % (sizes - 1))


def table_rows(raw: Any, fields: Sequence[Field]) -> Any:
    """Rows of ``raw`` [..., K], a column per field: hashed, or as they are.

    A raw id outside its table becomes the row behind the table's end, which a lookup refuses.
    """
    sizes, hashed = np.array([f.rows for f in fields], np.int64), np.array([f.hashed for f in fields])
    if hashed.all():
        return hash_ids(raw, sizes)
    plain = tf.where(raw < MISSING_ID, sizes, tf.maximum(raw, tf.constant(0, tf.int64)))
    return tf.where(hashed, hash_ids(raw, sizes), plain) if hashed.any() else plain


def bucket_rows(values: Any, sizes: Any) -> Any:
    """Logarithmic buckets of ``IdField(source="bucket")``; in double precision, so that every backend cuts alike."""
    wide = tf.cast(values, tf.float64)
    one, two, zero = (tf.constant(number, tf.float64) for number in (1.0, 2.0, 0.0))
    buckets = 3.0 + tf.floor(tf.square(tf.math.log(1.0 + tf.where(wide > 0.0, wide, zero))))
    buckets = tf.where(tf.equal(wide, 0.0), one, tf.where(wide < 0.0, two, buckets))
    found = tf.minimum(buckets, (sizes - 1).astype(np.float64))
    return tf.cast(tf.where(tf.math.is_nan(wide), zero, found), tf.int64)


def _side(inputs: Mapping[str, Any], schema: Schema, side: Side, user_of: Any | None) -> SideColumns:
    names = ("dense", "ids", "bag_values", "bag_offsets")
    dense, ids, bag_values, bag_offsets = (inputs[f"{side}_{name}"] for name in names)
    bags = schema.bags_of(side)
    bounds = tf.stack([tf.shape(dense)[0], len(bags)])
    starts, ends = tf.reshape(bag_offsets[:-1], bounds), tf.reshape(bag_offsets[1:], bounds)
    dense, ids, starts, ends = (to_samples(x, user_of) for x in (dense, ids, starts, ends))
    lengths = ends - starts
    bag_rows = table_rows(_padded_bags(bag_values, starts, lengths), bags) if bags else None
    return SideColumns(_normalised(dense, schema, side), _id_rows(dense, ids, schema, side), bag_rows, lengths)


def _normalised(dense: Any, schema: Schema, side: Side) -> Any:
    fields = schema.dense_of(side)
    if not fields:
        return dense
    logarithmic = np.array([field.transform == "log" for field in fields])
    if logarithmic.any():
        logarithms = tf.sign(dense) * tf.math.log1p(tf.abs(dense))
        dense = logarithms if logarithmic.all() else tf.where(logarithmic, logarithms, dense)
    mean, std = (np.array([getattr(field, name) for field in fields], np.float32) for name in ("mean", "std"))
    scaled = (dense - mean) / std
    return tf.where(tf.math.is_nan(scaled), tf.constant(0.0), scaled)


def _id_rows(dense: Any, ids: Any, schema: Schema, side: Side) -> Any:
    fields = schema.ids_of(side)
    plain = [field for field in fields if field.source == "id"]
    buckets = [field for field in fields if field.source == "bucket"]
    parts = []
    if plain:
        parts.append(table_rows(tf.gather(ids, [field.column for field in plain], axis=1), plain))
    if buckets:
        columns = tf.gather(dense, [field.column for field in buckets], axis=1)
        parts.append(bucket_rows(columns, np.array([field.rows for field in buckets], np.int64)))
    if len(parts) < 2:
        return parts[0] if parts else ids
    return tf.gather(tf.concat(parts, 1), [[*plain, *buckets].index(field) for field in fields], axis=1)


def _padded_bags(values: Any, starts: Any, lengths: Any) -> Any:
    """Raw values [N, L, B] of ragged bags that start at ``starts`` [N, B], L the longest."""
    steps = tf.range(tf.reduce_max(lengths))[:, tf.newaxis]
    # One value behind the last stands for all padding: a neighbour's may lie outside of this field's table.
    filled = tf.concat([values, tf.constant([MISSING_ID], tf.int64)], 0)
    inside = steps < lengths[:, tf.newaxis]
    return tf.gather(filled, tf.where(inside, starts[:, tf.newaxis] + steps, tf.shape(values, tf.int64)[0]))


def _crosses(schema: Schema, user: Any, item: Any) -> Any:
    places = {field.name: k for k, field in enumerate((*schema.ids_of("user"), *schema.ids_of("item")))}
    rows = tf.concat([side for side in (user, item) if side.shape[1]], 1)
    left = tf.gather(rows, [places[field.left] for field in schema.crosses], axis=1)
    right = tf.gather(rows, [places[field.right] for field in schema.crosses], axis=1)
    return hash_ids(left * _CROSS_SHIFT + right, np.array([field.rows for field in schema.crosses], np.int64))
