"""The sampling protocol against a plain loop over users, and its promises about users and negatives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.datasets.behaviours import (
    BehaviourLog,
    NegativeSampler,
    SamplingOptions,
    build_schema,
    make_splits,
    targets_of,
)
from zoo.datasets.portable_random import Stream
from zoo.schema import Split

OPTIONS = SamplingOptions(
    protocol="last",
    negatives="uniform",
    max_history=4,
    valid_share=0.2,
    test_share=0.2,
    query_groups=3,
    query_size=7,
    seed=5,
)


def log_of(lengths: list[int], extra_items: int = 40) -> BehaviourLog:
    """Every behaviour has an item of its own, so that a history tells its owner; item i has category i % 7 + 1."""
    offsets = np.cumsum([0, *lengths]).astype(np.int64)
    items = np.arange(1, offsets[-1] + 1)
    category_of = np.append(0, np.arange(1, offsets[-1] + extra_items + 1) % 7 + 1)
    return BehaviourLog(items, offsets, category_of.astype(np.int64))


def users_of(log: BehaviourLog, split: Split) -> np.ndarray:
    """The owner of each group, told by its positive item."""
    positives = split.item.ids[split.groups[:-1], 0]
    return np.searchsorted(log.offsets, positives - 1, side="right") - 1


many_users = st.lists(st.integers(0, 9), min_size=40, max_size=60)


@settings(max_examples=40)
@given(many_users, st.sampled_from(["last", "rolling"]))
def test_targets_are_those_of_a_plain_loop(lengths: list[int], protocol: str) -> None:
    log = log_of(lengths)
    users = Stream(1).permutation(len(lengths))
    expected = []
    for user in users.tolist():
        length = lengths[user]
        if protocol == "last":
            expected += [(user, length - 1)] if length >= 2 else []
        else:
            expected += [(user, position) for position in range(2, length)]
    owners, positions = targets_of(log, users, protocol)  # type: ignore[arg-type]
    assert list(zip(owners.tolist(), positions.tolist(), strict=True)) == expected


@settings(max_examples=25)
@given(st.lists(st.integers(3, 9), min_size=40, max_size=60), st.sampled_from(["last", "rolling"]))
def test_samples_hold_what_happened_before_the_target(lengths: list[int], protocol: str) -> None:
    log = log_of(lengths)
    splits = make_splits(log, dataclasses.replace(OPTIONS, protocol=protocol))  # type: ignore[arg-type]
    owners = [users_of(log, split) for split in splits]
    for split, groups_of in zip(splits, owners, strict=True):
        for group, user in enumerate(groups_of.tolist()):
            start, end = split.groups[group], split.groups[group + 1]
            own = log.items[log.offsets[user] : log.offsets[user + 1]].tolist()
            position = own.index(split.item.ids[start, 0])
            seen = split.history[split.history_offsets[group] : split.history_offsets[group + 1]]
            assert seen[:, 0].tolist() == own[:position][-4:]
            assert seen[:, 1].tolist() == log.category_of[seen[:, 0]].tolist()
            assert split.user_of[start:end].tolist() == [group] * (end - start)
            assert split.labels[start : start + 2].tolist() == [1.0, 0.0]
            assert np.isnan(split.labels[start + 2 : end]).all()
            assert not set(split.item.ids[start + 1 : end, 0].tolist()) & set(own)
    assert [
        len(set(a) & set(b)) for a, b in ((owners[0], owners[1]), (owners[0], owners[2]), (owners[1], owners[2]))
    ] == [0, 0, 0]
    assert sum(len(set(each.tolist())) for each in owners) == len(lengths)


def test_shares_of_users_and_sizes_of_groups() -> None:
    log = log_of([5] * 50)
    train, valid, test = make_splits(log, OPTIONS)
    assert [len(split.groups) - 1 for split in (train, valid, test)] == [30, 10, 10]
    assert np.diff(test.groups).tolist() == [7, 7, 7, *[2] * 7]
    assert np.diff(train.groups).tolist() == [2] * 30
    assert np.isfinite(test.labels).sum() == 20


def test_the_seed_decides_users_and_negatives() -> None:
    log = log_of([5] * 50)
    first, again, other = (make_splits(log, dataclasses.replace(OPTIONS, seed=seed))[2] for seed in (5, 5, 6))
    assert np.array_equal(first.item.ids, again.item.ids)
    assert not np.array_equal(first.item.ids, other.item.ids)


def test_negatives_follow_their_law() -> None:
    items = np.array([1, 2, 1, 3, 1, 1, 4, 4], np.int64)
    log = BehaviourLog(items, np.array([0, 1, 8], np.int64), np.array([0, 1, 1, 1, 1, 1], np.int64))
    users = np.zeros(60_000, np.int64)  # user 0 knows item 1; user 1 knows 1, 2, 3, 4
    uniform = np.bincount(NegativeSampler(log, "uniform", Stream(1)).draw(users), minlength=6) / 60_000
    popular = np.bincount(NegativeSampler(log, "popular", Stream(2)).draw(users), minlength=6) / 60_000
    bound = 5 * (0.25 / 60_000) ** 0.5
    assert np.abs(uniform - np.array([0, 0, 0.25, 0.25, 0.25, 0.25])).max() < bound
    assert np.abs(popular - np.array([0, 0, 0.25, 0.25, 0.5, 0])).max() < bound
    assert set(NegativeSampler(log, "uniform", Stream(3)).draw(users + 1).tolist()) == {5}


def test_a_user_who_knows_everything_is_an_error() -> None:
    log = BehaviourLog(np.array([1, 2], np.int64), np.array([0, 2], np.int64), np.array([0, 1, 1], np.int64))
    with pytest.raises(ValueError, match="turned to all 2 items"):
        NegativeSampler(log, "uniform", Stream(1))


def test_an_empty_split_is_an_error() -> None:
    with pytest.raises(ValueError, match="the training split is empty"):
        make_splits(log_of([1] * 20), OPTIONS)
    with pytest.raises(ValueError, match="the validation split is empty: of its 0 users"):
        make_splits(log_of([5] * 4), OPTIONS)


def test_schema_counts_items_and_categories_with_the_padding_row() -> None:
    log = log_of([5] * 4, extra_items=0)
    schema = build_schema("amazon", log, 4)
    assert schema.tables() == {"item": 21, "category": 8}
    assert [(field.name, field.target) for field in schema.history] == [
        ("history_item", "item"),
        ("history_category", "category"),
    ]
