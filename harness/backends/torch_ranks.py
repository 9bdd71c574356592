"""What a rank of a training on PyTorch has of its own: its rows, and its part of each step. TorchRec is loaded where a
plan has ranks, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from harness.backends.protocol import TrainingContext
from optimizations.sharded_embedding.rank_model import rank_model
from zoo.learning import Learner
from zoo.models import build_model
from zoo.models.ctr_model import CtrModel
from zoo.training import weights_of
from zoo.training_batches import TrainingBatches

if TYPE_CHECKING:
    from optimizations.sharded_embedding.steps import RankSteps, RankStream


def rank_of_group(context: TrainingContext, ranks: int) -> CtrModel:
    """The model of this process, one of ``ranks`` of the default process group. Without start weights, the whole model
    of the seed is in memory once.

    Raises ValueError outside of such a group, or when weights do not fit the model.
    """
    if not dist.is_initialized() or dist.get_world_size() != ranks:
        raise ValueError(f"a training on {ranks} ranks is lowered in each of {ranks} processes of one group")
    start, seed = context.start, context.training.seed
    if start is None:
        torch.manual_seed(seed)
        start = weights_of(build_model(context.config, context.schema))
    return rank_model(context.config, context.schema, start, seed, dist.get_rank(), ranks)


def steps_of_rank(
    context: TrainingContext, batches: TrainingBatches, learner: Learner
) -> tuple[RankSteps, RankStream, Mapping[str, Any]]:
    """How this process takes steps, and what the record says of it."""
    from optimizations.sharded_embedding.steps import RankSteps

    steps = RankSteps(batches, learner, context.schema, context.split, dist.group.WORLD)
    return steps, steps.stream, steps.report
