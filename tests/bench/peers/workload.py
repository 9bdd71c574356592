"""What every contender answers: the same queries of one user each, on the same weights, whatever process asks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from harness.edge.trial_builder import default_cache_dir
from zoo.configs import NEEDS_HISTORY, ModelConfig, model_config
from zoo.datasets import load_dataset
from zoo.layers.features import to_tensors
from zoo.models import build_model
from zoo.models.ctr_model import CtrModel
from zoo.schema import Batch, Dataset, Float32

TABLE_ROWS = 10_000
"""Rows of each hashed table at ``dataset.size=default``."""
HISTORY = 50
MOST_SAMPLES = 100
"""Candidates that a user of the built-in data has."""
QUERIES = 8
"""Different queries of each size; every turn answers all of them."""
SEED = 1
TABLE_STD = 0.05
"""Of embeddings; a model trained on planted data has 0.03."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A reference model in evaluation mode on planted data, and its queries by size."""

    dataset: Dataset
    config: ModelConfig
    reference: CtrModel
    queries: dict[int, tuple[Batch, ...]]

    def expected(self, batch: Batch) -> Float32:
        """The eager reference's scores [N]."""
        with torch.inference_mode():
            scores: Float32 = self.reference.score(to_tensors(batch)).numpy()
        return scores


def make_workload(model: str, sizes: tuple[int, ...]) -> Workload:
    """The workload of ``model``: the same numbers in every process. Raises ValueError for a size out of 1 to 100."""
    if not all(1 <= size <= MOST_SAMPLES for size in sizes):
        raise ValueError(f"a query has 1 to {MOST_SAMPLES} samples, not {', '.join(map(str, sizes))}")
    shape = "sequence" if model in NEEDS_HISTORY else "pointwise"
    dataset = load_dataset("planted", {"shape": shape, "size": "tiny", "table_rows": TABLE_ROWS}, default_cache_dir())
    config = model_config(model, {})
    torch.manual_seed(SEED)
    reference = build_model(config, dataset.schema).eval().requires_grad_(False)
    _spread_weights(reference)
    queries = {size: tuple(_query(dataset, number, size) for number in range(QUERIES)) for size in sizes}
    return Workload(dataset=dataset, config=config, reference=reference, queries=queries)


def _spread_weights(model: CtrModel) -> None:
    """Numbers of a trained model's scale: fresh ones give scores that are all alike, and then any model agrees."""
    for name, value in model.state_dict().items():
        if "tables" in name or "crosses" in name:
            value.normal_(std=TABLE_STD)
        elif name.endswith("running_var"):
            value.uniform_(0.2, 1.2)
        elif name.endswith(("running_mean", "alpha")):
            value.normal_(std=0.3)
        elif name.endswith("bias") or name == "wide.dense":
            value.normal_(std=0.1)


def _query(dataset: Dataset, number: int, size: int) -> Batch:
    """The first candidates of a test user, whose behaviours are repeated until there are ``HISTORY`` of them."""
    split = dataset.test
    batch = split.batch(split.groups[number] + np.arange(size))
    if not dataset.schema.history:
        return batch
    return Batch(
        user=batch.user,
        item=batch.item,
        history=np.resize(batch.history, (HISTORY, batch.history.shape[1])),
        history_offsets=np.array([0, HISTORY], np.int64),
        user_of=batch.user_of,
    )
