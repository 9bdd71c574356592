"""What training minimises."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.layers.tensors import RawTensors
from zoo.models.ctr_model import CtrModel
from zoo.schema import Split


def training_loss(model: CtrModel, raw: RawTensors, labels: Tensor, negatives: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of the logits against ``labels`` [N], plus the model's own auxiliary loss if it has one."""
    logits, auxiliary = model.training_terms(raw, negatives)
    loss = F.binary_cross_entropy_with_logits(logits, labels)
    return loss if auxiliary is None else loss + auxiliary


def sample_negatives(split: Split, count: int, rng: np.random.Generator) -> Tensor:
    """Raw behaviours [count, H] drawn from all behaviours of the split, so in proportion to their popularity."""
    return torch.from_numpy(split.history[rng.integers(0, len(split.history), count)])
