"""Settings of the fit loop: a frozen value without a framework, part of what identifies a set of weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Batch size, rates, regularisation and early stopping.

    Embeddings learn by Adagrad (``embedding_lr``; ``embedding_l2`` acts on the rows that a batch touches,
    ``embedding_accumulator`` is the first value of the sum of squares), dense layers by Adam (``dense_lr``), the wide
    part by FTRL-Proximal (``wide_lr`` is its alpha, ``wide_beta`` its beta; as gradients are means over a batch, a
    beta of 1 / batch_size is the paper's 1). The rates of Adam and Adagrad fall in a line to ``final_lr_share`` of
    themselves at the last step of the last epoch. ``dropout`` acts between fully connected layers. ``average`` is the
    decay per step of a moving average of all weights, which is what is then judged and kept; 0 keeps the weights.
    The AUC of the validation split is taken ``evaluations`` times per epoch; ``patience`` of them without a new best
    end the training. ``threads`` 0 leaves PyTorch's own number.
    """

    batch_size: int = 512
    max_epochs: int = 2
    evaluations: int = 2
    patience: int = 2
    dense_lr: float = 1e-3
    embedding_lr: float = 0.05
    wide_lr: float = 0.1
    wide_beta: float = 0.002
    wide_l1: float = 0.0
    wide_l2: float = 0.02
    final_lr_share: float = 1.0
    dropout: float = 0.0
    average: float = 0.0
    embedding_l2: float = 1e-4
    embedding_accumulator: float = 0.0
    seed: int = 1
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_epochs", "evaluations", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name}={getattr(self, name)} has to be at least 1")
        for name in ("dense_lr", "embedding_lr", "wide_lr", "wide_beta"):
            if getattr(self, name) <= 0:
                raise ValueError(f"training.{name}={getattr(self, name)} has to be above 0")
        for name in ("wide_l1", "wide_l2", "embedding_l2", "embedding_accumulator", "seed", "threads"):
            if getattr(self, name) < 0:
                raise ValueError(f"training.{name}={getattr(self, name)} must not be negative")
        if not 0 <= self.final_lr_share <= 1:
            raise ValueError(f"training.final_lr_share={self.final_lr_share} has to lie in [0, 1]")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"training.dropout={self.dropout} has to lie in [0, 1)")
        if not 0 <= self.average < 1:
            raise ValueError(f"training.average={self.average} has to lie in [0, 1)")


_SEQUENCE: dict[str, Any] = {
    "batch_size": 128,
    "max_epochs": 3,
    "patience": 3,
    "dense_lr": 3e-3,
    "embedding_lr": 0.1,
    "embedding_l2": 3e-4,
    "final_lr_share": 0.05,
}

DEFAULTS: dict[str, dict[str, Any]] = {
    "wdl": {"final_lr_share": 0.05},
    "din": _SEQUENCE,
    "dien": _SEQUENCE,
    "dlrm": {"embedding_lr": 0.1, "embedding_accumulator": 1e-6, "final_lr_share": 0.05},
}
"""What each model changes of ``TrainingConfig``."""

_BEHAVIOURS: dict[str, Any] = {**_SEQUENCE, "batch_size": 256, "evaluations": 4, "patience": 8}
"""Alike for every model that is compared on behaviours; they over-fit within two epochs."""

_CRITEO: dict[str, Any] = {"evaluations": 4, "embedding_l2": 1e-3, "average": 0.98}

DATASET_DEFAULTS: dict[tuple[str, str], dict[str, Any]] = {
    ("criteo", "wdl"): {**_CRITEO, "patience": 8, "embedding_lr": 0.01, "dropout": 0.3},
    ("criteo", "dlrm"): {**_CRITEO, "batch_size": 256, "embedding_lr": 0.02, "embedding_accumulator": 0.0},
    **{("amazon", model): _BEHAVIOURS for model in ("wdl", "din", "dien")},
}
"""What a (data set, model) changes on top of that."""


def default_training(model: str, dataset: str = "") -> TrainingConfig:
    """The settings with which ``model`` is trained on ``dataset`` unless told otherwise."""
    return TrainingConfig(**{**DEFAULTS[model], **DATASET_DEFAULTS.get((dataset, model), {})})


def training_config(model: str, changes: Mapping[str, Any], dataset: str = "") -> TrainingConfig:
    """The defaults of ``model`` on ``dataset`` with ``changes``. Raises ValueError for a setting that cannot be."""
    known = [field.name for field in dataclasses.fields(TrainingConfig)]
    if unknown := sorted(set(changes) - set(known)):
        raise ValueError(f"training has no setting {unknown[0]!r}; it has {', '.join(known)}")
    return dataclasses.replace(default_training(model, dataset), **changes)
