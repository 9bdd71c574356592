"""A split on disk, as arrays that processes map: those that train on one file share its pages. Numpy only."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from zoo.array_file import PAGE, ArrayFileWriter, map_arrays
from zoo.schema import Rows, Split

SIDES = ("user", "item")
COLUMNS = ("history", "history_offsets", "user_of", "labels", "groups")


def write_split(path: Path, split: Split) -> None:
    """Write all columns but the true probabilities, which no model may see."""
    with path.open("wb") as file, ArrayFileWriter(file) as writer:
        for side in SIDES:
            rows = getattr(split, side)
            for field in dataclasses.fields(Rows):
                array = getattr(rows, field.name)
                writer.add(f"{side}.{field.name}", array.shape, array.dtype, (array,))
        for name in COLUMNS:
            array = getattr(split, name)
            writer.add(name, array.shape, array.dtype, (array,))


def map_split(path: Path) -> Split:
    """The split of ``write_split``, read-only where it lies; its pages have been asked for once."""
    arrays = map_arrays(path)
    for array in arrays.values():
        array.reshape(-1).view(np.uint8)[::PAGE].sum()  # what is mapped later costs a page fault in a timed step
    sides = {side: Rows(*(arrays[f"{side}.{field.name}"] for field in dataclasses.fields(Rows))) for side in SIDES}
    return Split(**sides, **{name: arrays[name] for name in COLUMNS})


def first_samples(split: Split, count: int) -> Split:
    """The first ``count`` samples with the users that they need; the split itself where it has no more."""
    if len(split) <= count:
        return split
    samples = np.arange(count, dtype=np.int64)
    batch = split.batch(samples)
    groups = np.array([0, count], np.int64)
    return Split(
        user=batch.user,
        item=batch.item,
        history=batch.history,
        history_offsets=batch.history_offsets,
        user_of=batch.user_of,
        labels=split.labels[samples],
        groups=groups,
    )
