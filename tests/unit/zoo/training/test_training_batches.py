"""Which samples a training sees, in which order, and what is read of each."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.schema import Schema, Split
from zoo.training_batches import Draw, TrainingBatches, samples_of_steps

MakeSplit = Callable[..., Split]


@pytest.fixture
def split(schemas: dict[str, Schema], random_split: MakeSplit) -> Split:
    """23 samples of 9 users, two of them without a label."""
    made = random_split(schemas["sequence"], 9, 23, seed=3)
    made.labels[[4, 17]] = np.nan
    return made


def histories(split: Split, draw: Draw) -> list[list[int]]:
    """Raw behaviours of each sample's user."""
    users = split.user_of[draw.samples]
    spans = zip(split.history_offsets[users], split.history_offsets[users + 1], strict=True)
    return [split.history[start:stop, 0].tolist() for start, stop in spans]


def test_an_epoch_is_a_permutation_of_the_labelled_samples_and_the_next_one_another(split: Split) -> None:
    batches = TrainingBatches(split, 5, 7, with_negatives=False)
    labelled = [k for k in range(23) if k not in (4, 17)]
    assert len(batches) == 21 and batches.per_epoch == 5
    rng, seen = np.random.default_rng(7), []
    for _ in range(3):
        epoch = [batches.draw().samples.tolist() for _ in range(5)]
        assert [len(batch) for batch in epoch] == [5, 5, 5, 5, 1]
        assert list(chain.from_iterable(epoch)) == rng.permutation(labelled).tolist()
        seen.append(epoch)
    assert seen[0] != seen[1] != seen[2]


def test_batches_from_a_place_are_those_of_the_first_epoch_whatever_was_drawn_before(split: Split) -> None:
    whole = TrainingBatches(split, 5, 7, with_negatives=True)
    epoch = [whole.draw() for _ in range(5)]
    for place in (0, 2, 4):
        draws = []
        for before in (0, 9):
            batches = TrainingBatches(split, 5, 7, with_negatives=True)
            for _ in range(before):
                batches.draw()
            there = batches.at(place)
            draws.append([there.draw() for _ in range(5 - place)])
            assert batches.steps == before and there.steps == 5
        for one, other, first in zip(*draws, epoch[place:], strict=True):
            assert one.samples.tolist() == other.samples.tolist() == first.samples.tolist()
            assert one.negatives is not None and other.negatives is not None
            assert one.negatives.tolist() == other.negatives.tolist()
            assert len(one.negatives) == sum(map(len, histories(split, one)))
    for outside in (-1, 5):
        with pytest.raises(ValueError, match="not one of the 5"):
            whole.at(outside)


def test_behaviours_are_sampled_from_the_same_stream_one_for_each(split: Split) -> None:
    batches, rng = TrainingBatches(split, 8, 2, with_negatives=True), np.random.default_rng(2)
    order = rng.permutation(np.flatnonzero(~np.isnan(split.labels)))
    for step in range(3):
        draw = batches.draw()
        assert draw.samples.tolist() == order[8 * step : 8 * step + 8].tolist()
        count = sum(map(len, histories(split, draw)))
        assert draw.negatives is not None
        assert draw.negatives.tolist() == rng.integers(0, len(split.history), count).tolist()


def test_sampled_behaviours_follow_their_popularity(schemas: dict[str, Schema], random_split: MakeSplit) -> None:
    split = random_split(schemas["sequence"], 200, 200, seed=1)
    values, counts = np.unique(split.history[:, 0], return_counts=True)
    batches = TrainingBatches(split, 200, 2, with_negatives=True)
    drawn = np.concatenate([split.history[batches.draw().negatives, 0] for _ in range(400)])
    share = np.array([(drawn == value).mean() for value in values])
    np.testing.assert_allclose(share, counts / counts.sum(), atol=0.005)


def test_what_is_read_is_what_the_split_holds(split: Split) -> None:
    batches = TrainingBatches(split, 6, 1, with_negatives=True)
    draw = batches.draw()
    reading = batches.read(draw)
    assert reading.labels.tolist() == split.labels[draw.samples].tolist()
    assert reading.batch.item.ids.tolist() == split.item.ids[draw.samples].tolist()
    assert reading.batch.history[:, 0].tolist() == list(chain.from_iterable(histories(split, draw)))
    assert reading.negatives is not None and draw.negatives is not None
    assert reading.negatives.tolist() == split.history[draw.negatives].tolist()


@pytest.mark.parametrize("parts", [1, 2, 3, 6, 9])
def test_parts_are_the_batch_in_order_and_of_equal_size(split: Split, parts: int) -> None:
    batches = TrainingBatches(split, 6, 1, with_negatives=True)
    draw = batches.draw()
    cut = batches.cut(draw, parts)
    sizes = [len(part.samples) for part in cut]
    assert len(cut) == min(parts, 6) and max(sizes) - min(sizes) <= 1 and min(sizes) > 0
    for whole, pieces in zip(draw, zip(*cut, strict=True), strict=True):
        assert np.concatenate(pieces).tolist() == whole.tolist()
    for part in cut:
        assert part.negatives is not None and len(part.negatives) == sum(map(len, histories(split, part)))


def test_a_fork_draws_the_same_and_disturbs_nothing(split: Split) -> None:
    batches, untouched = (TrainingBatches(split, 4, 5, with_negatives=True, reordering=1) for _ in range(2))
    batches.draw(), untouched.draw()
    fork = batches.fork()
    ahead = [fork.draw() for _ in range(20)]
    for one in ahead:
        for other in (batches.draw(), untouched.draw()):
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_another_order_holds_the_same_samples_with_their_own_sampled_behaviours(split: Split) -> None:
    plain = TrainingBatches(split, 7, 5, with_negatives=True)
    moved = TrainingBatches(split, 7, 5, with_negatives=True, reordering=0)
    changed = 0
    for _ in range(6):
        one, other = plain.draw(), moved.draw()
        pairs = [
            sorted(
                (int(part.samples[0]), *part.negatives.tolist())
                for part in batches.cut(draw, len(draw.samples))
                if part.negatives is not None
            )
            for batches, draw in ((plain, one), (moved, other))
        ]
        assert pairs[0] == pairs[1]
        changed += one.samples.tolist() != other.samples.tolist()
    assert changed >= 4


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 60), st.integers(0, 60))
def test_samples_of_steps_are_counted_as_they_are_drawn(samples: int, size: int, first: int, count: int) -> None:
    per_epoch = -(-samples // size)
    sizes = [min(size, samples - size * (step % per_epoch)) for step in range(first, first + count)]
    assert samples_of_steps(first, count, samples, size) == sum(sizes)
