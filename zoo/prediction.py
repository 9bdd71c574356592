"""Scores of a whole split."""

from __future__ import annotations

import numpy as np
import torch

from zoo.layers.features import to_tensors
from zoo.models.ctr_model import CtrModel
from zoo.schema import Float32, Split

CHUNK_SAMPLES = 512


@torch.no_grad()
def predict(model: CtrModel, split: Split) -> Float32:
    """Click probabilities [N] of all samples, in their order. Each user's side is computed once per chunk."""
    was_training, was_expanding = model.training, model.expand_first
    model.eval()
    model.expand_first = False
    samples = np.arange(len(split), dtype=np.int64)
    chunks = [samples[start : start + CHUNK_SAMPLES] for start in range(0, len(samples), CHUNK_SAMPLES)]
    scores = [model.score(to_tensors(split.batch(chunk))).numpy() for chunk in chunks]
    model.train(was_training)
    model.expand_first = was_expanding
    return np.concatenate(scores) if scores else np.zeros(0, np.float32)
