"""The planted probability, recomputed in plain Python from nothing but the columns that a model sees."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from zoo.datasets import load_dataset, planted_pointwise, planted_sequence
from zoo.datasets.planted import PlantedOptions
from zoo.datasets.portable_random import mix64, noise, raw_id
from zoo.schema import Dataset, Rows

SEED = 11


def load(shape: str) -> Dataset:
    return load_dataset("planted", {"shape": shape, "size": "tiny", "seed": SEED}, Path("unused"))


def weight(index: int, salt: int) -> float:
    return float(noise(np.array([index], np.int64), salt)[0])


def straight_log2(value: float) -> float:
    """log2(1 + value) by straight lines between powers of two, on the grid 2**-8."""
    whole = math.floor(math.log2(1.0 + value))
    return round((whole + (1.0 + value) / 2**whole - 1.0) * 256) / 256


def sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-round(min(8.0, max(-8.0, logit)) * 256) / 256))


def test_sequence_probability_needs_only_visible_columns() -> None:
    data = load("sequence")
    world = planted_sequence.build_world(SEED, PlantedOptions(size="tiny", seed=SEED).counts())
    number = {int(raw): index for index, raw in enumerate(world.raw_items)}
    split = data.test
    assert split.probability is not None
    for sample in range(0, len(split), 37):
        user = int(split.user_of[sample])
        item = number[int(split.item.ids[sample, 0])]
        category = int(split.item.ids[sample, 1])
        counts = {"own": 0, "gift": 0}
        intent = "own"
        for _, shown in split.history[split.history_offsets[user] : split.history_offsets[user + 1]].tolist():
            intent = {1: "own", 2: "gift"}.get(shown, intent)
            counts[intent] += shown == category
        total = counts["own"] + counts["gift"]
        logit = (
            planted_sequence.BIAS
            + planted_sequence.COUNT * straight_log2(total)
            + planted_sequence.INTENT * round((counts["own"] - counts["gift"]) / max(total, 1) * 256) / 256
            + planted_sequence.QUALITY * weight(item, 3 * SEED)
            + planted_sequence.PRICE * (straight_log2(float(split.item.dense[sample, 0])) - 4.0)
            + planted_sequence.SEGMENT * weight(int(split.user.ids[user, 0]) - 1, 5 * SEED + 1)
        )
        assert float(split.probability[sample]) == pytest.approx(sigmoid(logit), abs=2**-23)


def test_order_of_the_history_decides() -> None:
    world = planted_sequence.build_world(SEED, PlantedOptions(size="tiny", seed=SEED).counts())
    first = world.first_item
    interest = int(first[5])
    before, after = [interest, int(first[1])], [int(first[1]), interest]  # a turn to gifts after, and before
    items = np.array([[-1, *before], [-1, *after]], np.int64)
    own, gift = planted_sequence.count_by_intent(world, items)
    assert own[:, 5].tolist() == [1.0, 0.0]
    assert gift[:, 5].tolist() == [0.0, 1.0]


def salt(column: str, factor: int = 0) -> int:
    return int(mix64(np.array([SEED * 1_000 + int(column[1:])], np.int64), factor)[0]) >> 1


class Side:
    """One side's columns by name, raw ids turned back into vocabulary indices."""

    def __init__(self, rows: Rows, dense: tuple[str, ...], ids: dict[str, int], bags: dict[str, int]) -> None:
        self.rows, self.dense, self.ids, self.bags = rows, dense, list(ids), list(bags)
        vocabulary = np.arange(500, dtype=np.int64)
        self.index = {
            column: {int(raw): index for index, raw in enumerate(raw_id(vocabulary, salt(column)))}
            for column in (*ids, *bags)
        }

    def id(self, row: int, column: str) -> int | None:
        raw = int(self.rows.ids[row, self.ids.index(column)])
        return None if raw == -1 else self.index[column][raw]

    def effect(self, row: int, column: str, factor: int) -> float:
        index = self.id(row, column)
        return 0.0 if index is None else weight(index, salt(column, factor))

    def own(self, row: int) -> float:
        total = sum(
            scale * self.effect(row, column, 1)
            for column, scale in planted_pointwise.MAIN_EFFECTS.items()
            if column in self.ids
        )
        for column, slope in planted_pointwise.SLOPES.items():
            value = float(self.rows.dense[row, self.dense.index(column)]) if column in self.dense else math.nan
            total += 0.0 if math.isnan(value) else slope * (straight_log2(value) - 2.5)
        for position, column in enumerate(self.bags):
            place = row * len(self.bags) + position
            for raw in self.rows.bag_values[self.rows.bag_offsets[place] : self.rows.bag_offsets[place + 1]].tolist():
                scale = planted_pointwise.BAG_EFFECTS.get(column, 0.0)
                total += scale * weight(self.index[column][raw], salt(column, 1))
        return total


def test_pointwise_probability_needs_only_visible_columns() -> None:
    split = load("pointwise").test
    assert split.probability is not None
    p = planted_pointwise
    users = Side(split.user, p.USER_DENSE, p.USER_IDS, p.USER_BAGS)
    items = Side(split.item, p.ITEM_DENSE, p.ITEM_IDS, p.ITEM_BAGS)
    for sample in range(0, len(split), 41):
        user = int(split.user_of[sample])
        logit = p.BIAS + users.own(user) + items.own(sample)
        for (left, right), scale in p.CROSS_EFFECTS.items():
            a, b = users.id(user, left), items.id(sample, right)
            if a is not None and b is not None:
                logit += scale * weight(a * 1_000_003 + b, salt(left, 2))
        for left, right in zip(*p.FACTOR_IDS, strict=True):
            for factor in range(10, 10 + p.FACTORS):
                logit += p.FACTOR_SCALE * users.effect(user, left, factor) * items.effect(sample, right, factor)
        assert float(split.probability[sample]) == pytest.approx(sigmoid(logit), abs=2**-23)
