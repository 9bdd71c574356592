"""Rows of sharded tables to vectors, on TorchRec: its row-wise distribution of rows and vectors, our own lookup.

TorchRec's kernels update a table within the way back (fbgemm's fused optimizers). Of their Adagrad there are two: by
element, without ``l2`` and with sums of squares that start at 0; and by row, which is other mathematics. So the lookup
here is the framework's, with sparse gradients, and the optimizers are those of ``zoo.optimizers``, each on its rank's
rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torchrec.distributed.embedding_sharding import KJTListSplitsAwaitable
from torchrec.distributed.embedding_types import KJTList
from torchrec.distributed.sharding.rw_sequence_sharding import RwSequenceEmbeddingDist
from torchrec.distributed.sharding.rw_sharding import RwSparseFeaturesDist
from torchrec.distributed.sharding.sequence_sharding import SequenceShardingContext
from torchrec.distributed.types import Awaitable, LazyAwaitable, ShardedModule
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Multistreamable

from optimizations.sharded_embedding.lookups import Lookup, in_table_order


class RowsContext(Multistreamable):
    """What the way of the rows tells the way of the vectors, by group of tables."""

    def __init__(self) -> None:
        self.sharding_contexts: list[SequenceShardingContext] = []

    def record_stream(self, stream: torch.Stream) -> None:
        """As TorchRec asks for it."""
        for context in self.sharding_contexts:
            context.record_stream(stream)


class Vectors(LazyAwaitable[list[Tensor]]):
    """Vectors [n, d] by group, once they are here."""

    def __init__(self, coming: Sequence[Awaitable[Tensor]]) -> None:
        super().__init__()
        self._coming = coming

    def _wait_impl(self) -> list[Tensor]:
        return [each.wait() for each in self._coming]


class ShardedRows(ShardedModule[KJTList, list[Tensor], list[Tensor], RowsContext]):
    """Vectors of rows whose tables are spread over the ranks of ``group``. Tables of one width are a group of tables.

    shards: this rank's rows of every table [own, d]. rows: how many rows each table has in all. A batch is one "sample"
    for TorchRec, with a list of rows per table: what a row is looked up for is the caller's business.
    """

    def __init__(self, shards: Mapping[str, nn.Parameter], rows: Mapping[str, int], group: dist.ProcessGroup) -> None:
        super().__init__()
        widths = sorted({shard.shape[1] for shard in shards.values()})
        self.groups = [[name for name, shard in shards.items() if shard.shape[1] == width] for width in widths]
        self._shards = dict(shards)
        self._input_dists = nn.ModuleList(
            RwSparseFeaturesDist(
                pg=group,
                num_features=len(names),
                feature_hash_sizes=[rows[name] for name in names],
                device=torch.device("cpu"),
                is_sequence=True,
                has_feature_processor=False,
            )
            for names in self.groups
        )
        self._output_dists = nn.ModuleList(
            RwSequenceEmbeddingDist(group, len(names), torch.device("cpu")) for names in self.groups
        )

    def jagged(self, lookups: Sequence[Lookup]) -> list[KeyedJaggedTensor]:
        """The rows of ``lookups`` as this module takes them."""
        return [_jagged(names, lookups) for names in self.groups]

    def by_lookup(self, lookups: Sequence[Lookup], found: Sequence[Tensor]) -> list[Tensor]:
        """Vectors [n, d] of each of ``lookups`` from what came back for ``jagged`` of them."""
        vectors: dict[int, Tensor] = {}
        for names, of_group in zip(self.groups, found, strict=True):
            order = in_table_order(lookups, names)
            vectors |= zip(order, of_group.split([len(lookups[k].rows) for k in order]), strict=True)
        return [vectors[number] for number in range(len(lookups))]

    def create_context(self) -> RowsContext:
        """See ``ShardedModule``."""
        return RowsContext()

    def input_dist(  # type: ignore[override]
        self, ctx: RowsContext, rows: Sequence[KeyedJaggedTensor]
    ) -> Awaitable[Awaitable[KJTList]]:
        """Begin to send rows to the ranks that have them."""
        with torch.no_grad():
            coming = []
            for spread, jagged in zip(self._input_dists, rows, strict=True):
                coming.append(spread(jagged))
                ctx.sharding_contexts.append(
                    SequenceShardingContext(
                        features_before_input_dist=jagged, unbucketize_permute_tensor=spread.unbucketize_permute_tensor
                    )
                )
        return KJTListSplitsAwaitable(coming, ctx)

    def compute(self, ctx: RowsContext, dist_input: KJTList) -> list[Tensor]:
        """Vectors of the rows that all ranks ask this one for."""
        found = []
        for names, asked, context in zip(self.groups, dist_input, ctx.sharding_contexts, strict=True):
            context.lengths_after_input_dist = asked.lengths().view(-1, asked.stride())
            of_tables = asked.values().split(asked.length_per_key())
            parts = [
                F.embedding(own, self._shards[name], sparse=True) for name, own in zip(names, of_tables, strict=True)
            ]
            found.append(torch.cat(parts))
        return found

    def output_dist(self, ctx: RowsContext, output: list[Tensor]) -> LazyAwaitable[list[Tensor]]:
        """Begin to send vectors to the ranks that asked for them."""
        pairs = zip(self._output_dists, output, ctx.sharding_contexts, strict=True)
        return Vectors([spread(vectors, context) for spread, vectors, context in pairs])

    @property
    def unsharded_module_type(self) -> type[nn.Module]:
        """See ``ShardedModule``."""
        return nn.Embedding


def _jagged(names: Sequence[str], lookups: Sequence[Lookup]) -> KeyedJaggedTensor:
    rows = [lookups[number].rows for number in in_table_order(lookups, names)]
    counts = [sum(len(lookup.rows) for lookup in lookups if lookup.table == name) for name in names]
    return KeyedJaggedTensor(keys=list(names), values=torch.cat(rows), lengths=torch.tensor(counts, dtype=torch.int64))
