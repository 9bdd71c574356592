"""What a plug-in's ``lower_<backend>.py`` is given, and how it says that it cannot build a block here.

``lower_torch.py`` exposes ``BUILDERS``: (role, impl, dtype) -> builder. A builder takes the reference module that
stands at the block's path (weights loaded, evaluation mode), the block and the context, and returns a module with
the same signature (``zoo.layers.tensors``). The module may have ``built``, a mapping of numbers that the record shows
beside the step. ``lower_torch.py`` may expose ``PASSES``: name of a pass -> builder. Such a builder takes
the model with all of its blocks in place and the context, and returns what predicts from then on: ``Batch`` to
scores [N]. That may have a ``bind`` (``harness.backends.protocol.Bind``), by which queries are scored where they lie,
and a ``report`` (JSON values, among them a "summary" of one sentence), which the plan's line in the record shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from zoo.configs import ModelConfig
from zoo.frequencies import Frequencies
from zoo.schema import Batch, Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweringContext:
    """Everything but the plan that lowering may look at.

    weights: parameter and buffer names of the PyTorch reference -> arrays. calibration: unlabelled rows of the
    training split. cache_dir: for what the side builds and may find again, by its content; no data lie there.
    threads: threads within one operator, at least 1. frequencies: how often the training split looks
    each row up, where the plan asks for it (``Block.hot_mb``). graph: the model as an ``.onnx`` file, for a backend
    that serves one; it holds the weights, and ``weights`` are empty then.
    """

    schema: Schema
    config: ModelConfig
    weights: Mapping[str, npt.NDArray[Any]]
    calibration: Batch | None
    cache_dir: Path
    device: str
    threads: int
    frequencies: Frequencies | None = None
    graph: Path | None = None


class LoweringError(RuntimeError):
    """A builder cannot build its block on this machine; the message says why. The block falls back, on record."""
