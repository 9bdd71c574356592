"""fusion: one native kernel per block in place of a chain of framework operators.

On TensorFlow it is TensorFlow's own: a graph whose weights are constants, for its rewriting passes, and XLA.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline
from zoo.blueprint import Block

PROGRAM = "program"
CONSTANTS, XLA = "constants", "xla"
"""Passes over TensorFlow's graph."""
BACKENDS = ("torch", "tensorflow")
TRAINED = ("features", "embedding", "interaction", "attention", "recurrent")
"""Roles that are fused in training, too."""
TRAINED_LAYERS = ("auxiliary", "dice", "relu")
"""Kinds of the role fc that are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionOptions:
    """Which roles are fused; each can be switched off on its own. program: with all of them on, a query is one native
    call from raw columns to scores. In training, of the fully connected layers those with Dice or ReLU and DIEN's
    auxiliary net are, and with the tables the optimizers. xla: on TensorFlow, which has no roles to switch off, compile
    what lies behind the lookups."""

    embedding: bool = True
    features: bool = True
    fc: bool = True
    interaction: bool = True
    attention: bool = True
    recurrent: bool = True
    program: bool = True
    xla: bool = False

    @property
    def whole(self) -> bool:
        """Whether one program runs the model."""
        return all(getattr(self, field.name) for field in dataclasses.fields(self) if field.name != XLA)

    @property
    def backends(self) -> tuple[str, ...]:
        """Where it can be lowered: XLA is TensorFlow's, and what is done block by block is PyTorch's."""
        able = {"torch": not self.xla, "tensorflow": self.whole}
        return tuple(backend for backend in BACKENDS if able[backend])

    def __post_init__(self) -> None:
        """Raises ValueError where no backend has what is asked for."""
        if not self.backends:
            raise ValueError("xla=True compiles all blocks (backend=tensorflow): leave the other options as they are")


def _trained(block: Block) -> bool:
    return block.kind in TRAINED_LAYERS if block.role == "fc" else block.role in TRAINED


def _chosen(pipeline: Pipeline, options: FusionOptions) -> tuple[Block, ...]:
    blocks = (block for block in pipeline.blocks if pipeline.train is None or _trained(block))
    return tuple(block for block in blocks if getattr(options, block.role) and block.impl != "fused")


def claims(pipeline: Pipeline, options: FusionOptions) -> tuple[str, ...]:
    """The ``impl`` slot of every block whose role is switched on, and the program that joins them, or the optimizers of
    the tables; on TensorFlow, the passes over its graph."""
    if pipeline.backend == "tensorflow":
        return tuple(f"passes.{name}" for name in _graph_passes(options))
    blocks = tuple(f"{block.path}.impl" for block in _chosen(pipeline, options))
    if pipeline.train is not None:
        return (*blocks, "train.optimizer") if options.embedding else blocks
    return (*blocks, f"passes.{PROGRAM}") if options.whole else blocks


def apply(pipeline: Pipeline, options: FusionOptions) -> Pipeline:
    """Write ``impl="fused"`` on the claimed blocks; on TensorFlow, the passes."""
    if pipeline.backend == "tensorflow":
        return dataclasses.replace(pipeline, passes=(*pipeline.passes, *_graph_passes(options)))
    for block in _chosen(pipeline, options):
        pipeline = pipeline.with_block(block.path, impl="fused")
    if pipeline.train is not None:
        return pipeline.with_training(optimizer="fused") if options.embedding else pipeline
    return dataclasses.replace(pipeline, passes=(*pipeline.passes, PROGRAM)) if options.whole else pipeline


def _graph_passes(options: FusionOptions) -> tuple[str, ...]:
    return (CONSTANTS, XLA) if options.xla else (CONSTANTS,)


SPEC = Optimization(
    name="fusion",
    summary="native fused kernels: a query in one call; in training forward, backward and optimizers",
    phase=Phase.GRAPH,
    scope="both",
    division="closed",
    origin=("A7", "A9", "A10", "A11", "A12", "A15", "B2", "B11"),
    options=FusionOptions,
    claims=claims,
    apply=apply,
    backends=BACKENDS,
    narrowed=lambda options: options.backends,
    score_tolerance=1e-5,
)
