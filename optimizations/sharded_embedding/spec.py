"""sharded_embedding: a training whose embedding tables lie row by row with several processes, on TorchRec."""

from __future__ import annotations

from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline, PlanError

MOST_RANKS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedEmbeddingOptions:
    """ranks: processes that share out the rows of every table and the samples of every batch."""

    ranks: int = 2

    def __post_init__(self) -> None:
        """Raises ValueError outside of 2 to 16 ranks."""
        if not 2 <= self.ranks <= MOST_RANKS:
            raise ValueError(f"ranks must be 2 to {MOST_RANKS}, got {self.ranks}; for one process, leave it out")


def claims(pipeline: Pipeline, options: ShardedEmbeddingOptions) -> tuple[str, ...]:
    """Over how many processes a training is spread. Raises PlanError where the tables are somebody else's."""
    if taken := [block.path for block in pipeline.blocks if block.role == "embedding" and block.impl != "reference"]:
        raise PlanError(
            f"opt: 'sharded_embedding' looks the rows of {', '.join(taken)} up by itself, and another optimization has "
            "them: with fusion, say opt.fusion.embedding=false"
        )
    return ("train.ranks",)


def apply(pipeline: Pipeline, options: ShardedEmbeddingOptions) -> Pipeline:
    """Write the number of ranks."""
    return pipeline.with_training(ranks=options.ranks)


SPEC = Optimization(
    name="sharded_embedding",
    summary="tables sharded by rows over several training processes (TorchRec), with overlapped all-to-all",
    phase=Phase.SERVING,
    scope="train",
    division="closed",
    origin=("B15",),
    options=ShardedEmbeddingOptions,
    claims=claims,
    apply=apply,
    conflicts=("async_embedding", "micro_batch", "smart_stage", "stage"),
    devices=("cpu",),
    score_tolerance=1e-5,
    packages=("torchrec", "fbgemm_gpu", "tensordict", "pyre_extensions"),
    install="pip install 'recarena[torchrec]' && pip install --no-deps 'torchrec==1.8.0'",
)
