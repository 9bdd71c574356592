"""PyTorch as it comes, compiled, and our own plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.backends.torch_backend import lower
from harness.edge.trial_builder import default_cache_dir
from harness.host.environment import capabilities
from optimizations.best_plans import best_plan
from optimizations.lowering import LoweringContext
from optimizations.plan import first_pipeline, resolve
from tests.bench.peers.contender import Contender, UnfitError
from tests.bench.peers.workload import Workload
from tests.parity.tolerances import score_tolerance
from zoo.onnx.inputs import raw_arrays
from zoo.onnx.padded_model import PaddedModel
from zoo.schema import Batch, Float32
from zoo.training import weights_of

NOT_WITHIN_A_QUERY = frozenset({"executor"})
"""It shares the cores out among queries; here there is one query at a time, on the threads that all contenders get."""


def eager(workload: Workload, threads: int, folder: Path) -> Contender:
    """``opt=[]``: the reference, operator by operator."""
    return Contender(predict=_session(workload, threads, ()).predict)


def compiled(workload: Workload, threads: int, folder: Path) -> Contender:
    """torch.compile of the padded form, default settings, dynamic shapes.

    Sizes that the data decide stay in the graph, as PyTorch's own warning advises: else it breaks at every bag.
    """
    torch._dynamo.config.capture_scalar_outputs = True
    model = torch.compile(PaddedModel(workload.reference, compiled=True).eval(), dynamic=True)

    def predict(batch: Batch) -> Float32:
        arrays = [torch.from_numpy(array) for array in raw_arrays(batch).values()]
        with torch.inference_mode():
            scores: Float32 = model(*arrays).numpy()
        return scores

    return Contender(predict=predict, note="the padded form (zoo/onnx)")


def best_plan_of(workload: Workload) -> tuple[str, ...]:
    """The closed division's best plan here, less what does not act within a query."""
    names = best_plan("best", workload.config.name, capabilities())
    return tuple(name for name in names if name not in NOT_WITHIN_A_QUERY)


def best_plan_contender(workload: Workload, threads: int, folder: Path) -> Contender:
    """Our best plan of the closed division."""
    return _plan(workload, threads, best_plan_of(workload))


def fusion_plan(workload: Workload, threads: int, folder: Path) -> Contender:
    """``opt=[fusion]``."""
    return _plan(workload, threads, ("fusion",))


def _plan(workload: Workload, threads: int, names: tuple[str, ...]) -> Contender:
    session = _session(workload, threads, names)
    for step in session.report:
        for fallback in step["fallbacks"]:
            raise UnfitError(f"{step['name']} fell back at {fallback['path']}: {fallback['reason']}")
    tolerance = score_tolerance(names)
    return Contender(predict=session.predict, tolerance=tolerance, note=f"opt=[{','.join(names)}]")


def _session(workload: Workload, threads: int, names: tuple[str, ...]) -> Any:
    context = LoweringContext(
        schema=workload.dataset.schema,
        config=workload.config,
        weights=weights_of(workload.reference),
        calibration=workload.dataset.train.batch(np.arange(64)),
        cache_dir=default_cache_dir(),
        device="cpu",
        threads=threads,
    )
    pipeline = first_pipeline(context.config, context.schema, "torch", "cpu", "serve")
    return lower(resolve(pipeline, {name: {} for name in names}, capabilities()), context)
