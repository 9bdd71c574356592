"""The steps of a native program, from a model whose blocks are fused.

The model's own ``logit`` is run once on descriptions of columns (``columns``); each fused block on its way adds a step.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_int64
from typing import Any, NamedTuple

import torch
from torch import nn

from optimizations.fusion.columns import (
    ColumnSymbol,
    Lengths,
    LogitSymbol,
    ScoresSymbol,
    SequenceSymbol,
    Span,
    Term,
    UserOf,
    VectorSymbol,
)
from optimizations.fusion.torch_dense import FusedFullyConnected, FusedInteraction, FusedSplit
from optimizations.fusion.torch_embedding import FusedEmbedding, FusedWide
from optimizations.fusion.torch_features import FusedFeatures
from optimizations.fusion.torch_sequence import FusedAttention, FusedAugru, FusedGru
from optimizations.kernels import interface as c
from optimizations.lowering import LoweringError
from zoo.layers.tensors import Columns, Embedded, Features, SideFeatures


class Operator(NamedTuple):
    """What a schedule may move: its number in the native program, and the registers that it reads and writes."""

    name: str
    number: int
    reads: frozenset[int]
    writes: frozenset[int]


class ProgramTracer:
    """Registers, parts and steps of one model.

    Raises LoweringError for a block that is not fused, or for what a model does between two blocks and no description
    says.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._registers: list[tuple[int, int]] = []
        self._parts: list[c.Part] = []
        self._steps: list[c.Step] = []
        features, embedding = _as(model.features, FusedFeatures), _as(model.embedding, FusedEmbedding)
        self._first = bool(features.expand_first)
        widths = (*embedding.widths, embedding.behaviour_width, embedding.behaviour_width, *features.dense, 1)
        rows = (c.USERS, c.SAMPLES, c.BEHAVIOURS, c.USERS, c.USERS, c.SAMPLES, c.SAMPLES)
        self._registers += zip(rows, widths, strict=True)
        logit = self._traced(features, embedding)
        if not isinstance(logit, LogitSymbol):
            raise LoweringError("the model ends in something else than a logit")
        own = [register for register in logit.registers if register != c.WIDE]
        if len(own) != 1 or len(logit.registers) > 2:
            raise LoweringError("a logit of several parts")
        self._logit = own[0]
        self._wide = _as(model.wide, FusedWide)._handle.pointer if c.WIDE in logit.registers else None

    def program(self) -> c.Program:
        """The structure that ``recarena_program_new`` copies; alive as long as this object."""
        features, embedding = self._model.features, self._model.embedding
        self._arrays = (
            (c.Register * len(self._registers))(*self._registers),
            (c.Part * len(self._parts))(*self._parts),
            (c.Step * len(self._steps))(*self._steps),
        )
        return c.Program(
            *(features._handle.pointer, embedding._handle.pointer, self._wide),
            *((c_int64 * 2)(*pair) for pair in (features.ids, features.dense, features.bags)),
            *((c_int64 * 2)(*pair) for pair in (features.raw_dense, features.raw_ids)),
            *(features.history_width, features.crosses, int(self._first), self._logit),
            *(len(array) for array in self._arrays),
            *self._arrays,
        )

    def operators(self) -> list[Operator]:
        """All but the feature engineering, which comes first, and the scores, which come last; each behind those whose
        registers it reads."""
        written = {"look up user": {c.USER}, "look up item": {c.ITEM}, "look up history": {c.HISTORY, c.SUMMED}}
        written |= {"wide": {c.WIDE}} if self._wide is not None else {}
        found = [Operator(name, k, frozenset(), frozenset(out)) for k, (name, out) in enumerate(written.items(), 1)]
        for number, step in enumerate(self._steps, c.STEPS):
            parts = self._parts[step.first_part : step.first_part + step.part_count]
            read = {step.a, step.b, *(part.source for part in parts), *(part.factor for part in parts)} - {-1}
            name = f"{c.OPERATORS[step.kind]} {number - c.STEPS + 1}"
            found.append(Operator(name, number, frozenset(read), frozenset({step.out})))
        return found

    def _traced(self, features: FusedFeatures, embedding: FusedEmbedding) -> Any:
        """The model's logit, with a stand-in for every block behind the embedding that adds the block's step."""
        model = self._model
        blocks = [
            (path, module)
            for path, module in model.named_modules()
            if type(module) in _EMIT and path not in model.training_only
        ]
        try:
            for path, module in blocks:
                _put(model, path, _StandIn(self, module))
            with torch.inference_mode():
                return model.logit(self._features(), self._embedded(embedding))
        except (AttributeError, TypeError) as error:
            raise LoweringError(f"the model does what a program cannot say: {error}") from error
        finally:
            for path, module in blocks:
                _put(model, path, module)

    def _features(self) -> Any:
        index = None if self._first else UserOf()
        sides = [SideFeatures(self._whole(register), None, None, None) for register in (c.USER_DENSE, c.ITEM_DENSE)]  # type: ignore[arg-type]
        return Features(*sides, None, Lengths(), None, index)  # type: ignore[arg-type]

    def _embedded(self, embedding: FusedEmbedding) -> Any:
        item = self._whole(c.ITEM)
        targets = [item[:, first:last] for first, last in embedding.spans]
        target = ColumnSymbol([term for part in targets for term in part.terms], per_user=False)
        history = SequenceSymbol(c.HISTORY, embedding.behaviour_width)
        wide = LogitSymbol((c.WIDE,)) if hasattr(self._model, "wide") else None
        return Embedded(self._whole(c.USER), item, target, history, self._whole(c.SUMMED), wide)  # type: ignore[arg-type]

    def _whole(self, register: int) -> ColumnSymbol:
        rows, width = self._registers[register]
        return ColumnSymbol([Term(Span(register, 0, width))], per_user=rows == c.USERS and not self._first)

    def new(self, rows: int, width: int) -> int:
        """A register of its own."""
        self._registers.append((rows, width))
        return len(self._registers) - 1

    def add(self, kind: int, handle: int | None, out: int, a: int, b: int = -1, **more: Any) -> None:
        """A step."""
        self._steps.append(c.Step(kind=kind, handle=handle, out=out, a=a, b=b, **more))

    def register(self, columns: Any, per_user: bool = False) -> int:
        """The register that holds just these columns; a step that gathers them where there is none yet."""
        if not isinstance(columns, ColumnSymbol):
            raise LoweringError("a block reads something else than columns")
        if columns.per_user and not per_user:
            raise LoweringError("columns of users where a block wants those of samples")
        if len(columns.terms) == 1:
            (term,) = columns.terms
            if term == Term(Span(term.span.source, 0, self._registers[term.span.source][1])):
                return term.span.source
        out, first = self.new(c.USERS if per_user else c.SAMPLES, columns.width), len(self._parts)
        self._parts += [_part(term) for term in columns.terms]
        self.add(c.COLUMNS, None, out, -1, first_part=first, part_count=len(self._parts) - first)
        return out

    def rows(self, register: int, width: int) -> ColumnSymbol:
        """All columns of a register of samples."""
        return ColumnSymbol([Term(Span(register, 0, width))], per_user=False)


def _part(term: Term) -> c.Part:
    span, factor = term.span, term.factor
    own = (span.source, span.first, span.width, int(span.of_user), int(term.mean))
    return c.Part(*own, *((factor.source, factor.first, int(factor.of_user)) if factor else (-1, 0, 0)))


class _StandIn(nn.Module):
    """A block's signature, on descriptions."""

    def __init__(self, tracer: ProgramTracer, block: nn.Module) -> None:
        super().__init__()
        self._trace = lambda *inputs: _EMIT[type(block)](tracer, block, *inputs)
        self.takes_columns = getattr(block, "takes_columns", False)

    def forward(self, *inputs: Any) -> Any:
        """Add the step; the description of what it writes."""
        return self._trace(*inputs)


def _columns_or_logit(tracer: ProgramTracer, out: int, width: int) -> ColumnSymbol | LogitSymbol:
    return LogitSymbol((out,)) if width == 1 else tracer.rows(out, width)


def _fully_connected(tracer: ProgramTracer, block: FusedFullyConnected, x: Any) -> Any:
    a, out = tracer.register(x), tracer.new(c.SAMPLES, block.outputs)
    tracer.add(c.FC, block._handle.pointer, out, a)
    return _columns_or_logit(tracer, out, block.outputs)


def _split(tracer: ProgramTracer, block: FusedSplit, columns: Columns) -> Any:
    users = tracer.register(columns.of_users(), per_user=True)
    samples, out = tracer.register(columns.of_samples()), tracer.new(c.SAMPLES, block.outputs)
    tracer.add(c.FC_SPLIT, block._handle.pointer, out, users, samples)
    return _columns_or_logit(tracer, out, block.outputs)


def _interaction(tracer: ProgramTracer, block: FusedInteraction, vectors: VectorSymbol) -> Any:
    count = vectors.columns.width // vectors.width
    a, out = tracer.register(vectors.columns), tracer.new(c.SAMPLES, block.pairs)
    sizes = (c_int64 * 3)(count, vectors.width, block.precision)
    tracer.add(c.INTERACTION, None, out, a, sizes=sizes)
    return tracer.rows(out, block.pairs)


def _gru(tracer: ProgramTracer, block: FusedGru, x: SequenceSymbol, lengths: object) -> SequenceSymbol:
    out = tracer.new(c.BEHAVIOURS, block.hidden)
    tracer.add(c.GRU, block._handle.pointer, out, x.register)
    return SequenceSymbol(out, block.hidden)


def _attention(tracer: ProgramTracer, block: FusedAttention, query: Any, keys: SequenceSymbol, *_: object) -> Any:
    a, out = tracer.register(query), tracer.new(c.SAMPLES, -1 if block.softmax else block.width)
    tracer.add(c.ATTENTION, block._handle.pointer, out, a, keys.register)
    return ScoresSymbol(out) if block.softmax else tracer.rows(out, block.width)


def _augru(tracer: ProgramTracer, block: FusedAugru, x: SequenceSymbol, scores: ScoresSymbol, *_: object) -> Any:
    out = tracer.new(c.SAMPLES, block.hidden)
    tracer.add(c.AUGRU, block._handle.pointer, out, x.register, scores.register)
    return tracer.rows(out, block.hidden)


_EMIT: dict[type[nn.Module], Callable[..., Any]] = {
    FusedFullyConnected: _fully_connected,
    FusedSplit: _split,
    FusedInteraction: _interaction,
    FusedGru: _gru,
    FusedAttention: _attention,
    FusedAugru: _augru,
}


def _as(module: nn.Module, kind: type[Any]) -> Any:
    if not isinstance(module, kind):
        raise LoweringError(f"{type(module).__name__} runs in the framework")
    return module


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
