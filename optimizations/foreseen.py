"""What the steps of a plan say of themselves before there are data, and so before there is a pipeline to resolve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optimizations.contract import Division, Optimization, Pipeline, Scope, Training
from optimizations.plan import Requested, chosen
from optimizations.registry import available


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """One step: its division, and what it claims of a pipeline without blocks ("train.parts", "dispatch.split", ...).

    Blocks depend on the data's schema; whatever else a plan may write does not.
    """

    name: str
    division: Division
    claims: tuple[str, ...]


def foreseen(
    model: str,
    backend: str,
    device: str,
    scope: Scope,
    opts: Requested,
    known: Mapping[str, Optimization] | None = None,
) -> tuple[Foreseen, ...]:
    """The steps of ``opts``, in the order of application. Raises PlanError for names and options."""
    pairs = list(opts.items()) if isinstance(opts, Mapping) else list(opts)
    train = Training() if scope == "train" else None
    bare = Pipeline(model=model, backend=backend, device=device, scope=scope, blocks=(), train=train)
    return tuple(
        Foreseen(name=item.name, division=item.division_of(scope), claims=_claims(item, bare, options))
        for item, options in chosen(pairs, available() if known is None else known)
    )


def _claims(item: Optimization, bare: Pipeline, options: Any) -> tuple[str, ...]:
    """Nothing where the plug-in looks for a block that every model has: it is asked again when there are blocks."""
    try:
        return tuple(sorted(item.claims(bare, options)))
    except Exception:
        return ()
