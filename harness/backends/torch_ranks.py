"""What a rank of a training on PyTorch has of its own: its rows, and its part of each step. TorchRec is loaded where a
plan has ranks, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist

from harness.backends.protocol import TrainingContext
from harness.backends.training_steps import Load, Steps, Stream
from optimizations.sharded_embedding.rank_model import rank_model
from optimizations.sharded_embedding.rank_state import RankState
from optimizations.sharded_embedding.row_plan import table_rows
from zoo.learning import Learner
from zoo.models import build_model
from zoo.optimizers import build_optimizers
from zoo.training import weights_of
from zoo.training_batches import TrainingBatches


class Rank:
    """This process, one of ``ranks`` of the default process group. model: with its rows in place of whole tables.

    Without start weights, the whole model of the seed is in memory once. Raises ValueError outside of such a group, or
    when weights do not fit the model.
    """

    def __init__(self, context: TrainingContext, ranks: int) -> None:
        if not dist.is_initialized() or dist.get_world_size() != ranks:
            raise ValueError(f"a training on {ranks} ranks is lowered in each of {ranks} processes of one group")
        start, seed = context.start, context.training.seed
        if start is None:
            torch.manual_seed(seed)
            start = weights_of(build_model(context.config, context.schema))
        self._context, self._place = context, (dist.get_rank(), ranks)
        self.model = rank_model(context.config, context.schema, start, seed, *self._place)

    def optimizers(self) -> tuple[Sequence[torch.optim.Optimizer], Load]:
        """Those of the reference, of this rank's rows; and what reads a state for them."""
        found = build_optimizers(self.model, self._context.training)
        return found, RankState(self.model, found, table_rows(self._context.schema), *self._place).load

    def steps(self, batches: TrainingBatches, learner: Learner) -> tuple[Steps, Stream, Mapping[str, Any]]:
        """How this process takes steps, and what the record says of it."""
        from optimizations.sharded_embedding.steps import RankSteps

        steps = RankSteps(batches, learner, self._context.schema, self._context.split, dist.group.WORLD)
        return steps, steps.stream, steps.report
