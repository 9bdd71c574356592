"""From a log of behaviours to labelled samples: the protocol of the DIN and DIEN papers.

The history of a target is what the same user did before it; its positive sample is the item that the user turned to,
its negative one a sampled item that the user never turned to. Users, not samples, are divided among the splits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from zoo.datasets.portable_random import Int64, Stream
from zoo.schema import HistoryField, IdField, Rows, Schema, Split, take_ragged

Protocol = Literal["last", "rolling"]
Negatives = Literal["uniform", "popular"]
SAMPLES_PER_TARGET = 2


@dataclass(frozen=True, slots=True)
class BehaviourLog:
    """Behaviours of U users, user by user, in time order within a user.

    items [E] int64 in [1, I]; offsets [U + 1] int64: user u did ``items[offsets[u] : offsets[u + 1]]``;
    category_of [I + 1] int64 in [1, K], index 0 unused.
    """

    items: Int64
    offsets: Int64
    category_of: Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """``protocol``: the last behaviour of each user is a target, or (rolling) every one after the second.

    ``negatives``: items uniformly, or by how often they occur in the log. valid_share and test_share are shares of the
    users. The first ``query_groups`` groups of the test split are filled up to ``query_size`` candidates that nobody
    labelled, so that queries of any size exist.
    """

    protocol: Protocol
    negatives: Negatives
    max_history: int
    valid_share: float
    test_share: float
    query_groups: int
    query_size: int
    seed: int


def make_splits(log: BehaviourLog, options: SamplingOptions) -> tuple[Split, Split, Split]:
    """Training, validation and test split. Raises ValueError when a split would be empty."""
    users = len(log.offsets) - 1
    order = Stream(options.seed, 10).permutation(users)
    test, valid = int(options.test_share * users), int(options.valid_share * users)
    parts = (order[test + valid :], order[test : test + valid], order[:test])
    names = ("training", "validation", "test")
    splits = []
    for number, (name, chosen) in enumerate(zip(names, parts, strict=True)):
        owners, positions = targets_of(log, chosen, options.protocol)
        if not len(owners):
            raise ValueError(
                f"the {name} split is empty: of its {len(chosen):,} users (of {users:,} in all) none has enough "
                "behaviours for a target; give more data or larger dataset.valid_share and dataset.test_share"
            )
        extra = (options.query_groups, options.query_size) if name == "test" else (0, 0)
        splits.append(_build_split(log, options, owners, positions, number, extra))
    return splits[0], splits[1], splits[2]


def targets_of(log: BehaviourLog, users: Int64, protocol: Protocol) -> tuple[Int64, Int64]:
    """(user, position in the user's behaviours) of each target, users in the given order.

    last: the last behaviour of users with two or more. rolling: all behaviours after the second.
    """
    lengths = log.offsets[users + 1] - log.offsets[users]
    if protocol == "last":
        able = lengths >= 2
        return users[able], lengths[able] - 1
    counts = np.maximum(lengths - 2, 0)
    first = np.cumsum(counts) - counts
    owners = np.repeat(users, counts)
    return owners, np.arange(counts.sum()) - np.repeat(first, counts) + 2


def build_schema(name: str, log: BehaviourLog, max_history: int) -> Schema:
    """Item and category as they are numbered in the log (row = number, row 0 is padding); no user column."""
    items, categories = len(log.category_of), int(log.category_of.max()) + 1
    sizes = {"item": items, "category": categories}
    return Schema(
        name=name,
        ids=tuple(
            IdField(name=field, side="item", column=column, table=field, rows=rows, hashed=False)
            for column, (field, rows) in enumerate(sizes.items())
        ),
        history=tuple(
            HistoryField(name=f"history_{field}", target=field, table=field, rows=rows, hashed=False)
            for field, rows in sizes.items()
        ),
        max_history=max_history,
    )


class NegativeSampler:
    """Draws items that a user never turned to, in the whole log."""

    def __init__(self, log: BehaviourLog, kind: Negatives, stream: Stream) -> None:
        self._items = len(log.category_of) - 1
        self._pool = log.items if kind == "popular" else np.arange(1, self._items + 1, dtype=np.int64)
        self._stream = stream
        owner = np.repeat(np.arange(len(log.offsets) - 1), np.diff(log.offsets))
        self._known = np.unique(owner * (self._items + 1) + log.items)
        known_items = np.bincount(self._known // (self._items + 1), minlength=len(log.offsets) - 1)
        if np.any(known_items >= self._items):
            raise ValueError(
                f"user {int(np.argmax(known_items))} turned to all {self._items} items of the log: "
                "there is no item left to sample as a negative"
            )

    def draw(self, users: Int64) -> Int64:
        """One item [N] for each of ``users`` [N]; draws that hit the user's own items are drawn again."""
        drawn = self._pool[self._stream.below(len(self._pool), len(users))]
        again = np.flatnonzero(self._in_history(users, drawn))
        while len(again):
            drawn[again] = self._pool[self._stream.below(len(self._pool), len(again))]
            again = again[self._in_history(users[again], drawn[again])]
        return drawn

    def _in_history(self, users: Int64, items: Int64) -> npt.NDArray[np.bool_]:
        keys = users * (self._items + 1) + items
        place = np.minimum(np.searchsorted(self._known, keys), len(self._known) - 1)
        found: npt.NDArray[np.bool_] = self._known[place] == keys
        return found


def _build_split(
    log: BehaviourLog, options: SamplingOptions, owners: Int64, positions: Int64, number: int, extra: tuple[int, int]
) -> Split:
    """One group per target: its positive, its negative, and (first ``extra[0]`` groups) unlabelled candidates."""
    sampler = NegativeSampler(log, options.negatives, Stream(options.seed, 11, number))
    targets = len(owners)
    sizes = np.full(targets, SAMPLES_PER_TARGET, np.int64)
    sizes[: extra[0]] = max(SAMPLES_PER_TARGET, extra[1])
    groups = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    user_of = np.repeat(np.arange(targets, dtype=np.int64), sizes)
    candidates = np.empty(len(user_of), np.int64)
    labels = np.full(len(user_of), np.nan, np.float32)
    positive, negative = groups[:-1], groups[:-1] + 1
    rest = np.setdiff1d(np.arange(len(user_of)), np.concatenate([positive, negative]))
    candidates[positive], labels[positive] = log.items[log.offsets[owners] + positions], 1.0
    candidates[negative], labels[negative] = sampler.draw(owners), 0.0
    candidates[rest] = sampler.draw(owners[user_of[rest]])
    history, history_offsets = _histories(log, owners, positions, options.max_history)
    return Split(
        user=Rows.empty(targets),
        item=_item_rows(log, candidates),
        history=history,
        history_offsets=history_offsets,
        user_of=user_of,
        labels=labels,
        groups=groups,
    )


def _histories(log: BehaviourLog, owners: Int64, positions: Int64, longest: int) -> tuple[Int64, Int64]:
    """The last ``longest`` behaviours before each target: ([T, 2] item and category, offsets)."""
    lengths = np.minimum(positions, longest)
    start = log.offsets[owners] + positions - lengths
    # Segments overlap between targets of one user: gathered one by one through (start, end) pairs.
    edges = np.column_stack([start, start + lengths]).ravel()
    items, _ = take_ragged(log.items, edges, np.arange(len(owners), dtype=np.int64) * 2)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return np.column_stack([items, log.category_of[items]]), offsets


def _item_rows(log: BehaviourLog, items: Int64) -> Rows:
    ids = np.column_stack([items, log.category_of[items]])
    return Rows(np.zeros((len(items), 0), np.float32), ids, np.zeros(0, np.int64), np.zeros(1, np.int64))
