"""What a plan claims is accounted for: each slot is matched, or falls back with a reason, whatever stands beside it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from optimizations.plan import available, first_pipeline, resolve
from zoo.frequencies import row_frequencies

SERVING = sorted(
    name
    for name, each in available().items()
    if each.coming is None and each.scope in ("serve", "both") and "torch" in each.backends
)
NOT_ACCOUNTED = "hot_order"
"""Of a block with hot rows: ``hot_mb`` beside it is."""


IN_STEPS = ("stage", "micro_batch")
"""With them a query is answered in two steps, and what claims the model as a whole finds none."""
ALONE = [(name,) for name in SERVING if "fusion" in available()[name].conflicts]
PAIRS = [
    *(("fusion", name) for name in SERVING if name != "fusion" and (name,) not in ALONE),
    *itertools.product(("allocator", "bf16", "dedup", "int8"), IN_STEPS),
    *ALONE,
]
"""``fusion`` claims blocks, passes and options of others; it stands beside all that it may."""


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """A plan with an allocator tells its own process, and its children, of it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def opts_of(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    return {name: {"mode": "cost_model"} if name == "executor" and "fusion" in names else {} for name in names}


@pytest.mark.parametrize("model", ["din", "dlrm"])
@pytest.mark.parametrize("names", PAIRS, ids=",".join)
def test_every_claim_is_matched_or_falls_back(
    planted: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, model: str, names: tuple[str, ...]
) -> None:
    served, opts = planted(model), opts_of(names)
    context = served.context
    plan = resolve(first_pipeline(context.config, context.schema, "torch", "cpu", "serve"), opts, frozenset())
    if "graph_fusion" in names:
        monkeypatch.setenv("RECARENA_NO_COMPILER", "1")  # it falls back: to compile takes half a minute
    session = served.session(opts, frequencies=row_frequencies(context.schema, served.split))
    paths = {block.path for block in plan.pipeline.blocks}
    for step, line in zip(plan.steps, session.report, strict=True):
        told = {*line["matched"], *(each["path"] for each in line["fallbacks"])}
        for slot in step.claims:
            owner, _, name = slot.rpartition(".")
            if name != NOT_ACCOUNTED:
                assert (owner if owner in paths else slot) in told, (step.name, slot)
        assert all(each["reason"] for each in line["fallbacks"])
    assert np.isfinite(session.predict(served.split.batch(np.arange(20)))).all()
