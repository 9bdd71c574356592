"""The contract between the referee, the plans and the plug-ins. Framework-free: stdlib and ``zoo`` descriptions only.

A ``Pipeline`` describes how a model is run; it is data, not a model. An ``Optimization`` claims slots of it and
returns a changed copy. ``backend.lower`` turns the final description into something that runs, inside the system
under test only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

from zoo.blueprint import Block

Scope = Literal["serve", "train", "both"]
Division = Literal["closed", "open"]


class Phase(IntEnum):
    """Order of application; the order on the command line never matters."""

    GRAPH = 1
    PRECISION = 2
    COMPILE = 3
    EXECUTION = 4
    INPUT = 5
    SERVING = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Process-wide settings. ``threads`` within one query (0: one per core); ``workers`` queries at a time (0: as many
    as find a core for each of their threads). ``executor``: the mode of the optimization of that name, "" without it;
    under "auto" a 0 is for the system under test to choose (``harness.sut.executor_choice``)."""

    threads: int = 0
    workers: int = 1
    executor: str = ""
    allocator: str = "default"
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def undecided(self) -> bool:
        """Whether the system under test has a count to choose."""
        return self.executor == "auto" and not (self.workers and self.threads)

    def on(self, cores: int) -> Runtime:
        """The same with the counts that ``cores`` cores make of its zeros."""
        threads = self.threads or cores
        workers = self.workers or max(1, cores // threads)
        return dataclasses.replace(self, threads=threads, workers=workers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """What the queue of the system under test does: split queries above ``split`` samples (0: never), merge up to
    ``batch`` queries, waiting at most ``wait_ms`` for company.

    A worker computes what it took in ``parts`` pipelined parts (1: whole): the lookups of the next ones beside the
    dense compute of this one. ``stage``: each worker looks up the next query while it computes this one.
    """

    split: int = 0
    batch: int = 1
    wait_ms: float = 0.0
    parts: int = 1
    stage: bool = False

    @property
    def as_they_come(self) -> bool:
        """Whether every query is answered by itself and in one go: neither split, nor merged, nor in steps."""
        return self.split == 0 and self.batch == 1 and not self.in_steps

    @property
    def in_steps(self) -> bool:
        """Whether looking up and computing are two steps of a worker: a model that answers in one call has none."""
        return self.stage or self.parts > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a step of training is taken.

    ``parts``: of a batch, whose gradients are made side by side and added up (1: whole). ``prefetch``: the inputs of so
    many steps at most are prepared ahead (0: none), by ``prefetch_threads`` threads. ``optimizer``: the implementation
    of those of the embedding tables, "reference" or "fused". ``derived``: with the inputs, all that the lowered step
    derives from them alone is made ahead. ``lookup_lag``: a step's rows are those of so many updates ago at most.
    ``ranks``: processes that share out tables and samples (1: none are started).
    """

    parts: int = 1
    prefetch: int = 0
    prefetch_threads: int = 0
    optimizer: str = "reference"
    derived: bool = False
    lookup_lag: int = 0
    ranks: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A model's description that optimizations rewrite.

    ``expand``: "first" copies the user side N times before anything else, as CTR libraries do; "late" leaves it at U.
    ``passes``: named passes over the backend's own graph. ``train``: None while serving.
    """

    model: str
    backend: str
    device: str
    scope: Scope
    blocks: tuple[Block, ...]
    expand: Literal["first", "late"] = "first"
    passes: tuple[str, ...] = ()
    runtime: Runtime = field(default_factory=Runtime)
    dispatch: Dispatch = field(default_factory=Dispatch)
    train: Training | None = None

    def with_block(self, path: str, **slots: Any) -> Pipeline:
        """A copy whose block at ``path`` has the given slots."""
        blocks = tuple(dataclasses.replace(b, **slots) if b.path == path else b for b in self.blocks)
        return dataclasses.replace(self, blocks=blocks)

    def with_training(self, **slots: Any) -> Pipeline:
        """A copy that trains with the given slots. Raises ValueError for a pipeline that serves."""
        if self.train is None:
            raise ValueError("this pipeline serves: its part train is None")
        return dataclasses.replace(self, train=dataclasses.replace(self.train, **slots))


class PlanError(ValueError):
    """A plan that cannot be resolved. The message names the cause and the way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimization:
    """One plug-in: the object ``SPEC`` of ``optimizations/<name>/spec.py`` or of an entry point.

    name: the name on the command line. summary: one line for ``--help``. origin: the rows of docs/claims.md.
    options: a frozen dataclass type (its defaults are the plug-in's). division: closed = the same mathematics
    within ``score_tolerance`` (absolute, on scores), open = anything declared. division_in_training: where it is
    another one: what keeps scores within a tolerance may not keep parameters, step upon step, where the plain loop has
    them. A training of the open division is gated by the AUC of several seeds, and not by its parameters.
    claims(pipeline, options): the slots it will write, each "block-path.slot" or "runtime.threads",
    "dispatch.split", "train.parts", "expand", "passes.<name>". apply(pipeline, options): pure; writes just those.
    backends and devices: where it can be lowered; with options that cannot be on all of its backends, narrowed(options)
    says on which. native(capabilities) is False where the machine has to emulate it. packages: what it imports beyond
    this project's requirements; install: the command that installs them.
    coming: for a known name without an implementation yet, the sentence that says so.
    """

    name: str
    summary: str
    phase: Phase
    scope: Scope
    division: Division
    origin: tuple[str, ...]
    options: type[Any]
    claims: Callable[[Pipeline, Any], tuple[str, ...]]
    apply: Callable[[Pipeline, Any], Pipeline]
    conflicts: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    backends: tuple[str, ...] = ("torch",)
    narrowed: Callable[[Any], tuple[str, ...]] | None = None
    devices: tuple[str, ...] = ("cpu", "cuda")
    division_in_training: Division | None = None
    score_tolerance: float = 1e-5
    native: Callable[[frozenset[str]], bool] = lambda capabilities: True
    packages: tuple[str, ...] = ()
    install: str = ""
    coming: str | None = None

    def division_of(self, scope: Scope) -> Division:
        """The division of a plan with it that serves or trains."""
        return (self.division_in_training or self.division) if scope == "train" else self.division

    def lowered_on(self, options: Any) -> tuple[str, ...]:
        """The backends that can lower it with ``options``."""
        return self.backends if self.narrowed is None else self.narrowed(options)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStep:
    """One resolved optimization of a plan: what it claims, and how far it says that scores move; ``emulated`` marks
    missing hardware support."""

    name: str
    phase: str
    options: dict[str, Any]
    claims: tuple[str, ...]
    division: Division
    emulated: bool
    score_tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The ordered steps and the pipeline they lead to."""

    steps: tuple[PlanStep, ...]
    pipeline: Pipeline

    @property
    def division(self) -> Division:
        """``open`` as soon as one step is."""
        return "open" if any(step.division == "open" for step in self.steps) else "closed"
