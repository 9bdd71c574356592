"""Models with random weights on planted data, lowered by a plan: what the benches measure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.backends.protocol import Session
from harness.backends.torch_backend import lower
from harness.edge.trial_builder import default_cache_dir
from harness.host.environment import capabilities
from optimizations.lowering import LoweringContext
from optimizations.plan import first_pipeline, resolve
from zoo.configs import NEEDS_HISTORY, model_config
from zoo.datasets import load_dataset
from zoo.models import build_model
from zoo.schema import Dataset
from zoo.training import weights_of


def planted_of(model: str) -> Dataset:
    """The tiny planted data set of the model's shape, with tables of 10,000 rows."""
    shape = "sequence" if model in NEEDS_HISTORY else "pointwise"
    return load_dataset("planted", {"shape": shape, "size": "tiny", "table_rows": 10_000}, default_cache_dir())


def context_of(model: str, dataset: Dataset, threads: int) -> LoweringContext:
    """The model at its default sizes, on the CPU."""
    torch.manual_seed(1)
    config = model_config(model, {})
    return LoweringContext(
        schema=dataset.schema,
        config=config,
        weights=weights_of(build_model(config, dataset.schema)),
        calibration=dataset.train.batch(np.arange(64)),
        cache_dir=Path(default_cache_dir()),
        device="cpu",
        threads=threads,
    )


def session_of(context: LoweringContext, opts: Mapping[str, Any]) -> Session:
    """``context``'s model under the optimizations ``opts`` and their options."""
    pipeline = first_pipeline(context.config, context.schema, "torch", "cpu", "serve")
    return lower(resolve(pipeline, opts, capabilities()), context)
