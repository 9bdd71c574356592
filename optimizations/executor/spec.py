"""executor: who runs a query. Several workers of one thread each, all threads for one query, its operators side by
side, or whatever the machine at hand serves fastest."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass

from optimizations.contract import Optimization, Phase, Pipeline, PlanError

COST_MODEL, INTER_OP = "cost_model", "inter_op"
MODES: dict[str, tuple[int, int]] = {
    "inline": (0, 1),
    "parallel": (1, 0),
    COST_MODEL: (0, 2),
    INTER_OP: (1, 0),
    "auto": (0, 0),
}
"""Workers and threads of each mode where the options give none; a 0 as in ``Runtime``."""
TRAINING_MODES = ("inline", "parallel")
BACKENDS = ("torch", "onnxruntime", "openvino", "tensorflow")
ONLY_ON = {COST_MODEL: ("torch",), INTER_OP: ("onnxruntime", "tensorflow")}
"""Backends of a mode that not all have."""
ONEDNN_OFF = ("TF_ENABLE_ONEDNN_OPTS", "0")
"""The variable that TensorFlow reads as it is loaded, and the value at which its own kernels multiply."""
SIDE_BY_SIDE = frozenset({COST_MODEL, INTER_OP})
NOT_ON_CPU = "cuda_graph"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorOptions:
    """mode: "inline", a worker runs its whole query on its own thread; "parallel", one query at a time, each operator
    on all threads; "cost_model", operators of one query side by side by their measured costs; "inter_op", side by side
    as the runtime finds them ready; "auto", as the service times of the machine demand. workers: queries at a time.
    threads: threads within one query. 0 for either: the mode's own number. onednn: on TensorFlow, whether oneDNN's
    kernels run the operators that it has, as they do unless told otherwise.
    """

    mode: str = "inline"
    workers: int = 0
    threads: int = 0
    onednn: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown mode, a negative count, or what the mode excludes."""
        if self.mode == NOT_ON_CPU:
            raise ValueError(
                f"mode={NOT_ON_CPU!r} replays a graph of kernels that was captured on device=cuda, and is not "
                f"implemented yet; modes that are there: {', '.join(sorted(MODES))}"
            )
        if self.mode not in MODES:
            nearest = difflib.get_close_matches(self.mode, MODES, n=1, cutoff=0.5)
            meant = f" (did you mean {nearest[0]!r}?)" if nearest else ""
            raise ValueError(f"mode must be one of {', '.join(map(repr, sorted(MODES)))}, got {self.mode!r}{meant}")
        if self.workers < 0 or self.threads < 0:
            raise ValueError(
                f"workers and threads must be 0 (the mode's own number) or more, got workers={self.workers}, "
                f"threads={self.threads}"
            )
        if self.mode == "parallel" and self.workers > 1:
            raise ValueError(
                f"mode='parallel' runs one query at a time, got workers={self.workers}: leave workers out, or use "
                "mode='inline' with that many threads"
            )
        if self.mode == "auto" and self.workers and self.threads:
            raise ValueError(
                f"mode='auto' has nothing to choose with workers={self.workers} and threads={self.threads}: leave one "
                "of them out, or use mode='inline' with both"
            )
        if self.mode in SIDE_BY_SIDE and self.threads == 1:
            raise ValueError(
                f"mode={self.mode!r} runs operators side by side and needs 2 threads or more, got threads=1: leave "
                "threads out, or use mode='inline'"
            )
        if self.mode == COST_MODEL and not self.onednn:
            raise ValueError(f"mode={COST_MODEL!r} is PyTorch's and onednn=False TensorFlow's: leave one of them out")


def claims(pipeline: Pipeline, options: ExecutorOptions) -> tuple[str, ...]:
    """The mode, the two counts of the process, and the pass that schedules a program; in training, mode and threads.

    Raises PlanError where there is no program to schedule, and for what a training has no use for.
    """
    if pipeline.train is not None:
        _check_training(options)
        return ("runtime.executor", "runtime.threads")
    runtime = ("runtime.executor", "runtime.threads", "runtime.workers")
    if not options.onednn:
        runtime += (f"runtime.environment.{ONEDNN_OFF[0]}",)
    if options.mode != COST_MODEL:
        return runtime
    if "program" not in pipeline.passes:
        raise PlanError(
            "opt.executor: mode='cost_model' schedules the operators of fusion's native program, and this plan has "
            "none: add fusion with all of its parts, or use another mode"
        )
    return (*runtime, f"passes.{COST_MODEL}")


def apply(pipeline: Pipeline, options: ExecutorOptions) -> Pipeline:
    """Write mode and counts. The scheduled program stands before the plain one, which is left where it cannot be made.

    The system under test fills in what is 0: it alone knows its cores.
    """
    workers, threads = MODES[options.mode]
    if pipeline.train is not None:
        trained = dataclasses.replace(pipeline.runtime, executor=options.mode, threads=options.threads or threads)
        return dataclasses.replace(pipeline, runtime=trained)
    runtime = dataclasses.replace(
        pipeline.runtime,
        executor=options.mode,
        threads=options.threads or threads,
        workers=options.workers or workers,
        environment=pipeline.runtime.environment if options.onednn else (*pipeline.runtime.environment, ONEDNN_OFF),
    )
    passes = (COST_MODEL, *pipeline.passes) if options.mode == COST_MODEL else pipeline.passes
    return dataclasses.replace(pipeline, runtime=runtime, passes=passes)


def _check_training(options: ExecutorOptions) -> None:
    """Raises PlanError for modes and counts that schedule queries."""
    if options.mode not in TRAINING_MODES:
        raise PlanError(
            f"opt.executor: mode={options.mode!r} schedules queries, and scope=train has none; in training there are "
            f"{' and '.join(map(repr, TRAINING_MODES))}, with opt.executor.threads=N"
        )
    if options.workers:
        raise PlanError(
            f"opt.executor: workers={options.workers} is how many queries are answered at a time, and a training takes "
            "its steps one after another: leave it out, and use threads (or micro_batch for parts side by side)"
        )


def narrowed(options: ExecutorOptions) -> tuple[str, ...]:
    """The backends that have the mode, and oneDNN to switch off."""
    able = ONLY_ON.get(options.mode, BACKENDS)
    return able if options.onednn else tuple(backend for backend in able if backend == "tensorflow")


SPEC = Optimization(
    name="executor",
    summary="who runs a query or a training step: a thread, all threads; queries also by operators side by side",
    phase=Phase.EXECUTION,
    scope="both",
    division="closed",
    origin=("A7", "B9"),
    options=ExecutorOptions,
    claims=claims,
    apply=apply,
    backends=BACKENDS,
    narrowed=narrowed,
)
