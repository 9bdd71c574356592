"""The data sets by name: what each is, its options, how it is identified and loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.datasets import amazon, criteo, movielens, planted
from zoo.datasets.options import nearest, parse_options
from zoo.schema import Dataset

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction of it that is done, in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetEntry:
    """One data set. ``load`` and ``fingerprint`` take the parsed options and the cache folder (None: no cache).

    users: whether some columns belong to a user, whom the samples of a query share.
    """

    name: str
    summary: str
    options_type: type[Any]
    fingerprint: Callable[[Any, Path | None], str]
    load: Callable[[Any, Path, Progress], Dataset]
    users: bool = True


DATASETS: dict[str, DatasetEntry] = {
    entry.name: entry
    for entry in (
        DatasetEntry(
            name="planted",
            summary="generated clicks with a known Bayes AUC; pointwise (Criteo-shaped) or sequence-shaped",
            options_type=planted.PlantedOptions,
            fingerprint=planted.fingerprint,
            load=planted.load,
        ),
        DatasetEntry(
            name="criteo",
            summary="Criteo display-advertising click logs (Kaggle train.txt or 1TB day_N), split in time order",
            options_type=criteo.CriteoOptions,
            fingerprint=criteo.fingerprint,
            load=criteo.load,
            users=False,
        ),
        DatasetEntry(
            name="amazon",
            summary="Amazon product reviews as behaviours (reviews + metadata, or an event file), split by user",
            options_type=amazon.AmazonOptions,
            fingerprint=amazon.fingerprint,
            load=amazon.load,
        ),
        DatasetEntry(
            name="movielens",
            summary="MovieLens 100K or 1M, ratings of 4 and more as behaviours, split by user",
            options_type=movielens.MovielensOptions,
            fingerprint=movielens.fingerprint,
            load=movielens.load,
        ),
    )
}


def load_dataset(name: str, options: Mapping[str, Any], cache_dir: Path, progress: Progress | None = None) -> Dataset:
    """Read or generate data set ``name``; parsed files are cached under ``cache_dir``.

    Raises ValueError with one paragraph for an unknown name, a bad option, and for input that is missing or broken.
    """
    entry = _entry(name)
    parsed = parse_options(name, entry.options_type, options)
    return entry.load(parsed, Path(cache_dir), progress or (lambda _what, _fraction: None))


def fingerprint(name: str, options: Mapping[str, Any], cache_dir: Path | None = None) -> str:
    """SHA-256 (hex) of everything that shapes data set ``name``: content of its files, options, reader version.

    With ``cache_dir`` the content hash of a file is remembered by path, size and time of change. Raises ValueError
    as ``load_dataset`` does for names, options and missing files.
    """
    entry = _entry(name)
    return entry.fingerprint(parse_options(name, entry.options_type, options), cache_dir)


def trained_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the data set on which the weights for that of ``options`` are trained: one copy of the tables."""
    return {**options, "table_copies": 1} if table_copies(options) > 1 else dict(options)


def table_copies(options: Mapping[str, Any]) -> int:
    """Copies of the trained tables that the data set of ``options`` is served from."""
    return int(options.get("table_copies", 1))


def _entry(name: str) -> DatasetEntry:
    if name not in DATASETS:
        raise ValueError(f"dataset={name} is unknown{nearest(name, DATASETS)}: use one of {', '.join(DATASETS)}")
    return DATASETS[name]
