"""Dice over a batch whose parts are on several ranks: ``SharedDice``, which is for parts in threads, here of ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from optimizations.micro_batch.shared_dice import Moments, SharedDice
from zoo.layers.mlp import Dice
from zoo.models.ctr_model import CtrModel


class RankMeeting:
    """What ``optimizations.micro_batch.meeting.Meeting`` is for threads: all ranks bring the same in the same order."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group, self._ranks = group, dist.get_world_size(group)

    def exchange(self, place: int, brought: Moments | Tensor) -> list[Moments] | list[Tensor]:
        """What all have brought, in order of their ranks; ``place`` is that of a thread, and each rank has one."""
        if isinstance(brought, Tensor):
            return self._gathered(brought)
        rows, mean, squares = brought  # 2^24 rows are exact in single precision
        together = self._gathered(torch.cat((mean.new_tensor([rows]), mean, squares)))
        split = [each.split([1, len(mean), len(mean)]) for each in together]
        return [(int(count), others_mean, others_squares) for count, others_mean, others_squares in split]

    def _gathered(self, brought: Tensor) -> list[Tensor]:
        found = [torch.empty_like(brought) for _ in range(self._ranks)]
        dist.all_gather(found, brought.contiguous(), group=self._group)
        return found


def share_dice(model: CtrModel, group: dist.ProcessGroup) -> None:
    """Have every ``Dice`` of the model normalise by the batch, and not by this rank's part of it. Each rank moves its
    own running averages, all alike."""
    meeting = RankMeeting(group)
    for path, module in list(model.named_modules()):
        if isinstance(module, Dice):
            parent, _, name = path.rpartition(".")
            shared = SharedDice(module, lambda: meeting, 0)  # type: ignore[arg-type, return-value]
            setattr(model.get_submodule(parent), name, shared)
