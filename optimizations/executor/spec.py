"""executor: who runs a query. ``inline``: several workers, each on its own thread, without intra-operator threads."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorOptions:
    """mode: "inline", a worker runs its whole query on its own thread. workers: queries at a time (0: one per core).
    threads: threads within one operator."""

    mode: str = "inline"
    workers: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown mode or a negative count."""
        if self.mode != "inline":
            raise ValueError(f"mode must be 'inline', got {self.mode!r}")
        if self.workers < 0 or self.threads < 0:
            raise ValueError(
                f"workers and threads must be 0 (one per core) or more, got workers={self.workers}, "
                f"threads={self.threads}"
            )


def claims(pipeline: Pipeline, options: ExecutorOptions) -> tuple[str, ...]:
    """The two thread counts of the process."""
    return ("runtime.threads", "runtime.workers")


def apply(pipeline: Pipeline, options: ExecutorOptions) -> Pipeline:
    """Write the thread counts; ``workers=0`` becomes the number of cores that this process may use."""
    workers = options.workers or usable_cores()
    runtime = dataclasses.replace(pipeline.runtime, threads=options.threads, workers=workers)
    return dataclasses.replace(pipeline, runtime=runtime)


def usable_cores() -> int:
    """Cores that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


SPEC = Optimization(
    name="executor",
    summary="queries side by side, one thread each, in place of one query on all threads",
    phase=Phase.EXECUTION,
    scope="serve",
    division="closed",
    origin=("A7", "B9"),
    options=ExecutorOptions,
    claims=claims,
    apply=apply,
)
