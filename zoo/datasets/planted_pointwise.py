"""The Criteo-shaped planted data: 13 dense columns I1..I13, 26 categorical columns C1..C26, one user per group.

A query is one user (I1-I6, C1-C12) and its candidate items (I7-I13, C13-C26). Three of the categorical columns are
multi-hot bags. The logit is known: main effects of ids and bags, two-way crosses, dot products of latent factors of
user ids and item ids, and slopes on the logarithm of dense columns. Every effect hangs on columns that a model sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.datasets.click_model import click_probability, draw_labels
from zoo.datasets.dense_statistics import log_statistics
from zoo.datasets.planted_counts import PlantedCounts
from zoo.datasets.portable_random import (
    Float64,
    Int64,
    Stream,
    log2_floor_linear,
    mix64,
    noise,
    pick,
    raw_id,
    zipf_cdf,
)
from zoo.schema import MISSING_ID, BagField, CrossField, DenseField, IdField, Rows, Schema, Side, Split

FACTORS = 2
MISSING_SHARE = 0.05
LARGE = -1
"""Vocabulary that grows with the table: half of its rows."""

USER_IDS: dict[str, int] = {
    "C1": 24, "C2": 30, "C3": LARGE, "C4": LARGE, "C5": 12, "C6": 200, "C8": 100, "C9": 4, "C10": 40, "C11": 300,
    "C12": LARGE,
}  # fmt: skip
ITEM_IDS: dict[str, int] = {
    "C13": 20, "C14": 15, "C15": 400, "C16": LARGE, "C17": 10, "C19": 150, "C20": 30, "C21": LARGE, "C22": 30,
    "C23": 40, "C24": LARGE, "C26": LARGE,
}  # fmt: skip
USER_BAGS: dict[str, int] = {"C7": 300}
ITEM_BAGS: dict[str, int] = {"C18": 120, "C25": 500}
"""Distinct ids of each column. Longest bag: ``LONGEST_BAG``."""

LONGEST_BAG = 8
USER_DENSE = ("I1", "I2", "I3", "I4", "I5", "I6")
ITEM_DENSE = ("I7", "I8", "I9", "I10", "I11", "I12", "I13")

MAIN_EFFECTS = {"C1": 0.375, "C8": 0.375, "C3": 0.125, "C14": 0.5, "C16": 0.25, "C19": 0.5, "C24": 0.125}
FACTOR_IDS = (("C2", "C10"), ("C20", "C23"))
"""User-side and item-side columns that meet, pair by pair, in a dot product of ``FACTORS`` latent factors."""
FACTOR_SCALE = 0.25
CROSS_EFFECTS = {("C5", "C13"): 0.375, ("C1", "C22"): 0.25}
BAG_EFFECTS = {"C7": 0.125, "C18": 0.1875}
SLOPES = {"I2": -0.125, "I5": 0.125, "I8": 0.1875, "I11": -0.1875}
BIAS = -1.75


@dataclass(frozen=True, slots=True)
class World:
    """What all splits share."""

    seed: int
    table_rows: int


@dataclass(frozen=True, slots=True)
class _SideDraw:
    """One side's rows, with the vocabulary index of each id (-1: missing) from which effects are computed."""

    rows: Rows
    dense: dict[str, Float64]
    ids: dict[str, Int64]
    bag_effect: Float64


def build_world(seed: int, counts: PlantedCounts) -> World:
    """The shared parameters of one seed."""
    return World(seed, counts.table_rows)


def generate_split(world: World, part: int, users: int, candidates: int) -> Split:
    """``users`` groups of ``candidates`` samples; ``part`` numbers the split (its draws are its own)."""
    user_of = np.repeat(np.arange(users, dtype=np.int64), candidates)
    user = _draw_side(world, Stream(world.seed, 1, part, 0), "user", users)
    item = _draw_side(world, Stream(world.seed, 1, part, 1), "item", len(user_of))
    probability = click_probability(_logit(world.seed, user, item, user_of))
    return Split(
        user=user.rows,
        item=item.rows,
        history=np.zeros((0, 0), np.int64),
        history_offsets=np.zeros(users + 1, np.int64),
        user_of=user_of,
        labels=draw_labels(probability, Stream(world.seed, 1, part, 2)),
        groups=np.arange(users + 1, dtype=np.int64) * candidates,
        probability=probability,
    )


def build_schema(world: World, train: Split) -> Schema:
    """The schema, with the statistics of the training split's dense columns."""
    rows = world.table_rows
    dense = _dense_fields(USER_DENSE, "user", train.user) + _dense_fields(ITEM_DENSE, "item", train.item)
    ids = _id_fields(USER_IDS, "user", rows) + _id_fields(ITEM_IDS, "item", rows)
    bags = _bag_fields(USER_BAGS, "user", rows) + _bag_fields(ITEM_BAGS, "item", rows)
    crosses = tuple(CrossField(name=f"{a}x{b}", left=a, right=b, rows=rows) for a, b in CROSS_EFFECTS)
    return Schema(name="planted", dense=dense, ids=ids, bags=bags, crosses=crosses)


def _dense_fields(names: tuple[str, ...], side: Side, rows: Rows) -> tuple[DenseField, ...]:
    means, spreads = log_statistics(rows.dense)
    return tuple(
        DenseField(name=name, side=side, transform="log", mean=mean, std=std)
        for name, mean, std in zip(names, means, spreads, strict=True)
    )


def _id_fields(columns: dict[str, int], side: Side, rows: int) -> tuple[IdField, ...]:
    return tuple(
        IdField(name=name, side=side, column=column, table=name, rows=rows) for column, name in enumerate(columns)
    )


def _bag_fields(columns: dict[str, int], side: Side, rows: int) -> tuple[BagField, ...]:
    return tuple(
        BagField(name=name, side=side, column=column, table=name, rows=rows) for column, name in enumerate(columns)
    )


def _draw_side(world: World, stream: Stream, side: Side, count: int) -> _SideDraw:
    id_columns, bag_columns = (USER_IDS, USER_BAGS) if side == "user" else (ITEM_IDS, ITEM_BAGS)
    dense = {name: _draw_dense(stream, count) for name in (USER_DENSE if side == "user" else ITEM_DENSE)}
    ids = {name: _draw_ids(stream, _vocabulary(size, world), count) for name, size in id_columns.items()}
    values, offsets, effect = _draw_bags(stream, bag_columns, count, world.seed)
    rows = Rows(
        np.column_stack(list(dense.values())).astype(np.float32),
        np.column_stack(
            [np.where(index < 0, MISSING_ID, raw_id(index, _salt(world.seed, name))) for name, index in ids.items()]
        ),
        values,
        offsets,
    )
    return _SideDraw(rows, dense, ids, effect)


def _vocabulary(size: int, world: World) -> int:
    return world.table_rows // 2 if size == LARGE else min(size, world.table_rows // 2)


def _salt(seed: int, name: str, factor: int = 0) -> int:
    """A number of its own for each (seed, column, latent factor)."""
    key = np.array([seed * 1_000 + int(name[1:])], np.int64)
    return int(mix64(key, factor)[0] >> np.uint64(1))


def _draw_dense(stream: Stream, count: int) -> Float64:
    """Whole numbers with a tail like 1 / x**2 (a discrete Lomax law), some missing (NaN)."""
    tail = np.minimum(np.floor(4.0 / (1.0 - stream.uniform(count)) - 4.0), 2.0**20)
    return np.where(stream.happens(MISSING_SHARE, count), np.nan, tail)


def _draw_ids(stream: Stream, vocabulary: int, count: int) -> Int64:
    """Vocabulary indices by Zipf popularity; -1 is missing."""
    index = pick(zipf_cdf(vocabulary), stream.uniform(count))
    return np.where(stream.happens(MISSING_SHARE, count), -1, index)


def _draw_bags(stream: Stream, columns: dict[str, int], count: int, seed: int) -> tuple[Int64, Int64, Float64]:
    """Bag values and offsets of all bag columns, row by row, and the sum of their effects on the logit [count]."""
    lengths = np.column_stack([stream.below(LONGEST_BAG + 1, count) for _ in columns])
    offsets = np.concatenate([[0], np.cumsum(lengths.ravel())]).astype(np.int64)
    values = np.zeros(offsets[-1], np.int64)
    effect = np.zeros(count)
    for column, (name, vocabulary) in enumerate(columns.items()):
        length = lengths[:, column]
        index = pick(zipf_cdf(vocabulary), stream.uniform(int(length.sum())))
        row = np.repeat(np.arange(count), length)
        first = np.cumsum(length) - length
        start = offsets[:-1].reshape(count, len(columns))[:, column]
        values[start[row] + np.arange(len(index)) - first[row]] = raw_id(index, _salt(seed, name))
        if name in BAG_EFFECTS:
            weights = noise(index, _salt(seed, name, 1))
            effect += np.bincount(row, weights=weights, minlength=count) * BAG_EFFECTS[name]
    return values, offsets, effect


def _logit(seed: int, user: _SideDraw, item: _SideDraw, user_of: Int64) -> Float64:
    """The planted logit [N]. Every term is a small multiple of 2**-24, so the sum is exact in float64."""
    total = BIAS + _own_effects(seed, user)[user_of] + _own_effects(seed, item)
    for (left, right), scale in CROSS_EFFECTS.items():
        a, b = user.ids[left][user_of], item.ids[right]
        weights = noise(a * 1_000_003 + b, _salt(seed, left, 2))
        total += np.where((a < 0) | (b < 0), 0.0, weights * scale)
    for left, right in zip(*FACTOR_IDS, strict=True):
        for factor in range(FACTORS):
            total += (
                _effect(seed, user, left, 10 + factor)[user_of] * _effect(seed, item, right, 10 + factor) * FACTOR_SCALE
            )
    return total


def _own_effects(seed: int, side: _SideDraw) -> Float64:
    """Effects of one side's own columns [R]: ids, bags, slopes on log2(1 + x) about its middle."""
    total = side.bag_effect.copy()
    for name, scale in MAIN_EFFECTS.items():
        if name in side.ids:
            total += _effect(seed, side, name, 1) * scale
    for name, slope in SLOPES.items():
        if name in side.dense:
            total += np.where(np.isnan(side.dense[name]), 0.0, log2_floor_linear(side.dense[name]) - 2.5) * slope
    return total


def _effect(seed: int, side: _SideDraw, name: str, factor: int) -> Float64:
    """The fixed weight of each row's id in column ``name``; a missing id weighs nothing."""
    index = side.ids[name]
    return np.where(index < 0, 0.0, noise(index, _salt(seed, name, factor)))
