"""Steps of one rank: its part of each batch, rows of sharded tables, and gradients that all ranks add up.

TorchRec's ``TrainPipelineSparseDist`` takes the steps. It begins to send the rows of the next step before this one's
forward pass and has them there behind it; it looks them up when the next step begins, behind the update. So
no row is older than in the plain step. On CUDA it does so on streams; here the all-to-all is gloo's, in threads of its
own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchrec.distributed.comm_ops import set_gradient_division
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Pipelineable

from optimizations.micro_batch.pipelines import padded
from optimizations.sharded_embedding.lookups import Lookup, Lookups
from optimizations.sharded_embedding.rank_meeting import share_dice
from optimizations.sharded_embedding.row_plan import table_rows
from optimizations.sharded_embedding.sharded_rows import ShardedRows
from zoo.learning import Given, Learner
from zoo.losses import Share, training_loss
from zoo.models.ctr_model import CtrModel
from zoo.schema import Schema, Split
from zoo.training_batches import Draw, TrainingBatches


class Part(Given):
    """The input of a rank. share: what part of its batch it is."""

    share: Share

    @staticmethod
    def of(given: Given, share: Share) -> Part:
        """``given`` as a part."""
        part = Part(*given)
        part.share = share
        return part


@dataclass(slots=True)
class RankBatch(Pipelineable):
    """A part, its lookups, and their rows by group of tables, as the pipeline takes it."""

    part: Part
    lookups: list[Lookup]
    rows: list[KeyedJaggedTensor]

    def to(self, device: torch.device, non_blocking: bool = False) -> RankBatch:
        """It is where it is needed."""
        return self

    def record_stream(self, stream: torch.Stream) -> None:
        """There are no streams on this device."""


class Loss(nn.Module):
    """What a part contributes to the loss of its batch, from the vectors of its rows."""

    def __init__(self, model: CtrModel, schema: Schema, tables: ShardedRows) -> None:
        super().__init__()
        self.model, self.lookups = model, Lookups(model, schema)
        self._by_lookup = tables.by_lookup

    def forward(self, batch: RankBatch, found: Any) -> tuple[Tensor, Part]:
        """The loss, and the part again. found: an awaitable of the vectors by group."""
        part = batch.part
        embedded, sampled = self.lookups.embedded(part.input, self._by_lookup(batch.lookups, found.wait()))
        with _handed(self.model, sampled):
            if len(part.labels):
                return training_loss(self.model, part.input, part.labels, part.share, embedded), part
            logits, auxiliary = self.model.training_terms(part.input, embedded)
        nothing = logits.sum()  # the mean of no terms is not a number
        return nothing if auxiliary is None else nothing + 0.0 * auxiliary, part


@contextlib.contextmanager
def _handed(model: CtrModel, sampled: Tensor | None) -> Iterator[None]:
    """The model finds the vectors of its sampled behaviours where it looks them up; the whole tables are nowhere."""
    tables: Any = model.embedding
    if sampled is not None:
        tables.behaviours = lambda rows: sampled
    try:
        yield
    finally:
        tables.__dict__.pop("behaviours", None)


class PipelinedModel(nn.Module):
    """The model in the form that TorchRec's pipeline traces: sharded lookups, then everything else."""

    def __init__(self, tables: ShardedRows, rest: Loss) -> None:
        super().__init__()
        self.tables, self.rest = tables, rest

    def forward(self, batch: RankBatch) -> tuple[Tensor, Part]:
        """See ``Loss``."""
        found: tuple[Tensor, Part] = self.rest(batch, self.tables(batch.rows))
        return found


class Updates:
    """What the pipeline takes for an optimizer: the learner's, once the gradients of all ranks are added up.

    A row's gradient is whole already: every rank sent its share to the rank that has the row.
    """

    def __init__(self, learner: Learner, sharded: Iterable[nn.Parameter], group: dist.ProcessGroup) -> None:
        with_rows = {id(parameter) for parameter in sharded}
        self._dense = [parameter for parameter in learner.model.parameters() if id(parameter) not in with_rows]
        self._learner, self._group = learner, group

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        self._learner.begin()

    @torch.no_grad()
    def step(self) -> None:
        """Add up, then move the parameters. One that has no gradient on any rank keeps none, as DIEN's auxiliary net
        where nobody of a batch has two behaviours: Adam does not count such a step."""
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._dense]
        known = torch.tensor([float(parameter.grad is not None) for parameter in self._dense])
        together = torch.cat([known, *(gradient.reshape(-1) for gradient in found)])
        dist.all_reduce(together, group=self._group)
        known, *parts = together.split([len(known), *(parameter.numel() for parameter in self._dense)])
        for parameter, part, ranks in zip(self._dense, parts, known.tolist(), strict=True):
            parameter.grad = part.view_as(parameter) if ranks else None
        self._learner.update()


class RankSteps:
    """Steps of ``learner``, whose model is a ``rank_model``; all ranks of ``group`` take as many, and draw alike.

    ``split``: where the batches come from.
    """

    def __init__(self, batches: TrainingBatches, learner: Learner, schema: Schema, split: Split, group: Any) -> None:
        model, rows = learner.model, table_rows(schema)
        shards = {name: parameter for name, parameter in model.named_parameters() if name in rows}
        share_dice(model, group)
        set_gradient_division(False)  # of this process: parts' losses add up to the batch's, and so do their gradients
        tables = ShardedRows(shards, {name: rows[name] for name in shards}, group)
        loss = Loss(model, schema, tables)
        self._batches, self._learner, self._split = batches, learner, split
        self._rank, self._ranks = dist.get_rank(group), dist.get_world_size(group)
        self._tables, self._lookups = tables, loss.lookups
        self._pipeline = TrainPipelineSparseDist(
            PipelinedModel(tables, loss).train(), Updates(learner, shards.values(), group), torch.device("cpu")
        )
        self.stream = RankStream(self)
        self.report = {
            "summary": f"{self._ranks} ranks; {len(shards)} tables by rows; the next step's rows sent beside this one",
            "ranks": self._ranks,
            "tables": len(shards),
            "groups_of_tables": len(tables.groups),
        }

    def prepare(self, draw: Draw) -> list[Given]:
        """This rank's part of a batch; as long as the longest history of the batch."""
        given, lengths = self._learner.engineer(self._batches.read(self._own(draw))), self._lengths(draw)
        if given.input.features.history.shape[2]:
            given = padded(given, max(1, int(lengths.max())))
        own, all_terms = self._learner.model.auxiliary_terms(given.input), int((lengths - 1).clip(min=0).sum())
        return [Part.of(given, Share(len(given.labels) / len(draw.samples), own / max(1, all_terms)))]

    read = prepare

    def learn(self, given: Sequence[Given]) -> None:
        """One update, none of whose lookups was sent ahead."""
        for _ in self.stream.learn([given]):
            pass

    def step(self, draw: Draw) -> None:
        """The same, its input included."""
        self.learn(self.prepare(draw))

    def batch(self, given: Sequence[Given]) -> RankBatch:
        """The form that ``progress`` takes."""
        (part,) = given
        assert isinstance(part, Part)
        lookups = self._lookups.of(part.input)
        return RankBatch(part, lookups, self._tables.jagged(lookups))

    def progress(self, coming: Iterator[RankBatch]) -> Part:
        """One update; rows of the next batch of ``coming`` are on their way. Raises StopIteration behind the last."""
        part: Part = self._pipeline.progress(coming)
        return part

    def _own(self, draw: Draw) -> Draw:
        parts = self._batches.cut(draw, self._ranks)
        if self._rank < len(parts):
            return parts[self._rank]
        nothing = np.zeros(0, np.int64)
        return Draw(nothing, None if draw.negatives is None else nothing)

    def _lengths(self, draw: Draw) -> npt.NDArray[np.int64]:
        """Of the histories of all samples of a batch [N]."""
        users = self._split.user_of[draw.samples]
        return self._split.history_offsets[users + 1] - self._split.history_offsets[users]


class RankStream:
    """Steps of a stretch one behind the other, each with the next one's rows on their way."""

    def __init__(self, steps: RankSteps) -> None:
        self._steps = steps

    def learn(self, inputs: Iterable[Sequence[Given]]) -> Iterator[Sequence[Given]]:
        """One update from each of ``inputs``; yields it after its update. Nothing is sent beyond the last one."""
        coming = map(self._steps.batch, inputs)
        while True:
            try:
                part = self._steps.progress(coming)
            except StopIteration:
                return
            yield [part]
