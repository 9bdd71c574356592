"""What the data sets of behaviours (amazon, movielens) have in common: options and the way from file to splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from zoo.datasets.behaviour_table import read_behaviours
from zoo.datasets.behaviours import SamplingOptions, build_schema, make_splits
from zoo.datasets.cache import cached_folder, digest
from zoo.datasets.options import require_counts
from zoo.schema import Dataset

READER_VERSION = 1
"""Part of cache keys and fingerprints: raise it whenever parsing or sampling changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourOptions:
    """See ``zoo.datasets.behaviours.SamplingOptions`` for all but ``path``."""

    path: str = ""
    protocol: Literal["last", "rolling"] = "last"
    negatives: Literal["uniform", "popular"] = "uniform"
    max_history: int = 50
    valid_share: float = 0.1
    test_share: float = 0.1
    query_groups: int = 512
    query_size: int = 100
    seed: int = 1

    def __post_init__(self) -> None:
        require_counts(self, {"max_history": 1, "query_groups": 0, "query_size": 2, "seed": 0})
        shares = self.valid_share, self.test_share
        if min(shares) <= 0 or sum(shares) >= 1:
            raise ValueError(
                f"dataset.valid_share={shares[0]} and dataset.test_share={shares[1]} are out of range: "
                "both must be above 0 and leave users to train on"
            )

    def sampling(self) -> SamplingOptions:
        """The part that decides how samples are made of a log."""
        return SamplingOptions(**{field.name: getattr(self, field.name) for field in fields(SamplingOptions)})

    def identity(self, contents: list[str]) -> str:
        """SHA-256 of everything but where the files lie."""
        shaped_by = {field.name: getattr(self, field.name) for field in fields(self) if "path" not in field.name}
        return digest({**shaped_by, "reader": READER_VERSION, "content": contents})


def load_behaviours(
    name: str, options: BehaviourOptions, contents: list[str], cache_dir: Path, parse: Callable[[Path], None]
) -> Dataset:
    """The data set of files whose hashes are ``contents``; ``parse`` writes their behaviours to a cache folder."""
    key = digest({"reader": READER_VERSION, "content": contents})[:16]
    log = read_behaviours(cached_folder(cache_dir, f"{name}-{key}", lambda folder: parse(folder)))
    train, valid, test = make_splits(log, options.sampling())
    return Dataset(
        name=name,
        schema=build_schema(name, log, options.max_history),
        train=train,
        valid=valid,
        test=test,
        fingerprint=options.identity(contents),
    )
