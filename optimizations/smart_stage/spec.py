"""smart_stage: of the next training steps, all that no parameter decides, found on the lowered step."""

from __future__ import annotations

from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline
from optimizations.stage.spec import DEPTH, THREADS, StageOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class SmartStageOptions(StageOptions):
    """depth: how many steps at most are prepared ahead. threads: that prepare them. 0 for either: 2 steps, 1 thread."""


def claims(pipeline: Pipeline, options: SmartStageOptions) -> tuple[str, ...]:
    """How far ahead an input is prepared, by how many threads, and that all derived from it is made with it."""
    return ("train.prefetch", "train.prefetch_threads", "train.derived")


def apply(pipeline: Pipeline, options: SmartStageOptions) -> Pipeline:
    """Write them."""
    depth, threads = options.depth or DEPTH, options.threads or THREADS
    return pipeline.with_training(prefetch=depth, prefetch_threads=threads, derived=True)


SPEC = Optimization(
    name="smart_stage",
    summary="stage, and with the inputs all that the lowered step derives from them alone: the boundary is found",
    phase=Phase.SERVING,
    scope="train",
    division="closed",
    origin=("B3",),
    options=SmartStageOptions,
    claims=claims,
    apply=apply,
    conflicts=("stage",),
    devices=("cpu",),
    score_tolerance=1e-5,
)
