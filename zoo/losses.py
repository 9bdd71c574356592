"""What training minimises."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from zoo.layers.tensors import Embedded, TrainingInput
from zoo.models.ctr_model import CtrModel


class Share(NamedTuple):
    """Which part of a batch some of its samples are: of its samples, and of the terms of its auxiliary loss."""

    samples: float
    auxiliary: float


def training_loss(
    model: CtrModel, given: TrainingInput, labels: Tensor, share: Share | None = None, embedded: Embedded | None = None
) -> Tensor:
    """Binary cross-entropy of the logits against ``labels`` [N], plus the model's own auxiliary loss if it has one.

    With ``share``, what these samples contribute to the loss of the batch that they are a part of: the contributions
    of its parts add up to its loss. ``embedded``: see ``CtrModel.training_terms``.
    """
    logits, auxiliary = model.training_terms(given, embedded)
    loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    if share is not None:
        loss = loss * share.samples
        auxiliary = None if auxiliary is None else auxiliary * share.auxiliary
    return loss if auxiliary is None else loss + auxiliary
