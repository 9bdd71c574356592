"""Engineered columns as CTR libraries take them: a row of numbers per sample, the user's repeated. Numpy only.

Such a library hashes nothing and normalises nothing itself; who serves it does so before, as here, within the time of a
query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zoo.onnx.inputs import Feed
from zoo.onnx.row_inputs import RowArrays
from zoo.schema import BagField, Batch, DenseField, Float32, Int64, Schema, Side, Split

STEPS = "history_steps"
"""The column that holds how many behaviours there are."""
LARGEST_ROW = 2**24
"""Rows of a table at most: up to there a float32 holds every whole number."""
Longest = Mapping[str, int]
"""Values of each bag field's longest bag."""
Places = Mapping[str, tuple[int, int]]
"""First column and the one behind the last, by name."""


class SampleMatrix:
    """Rows of a matrix from raw batches.

    Columns by name: dense values (normalised), ids and hashed crosses (table rows), for each bag its values and
    ``<name>_length``, ``hist_<target>`` for each column of the history, and ``STEPS``. places: where each of them
    stands; ones that are not asked for are left out. fewest_steps: a shorter history counts as so many, missing ones.
    """

    def __init__(self, schema: Schema, longest: Longest, places: Places, fewest_steps: int = 0) -> None:
        if any(rows > LARGEST_ROW for rows in schema.tables().values()):
            raise ValueError(f"a matrix of float32 holds ids of tables of {LARGEST_ROW} rows at most")
        self._schema, self._longest, self._fewest = schema, longest, fewest_steps
        self._rows = RowArrays(schema)
        self._width = max(end for _, end in places.values())
        self._user = _Taken([*side_widths(schema, "user", longest), *history_widths(schema)], places)
        crosses = [(field.name, 1) for field in schema.crosses]
        self._item = _Taken([*side_widths(schema, "item", longest), *crosses], places)

    def __call__(self, batch: Batch) -> Float32:
        """[N, columns] float32."""
        found = self._rows(batch)
        user = np.concatenate([*self._side(found, "user"), *self._history(found)], 1)
        item = np.concatenate(self._side(found, "item"), 1)
        matrix = np.empty((len(batch), self._width), np.float32)
        matrix[:, self._user.places] = user[:, self._user.columns][batch.user_of]
        matrix[:, self._item.places] = item[:, self._item.columns]
        return matrix

    def _side(self, found: Feed, side: Side) -> list[Float32]:
        """In the order of ``side_widths``, the item's crosses behind them."""
        schema, rows = self._schema, found[f"{side}_ids"]
        ids = len(schema.ids_of(side))
        dense = normalised(found[f"{side}_dense"], schema.dense_of(side))
        bags = padded_bags(
            found[f"{side}_bag_values"], found[f"{side}_bag_offsets"], schema.bags_of(side), self._longest
        )
        return [dense, rows[:, :ids].astype(np.float32), *bags, rows[:, ids:].astype(np.float32)]

    def _history(self, found: Feed) -> list[Float32]:
        steps, lengths = found["history"], found["history_lengths"]
        if not self._schema.history:
            return []
        room = np.zeros((len(lengths), self._schema.max_history, steps.shape[2]), np.float32)
        room[:, : steps.shape[1]] = steps
        columns = [room[:, :, field] for field in range(room.shape[2])]
        return [*columns, np.maximum(lengths, self._fewest).astype(np.float32)[:, np.newaxis]]


class _Taken:
    """Which columns of a side are taken, and where they are put."""

    def __init__(self, widths: Sequence[tuple[str, int]], places: Places) -> None:
        columns: list[int] = []
        targets: list[int] = []
        start = 0
        for name, width in widths:
            if name in places:
                first, end = places[name]
                columns += range(start, start + end - first)
                targets += range(first, end)
            start += width
        self.columns, self.places = np.array(columns, np.int64), np.array(targets, np.int64)


def side_widths(schema: Schema, side: Side, longest: Longest) -> list[tuple[str, int]]:
    """Names and widths of the columns of one side, in their order."""
    found = [(field.name, 1) for field in schema.dense_of(side)]
    found += [(field.name, 1) for field in schema.ids_of(side)]
    for bag in schema.bags_of(side):
        found += [(bag.name, longest[bag.name]), (f"{bag.name}_length", 1)]
    return found


def history_widths(schema: Schema) -> list[tuple[str, int]]:
    """The same of the user's behaviours."""
    if not schema.history:
        return []
    return [*((f"hist_{field.target}", schema.max_history) for field in schema.history), (STEPS, 1)]


def longest_bags(schema: Schema, split: Split) -> dict[str, int]:
    """Values of the longest bag of each field in ``split``, at least 1."""
    found: dict[str, int] = {}
    sides: tuple[tuple[Side, Int64], ...] = (("user", split.user.bag_offsets), ("item", split.item.bag_offsets))
    for side, offsets in sides:
        bags = schema.bags_of(side)
        lengths = np.diff(offsets).reshape(-1, max(1, len(bags)))
        found |= {bag.name: max(1, int(lengths[:, k].max(initial=1))) for k, bag in enumerate(bags)}
    return found


def normalised(values: Float32, fields: Sequence[DenseField]) -> Float32:
    """``(t(x) - mean) / std`` of ``DenseField``, 0 for a missing value. values: [R, D]."""
    logarithmic = np.array([field.transform == "log" for field in fields], np.bool_)
    mean = np.array([field.mean for field in fields], np.float32)
    std = np.array([field.std for field in fields], np.float32)
    logarithms = np.sign(values) * np.log1p(np.abs(values))
    scaled = (np.where(logarithmic, logarithms, values) - mean) / std
    found: Float32 = np.where(np.isnan(scaled), np.float32(0.0), scaled).astype(np.float32)
    return found


def padded_bags(values: Int64, offsets: Int64, bags: Sequence[BagField], longest: Longest) -> list[Float32]:
    """For each bag field its values [R, longest], zeros behind the last one, and its length [R, 1]; what is too long is
    cut. values: table rows [total]; offsets: [R * B + 1]."""
    if not bags:
        return []
    starts, lengths = (part.reshape(-1, len(bags)) for part in (offsets[:-1], np.diff(offsets)))
    filled, found = np.append(values, 0), []
    for k, bag in enumerate(bags):
        steps = np.arange(longest[bag.name])
        real = steps < lengths[:, k, np.newaxis]
        places = np.where(real, starts[:, k, np.newaxis] + steps, len(values))
        found += [filled[places].astype(np.float32), np.minimum(lengths[:, k, np.newaxis], len(steps))]
    return [part.astype(np.float32) for part in found]
