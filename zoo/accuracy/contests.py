"""Who is compared with whom on what: the rows of the table of accuracies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POINTWISE_TRAINING = {"max_epochs": 1}
"""Three times the samples of the sequence-shaped set."""

LARGE_TRAINING = {"batch_size": 256, "max_epochs": 2, "final_lr_share": 0.05}
"""Five times the samples: two epochs do, and the rates can fall."""

LARGE_DIEN = {"dense_lr": 2e-3}
"""At 3e-3 one seed in three stays in a poor minimum, on the validation split as well."""

ROLLING_TRAINING = {"max_epochs": 1}
"""Six times the samples of the last behaviours."""

POPULAR_NOTE = "One negative per positive, drawn by popularity as for DIEN. The base is trained as DIN and DIEN are."
SAMPLE_NOTE = "An 80k hashed sample: not comparable with published Criteo AUCs."
SAMPLE_NAME = "sample_80k"

BASE_SIZES = {"embedding_dim": 18, "large_fields": (), "deep_units": (200, 80)}
"""The mean-pooling base: Wide & Deep with the embedding and the top network of DIN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One row: a model with changes to its sizes and settings. ``model`` "logistic" is the logistic regression.

    "popularity" and "categories" are counts (``zoo.accuracy.simple_scores``).
    """

    label: str
    model: str
    sizes: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Contenders trained on one data set; the first one is the reference of the paired differences.

    ``training`` changes the settings of all of them alike. ``note`` is said above the table.
    """

    name: str
    title: str
    dataset: str
    options: Mapping[str, Any]
    contenders: tuple[Contender, ...]
    training: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


WDL = Contender(label="WDL", model="wdl")
DLRM = Contender(label="DLRM", model="dlrm")
DIN = Contender(label="DIN", model="din")
DIEN = Contender(label="DIEN", model="dien")
BASE = Contender(label="mean pooling (WDL, 200-80, 18 columns)", model="wdl", sizes=BASE_SIZES)
LOGISTIC = Contender(label="logistic regression", model="logistic")
POPULARITY = Contender(label="count of the item (no model)", model="popularity")
CATEGORIES = Contender(label="lift of the categories (no model)", model="categories")


def planted_contests() -> tuple[Contest, ...]:
    """Both shapes at the default size, the sequence at the large one."""
    return (
        Contest(
            name="planted-pointwise",
            title="planted, pointwise, default size",
            dataset="planted",
            options={"shape": "pointwise"},
            contenders=(WDL, DLRM),
            training=POINTWISE_TRAINING,
        ),
        Contest(
            name="planted-sequence",
            title="planted, sequence, default size",
            dataset="planted",
            options={"shape": "sequence"},
            contenders=(WDL, DLRM, DIN, DIEN),
        ),
        Contest(
            name="planted-large",
            title="planted, sequence, large size",
            dataset="planted",
            options={"shape": "sequence", "size": "large"},
            contenders=(WDL, DIN, dataclasses.replace(DIEN, training=LARGE_DIEN)),
            training=LARGE_TRAINING,
        ),
    )


def criteo_contest(path: Path) -> Contest:
    """Against a logistic regression that is fitted on the same training rows."""
    return Contest(
        name="criteo",
        title=f"criteo, {path.name}",
        dataset="criteo",
        options={"path": str(path)},
        contenders=(LOGISTIC, WDL, DLRM),
        note=SAMPLE_NOTE if SAMPLE_NAME in path.name else "",
    )


def amazon_contests(path: Path) -> tuple[Contest, ...]:
    """The last behaviour of each user, and every one after the second, of one event file."""
    name = path.name.split(".")[0]
    return tuple(
        Contest(
            name=f"amazon-{name}-{protocol}",
            title=f"amazon, {name}, {protocol}",
            dataset="amazon",
            options={"path": str(path), "protocol": protocol},
            contenders=(BASE, DIN, DIEN, POPULARITY, CATEGORIES),
            note=POPULAR_NOTE,
            training={} if protocol == "last" else ROLLING_TRAINING,
        )
        for protocol in ("last", "rolling")
    )
