"""torch.compile of the padded model on our weights: one graph for every query of one user, whatever its sizes."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from harness.backends.graph_session import GraphSession
from harness.backends.peers.plans import matched
from harness.backends.torch_backend import reference_model
from optimizations.calibration_queries import query_of
from optimizations.contract import Plan
from optimizations.lowering import LoweringContext
from zoo.onnx.inputs import Feed, raw_arrays
from zoo.onnx.padded_model import PaddedModel
from zoo.schema import MISSING_ID, Batch, Float32, take_ragged

FEWEST = 2
"""A dimension of 0 or 1 is a constant to the compiler, and another code."""
MOST_FORMS = 64
"""Codes that it may keep before it gives up and runs operator by operator."""
UNROLLED = "recurrent"
WARM_SIZES = (37, 64, 2)
"""Sizes that hardly are a history's length: the compiler takes dimensions that are equal at first for one."""


def lower(plan: Plan, context: LoweringContext) -> GraphSession:
    """Compile, and answer queries until nothing is left to compile. Options: "inductor", settings of its generator.

    Its switches are those of the process. What it generates is kept in the cache folder.
    """
    runtime, (step,) = plan.pipeline.runtime, plan.steps
    threads = runtime.threads or context.threads
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(context.cache_dir.absolute() / "inductor"))
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    torch.set_num_threads(threads)
    _set_switches({"cpp.threads": threads, **step.options.get("inductor", {})})
    model = torch.compile(PaddedModel(reference_model(context), compiled=True).eval(), dynamic=True)
    unrolled = any(block.role == UNROLLED for block in plan.pipeline.blocks)
    least = context.schema.max_history if unrolled else FEWEST

    def look_up(batch: Batch) -> tuple[Feed, int]:
        return padded_feed(batch, least), len(batch)

    def compute(found: tuple[Feed, int]) -> Float32:
        arrays, samples = found
        with torch.inference_mode():
            scores: Float32 = model(*(torch.from_numpy(array) for array in arrays.values())).numpy()
        return scores[:samples]

    session = GraphSession(look_up=look_up, compute=compute, report=[matched(plan)])
    if context.calibration is not None:
        for batch in warm_batches(context.calibration, least):
            session.predict(batch)
    return session


def warm_batches(calibration: Batch, steps: int) -> Iterator[Batch]:
    """Queries of one user, and of as many users as samples where the data are of that kind; the last one has as many
    samples as its history has steps (``steps`` at least): where both are equal, the compiler may want another code."""
    length = int(np.diff(calibration.history_offsets)[len(WARM_SIZES) % (len(calibration.history_offsets) - 1)])
    for number, size in enumerate((*WARM_SIZES, max(steps, length))):
        yield query_of(calibration, number, size)
        if len(calibration.history_offsets) - 1 == len(calibration):
            first = np.arange(min(size, len(calibration)))
            history, offsets = take_ragged(calibration.history, calibration.history_offsets, first)
            yield Batch(calibration.user.take(first), calibration.item.take(first), history, offsets, first)


def padded_feed(batch: Batch, steps: int) -> Feed:
    """The arguments of the padded model with no dimension below ``FEWEST`` but the number of users.

    One sample is there twice, behaviours are padded to ``steps`` at least, and values that no bag holds stand behind
    the last one.
    """
    if len(batch) < FEWEST:
        twice = np.zeros(FEWEST, np.int64)
        batch = dataclasses.replace(batch, item=batch.item.take(twice), user_of=batch.user_of.take(twice))
    arrays = raw_arrays(batch)
    history = arrays["history"]
    users, length, fields = history.shape
    room = np.full((users, max(length, steps), fields), MISSING_ID, np.int64)
    room[:, :length] = history
    arrays["history"] = room  # always a copy: the strides of a view are another form to the compiler
    behind = np.full(FEWEST, MISSING_ID, np.int64)
    for name in ("user_bag_values", "item_bag_values"):
        arrays[name] = np.concatenate([arrays[name], behind])
    return arrays


def _set_switches(inductor: Mapping[str, Any]) -> None:
    """Those of the tracer, which forgets what it has compiled before, and ``inductor``, of the code generator."""
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.reset()
    torch._dynamo.config.capture_scalar_outputs = True
    torch._dynamo.config.recompile_limit = MOST_FORMS
    for name, value in inductor.items():
        setattr(torch._inductor.config, name, value)
