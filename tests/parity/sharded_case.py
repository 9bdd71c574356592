"""Trainings on ranks and plain ones from the same start, for the tests of sharded_embedding."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from optimizations.plan import first_pipeline, plan_to_json, resolve
from tests.parity.conftest import EVERY_COLUMN, random_split, trained_scale
from zoo.checkpoint import save_weights
from zoo.configs import ModelConfig
from zoo.schema import Schema, Split
from zoo.split_file import write_split
from zoo.training_config import training_config

NEEDS = "TorchRec is not installed: pip install 'recarena[torchrec]' && pip install --no-deps 'torchrec==1.8.0'"


@dataclasses.dataclass(frozen=True)
class Case:
    """A model on a split, with its files in ``folder``; ``spec`` is that of a training under test."""

    folder: Path
    config: ModelConfig
    schema: Schema
    start: str | None = None

    @staticmethod
    def of(folder: Path, config: ModelConfig, schema: Schema, split: Split, *, start: bool = True) -> Case:
        """Write the split, and start weights of a trained model's scale."""
        write_split(folder / "split.npz", split)
        if start:
            save_weights(folder / "start.npz", trained_scale(config, schema, seed=8))
        return Case(folder, config, schema, str(folder / "start.npz") if start else None)

    def spec(self, opts: Mapping[str, Any], reordering: int | None = None, **training: Any) -> dict[str, Any]:
        """See ``harness.sut.training_server.open_training``."""
        first = first_pipeline(self.config, self.schema, "torch", "cpu", "train")
        return {
            "plan": plan_to_json(resolve(first, opts, frozenset())),
            "model": dataclasses.asdict(self.config),
            "schema": self.schema.to_json(),
            "training": dataclasses.asdict(training_config(self.config.name, {"batch_size": 40, **training})),
            "split": str(self.folder / "split.npz"),
            "start": self.start,
            "reordering": reordering,
            "cache_dir": str(self.folder),
            "environment": {},
        }


def every_column() -> Split:
    """Labelled samples with every kind of column; histories of 0 to 30 steps."""
    split = random_split(EVERY_COLUMN, [0, 1, 30, 3, 16, 17, 0, 7, 2], 12, seed=3)
    labels = np.random.default_rng(4).integers(0, 2, len(split.labels)).astype(np.float32)
    return dataclasses.replace(split, labels=labels)
