"""A session of a runtime that answers by one whole graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.backends.protocol import Bind
from optimizations.lowering import LoweringContext
from zoo.schema import Batch, Float32


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSession:
    """``look_up`` makes what the graph takes of a batch, ``compute`` runs it. Both may be called by several threads."""

    look_up: Callable[[Batch], Any]
    compute: Callable[[Any], Float32]
    report: list[dict[str, Any]]
    bind: Bind | None = None

    def predict(self, batch: Batch) -> Float32:
        """Click probabilities [N]."""
        return self.compute(self.look_up(batch))

    def close(self) -> None:
        """The runtime frees its memory with this object."""


def graph_of(context: LoweringContext) -> Path:
    """The exported graph. Raises ValueError where the system under test was given none."""
    if context.graph is None:
        raise ValueError("this backend serves an exported graph, and the context holds none (zoo.onnx.export makes it)")
    return context.graph
