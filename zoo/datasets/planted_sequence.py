"""The sequence-shaped planted data: user histories whose interests and intents evolve, and candidates that meet them.

A user follows two interests (categories); now and then the newer one is replaced, by its successor or by any other.
Meanwhile the user's intent turns between own needs and gifts; each turn shows as one behaviour in one of two marker
categories (think of a wish list that is opened and closed). The click logit of a candidate is known and depends on
columns that a model sees: it rises with the count of behaviours in the candidate's category; those done with own
intent speak for it and those done with gift intent against it; the item's quality, its price and the user's segment
add to it. A model that forgets the order knows the count and not the intent; one that averages the history knows not
even the count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.datasets.click_model import click_probability, draw_labels
from zoo.datasets.dense_statistics import log_statistics
from zoo.datasets.planted_counts import PlantedCounts
from zoo.datasets.portable_random import Float64, Int64, Stream, log2_floor_linear, noise, pick, raw_id, zipf_cdf
from zoo.schema import CrossField, DenseField, HistoryField, IdField, Rows, Schema, Side, Split, hash_rows

ITEMS = 1_000
CATEGORIES = 22
OWN_MARKER, GIFT_MARKER, FIRST_INTEREST = 0, 1, 2
"""The first two categories turn the intent; the others are interests."""
SEGMENTS = 20
NO_HISTORY_SHARE = 0.02
"""Share of the users without any history."""

REPLACED, BY_SUCCESSOR = 0.1, 0.5
"""Chance per behaviour that the newer interest replaces the older one, and that its own place goes to its successor."""
OLDER_INTEREST = 0.4
"""Chance per behaviour that it follows the older interest."""
STRAY = 0.05
"""Chance per behaviour of an item of any interest."""
TURN = 0.06
"""Chance per behaviour that the intent turns, which puts a marker in its place."""

FROM_HISTORY = 0.6
"""Share of the candidates whose category stands in the history."""
BIAS, COUNT, INTENT, QUALITY, PRICE, SEGMENT = -2.25, 0.5, 2.0, 0.3125, -0.125, 0.25


@dataclass(frozen=True, slots=True)
class World:
    """What all splits share: the items, sorted by category and then by popularity."""

    seed: int
    table_rows: int
    max_history: int
    raw_items: Int64
    category_of: Int64
    first_item: Int64
    popularity_cdf: Float64
    successor: Int64
    price: Float64


def build_world(seed: int, counts: PlantedCounts) -> World:
    """Items (no two share a row of the item table, so that the ceiling can be reached), categories, successors."""
    stream = Stream(seed, 2, 0)
    items = min(ITEMS, counts.table_rows // 3)
    pool = raw_id(np.arange(8 * items, dtype=np.int64), seed)
    _, first = np.unique(hash_rows(pool, counts.table_rows), return_index=True)
    raw_items = pool[np.sort(first)[:items]]
    category_of = np.sort(np.concatenate([np.arange(CATEGORIES), stream.below(CATEGORIES, items - CATEGORIES)]))
    first_item = np.searchsorted(category_of, np.arange(CATEGORIES + 1)).astype(np.int64)
    rank = np.arange(items) - first_item[category_of]
    ring = FIRST_INTEREST + stream.permutation(CATEGORIES - FIRST_INTEREST)
    successor = np.arange(CATEGORIES)
    successor[ring] = np.roll(ring, -1)
    price = np.floor(8.0 / (1.0 - stream.uniform(items)))
    popularity = np.concatenate([[0.0], np.cumsum(1.0 / (rank + 4.0))])
    return World(
        seed,
        counts.table_rows,
        counts.max_history,
        raw_items,
        category_of.astype(np.int64),
        first_item,
        popularity,
        successor,
        np.minimum(price, 2.0**16),
    )


def generate_split(world: World, part: int, users: int, candidates: int) -> Split:
    """``users`` groups of ``candidates`` samples; ``part`` numbers the split (its draws are its own)."""
    stream = Stream(world.seed, 3, part)
    lengths = _draw_lengths(stream, users, world.max_history)
    items = _draw_histories(world, stream, lengths)
    segment = pick(zipf_cdf(SEGMENTS), stream.uniform(users))
    user_of = np.repeat(np.arange(users, dtype=np.int64), candidates)
    candidate = _draw_candidates(world, stream, items, lengths, user_of)
    probability = click_probability(_logit(world, items, segment, candidate, user_of))
    flat = items[items >= 0]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Split(
        user=_rows(lengths.astype(np.float64), segment[:, None] + 1),
        item=_rows(world.price[candidate], _identify(world, candidate)),
        history=_identify(world, flat),
        history_offsets=offsets,
        user_of=user_of,
        labels=draw_labels(probability, stream),
        groups=np.arange(users + 1, dtype=np.int64) * candidates,
        probability=probability,
    )


def build_schema(world: World, train: Split) -> Schema:
    """The schema, with the statistics of the training split's dense columns."""
    rows = world.table_rows
    dense = (
        _log_field("history_length", "user", train.user),
        _log_field("price", "item", train.item),
    )
    ids = (
        IdField(name="segment", side="user", column=0, table="segment", rows=SEGMENTS + 1, hashed=False),
        IdField(name="item", side="item", column=0, table="item", rows=rows),
        IdField(name="category", side="item", column=1, table="category", rows=CATEGORIES + 1, hashed=False),
    )
    history = (
        HistoryField(name="history_item", target="item", table="item", rows=rows),
        HistoryField(name="history_category", target="category", table="category", rows=CATEGORIES + 1, hashed=False),
    )
    crosses = (CrossField(name="segmentxcategory", left="segment", right="category", rows=rows),)
    return Schema(name="planted", dense=dense, ids=ids, history=history, crosses=crosses, max_history=world.max_history)


def _log_field(name: str, side: Side, rows: Rows) -> DenseField:
    """The one dense column of a side."""
    means, spreads = log_statistics(rows.dense)
    return DenseField(name=name, side=side, transform="log", mean=means[0], std=spreads[0])


def _rows(dense: Float64, ids: Int64) -> Rows:
    """Rows of one dense column and some id columns, without bags."""
    return Rows(dense.astype(np.float32)[:, None], ids, np.zeros(0, np.int64), np.zeros(1, np.int64))


def _identify(world: World, items: Int64) -> Int64:
    """Raw ids (item, category) [n, 2] of items; category 0 of the table is the padding row."""
    return np.column_stack([world.raw_items[items], world.category_of[items] + 1])


def _item_in(world: World, category: Int64, uniform: Float64) -> Int64:
    """An item of each category [n] by popularity."""
    low = world.popularity_cdf[world.first_item[category]]
    high = world.popularity_cdf[world.first_item[category + 1]]
    item = np.searchsorted(world.popularity_cdf, low + uniform * (high - low), side="right") - 1
    return np.clip(item, world.first_item[category], world.first_item[category + 1] - 1).astype(np.int64)


def _draw_lengths(stream: Stream, users: int, longest: int) -> Int64:
    """Lengths [U] in [0, longest]: the smaller of two draws now and then, so that short ones are more common."""
    first, second = stream.below(longest, users), stream.below(longest, users)
    length = 1 + np.where(stream.happens(0.375, users), np.minimum(first, second), first)
    return np.where(stream.happens(NO_HISTORY_SHARE, users), 0, length)


def _any_interest(stream: Stream, count: int) -> Int64:
    return FIRST_INTEREST + stream.below(CATEGORIES - FIRST_INTEREST, count)


def _draw_histories(world: World, stream: Stream, lengths: Int64) -> Int64:
    """Items [U, max_history], aligned to the right (newest last), -1 before the first behaviour."""
    users, longest = len(lengths), world.max_history
    newer, older = _any_interest(stream, users), _any_interest(stream, users)
    marker = np.where(stream.happens(0.5, users), OWN_MARKER, GIFT_MARKER)
    items = np.full((users, longest), -1, np.int64)
    for step in range(longest):
        replaced = stream.happens(REPLACED, users)
        next_one = np.where(stream.happens(BY_SUCCESSOR, users), world.successor[newer], _any_interest(stream, users))
        older, newer = np.where(replaced, newer, older), np.where(replaced, next_one, newer)
        category = np.where(stream.happens(OLDER_INTEREST, users), older, newer)
        category = np.where(stream.happens(STRAY, users), _any_interest(stream, users), category)
        turned = stream.happens(TURN, users)
        marker = np.where(turned, OWN_MARKER + GIFT_MARKER - marker, marker)
        items[:, step] = _item_in(world, np.where(turned, marker, category), stream.uniform(users))
    items[np.arange(longest) < (longest - lengths)[:, None]] = -1
    return items


def _draw_candidates(world: World, stream: Stream, items: Int64, lengths: Int64, user_of: Int64) -> Int64:
    """Candidates [N]: of the category of a behaviour, or of any interest."""
    count, longest = len(user_of), items.shape[1]
    back = stream.below(np.maximum(lengths, 1)[user_of], count)
    behaviour = items[user_of, longest - 1 - back]
    category = np.where(behaviour < 0, OWN_MARKER, world.category_of[behaviour])
    usable = (category >= FIRST_INTEREST) & stream.happens(FROM_HISTORY, count)
    return _item_in(world, np.where(usable, category, _any_interest(stream, count)), stream.uniform(count))


def _logit(world: World, items: Int64, segment: Int64, candidate: Int64, user_of: Int64) -> Float64:
    """The planted logit [N]. Every term is a small multiple of 2**-14, so that the sum is exact in float64."""
    own, gift = (counts[user_of, world.category_of[candidate]] for counts in count_by_intent(world, items))
    balance = np.rint((own - gift) / np.maximum(own + gift, 1.0) * 256.0) / 256.0
    features = (
        noise(candidate, 3 * world.seed) * QUALITY
        + (log2_floor_linear(world.price[candidate]) - 4.0) * PRICE
        + noise(segment, 5 * world.seed + 1)[user_of] * SEGMENT
    )
    return BIAS + log2_floor_linear(own + gift) * COUNT + balance * INTENT + features


def count_by_intent(world: World, items: Int64) -> tuple[Float64, Float64]:
    """How often each category stands in each history, done with own intent and with gift intent: two [U, categories].

    The intent of a behaviour is told by the last marker before it; before any marker it is the user's own.
    """
    users, longest = items.shape
    history = np.where(items < 0, -1, world.category_of[items])
    counts = np.zeros((2, users, CATEGORIES))
    intent = np.full(users, OWN_MARKER)
    for step in range(longest):
        shown = history[:, step]
        intent = np.where((shown == OWN_MARKER) | (shown == GIFT_MARKER), shown, intent)
        present = np.flatnonzero(shown >= 0)
        counts[intent[present], present, shown[present]] += 1.0
    return counts[OWN_MARKER], counts[GIFT_MARKER]
