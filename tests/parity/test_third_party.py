"""A plug-in of another package: found by its entry point, lowered by its own module, on record like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SPEC = """
from dataclasses import dataclass
from optimizations.contract import Optimization, Phase

@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    pass

def chosen(pipeline):
    return [block for block in pipeline.blocks if block.role == "fc"]

def apply(pipeline, options):
    for block in chosen(pipeline):
        pipeline = pipeline.with_block(block.path, impl="doubled")
    return pipeline

SPEC = Optimization(
    name="doubled", summary="fully connected layers in double precision", phase=Phase.GRAPH, scope="serve",
    division="closed", origin=(), options=Options, apply=apply,
    claims=lambda pipeline, options: tuple(f"{block.path}.impl" for block in chosen(pipeline)),
)
"""
LOWERING = """
import copy
from torch import nn
from optimizations.lowering import LoweringError

class Doubled(nn.Module):
    def __init__(self, reference):
        super().__init__()
        self.layer = copy.deepcopy(reference).double()

    def forward(self, x):
        return self.layer(x.double()).float()

def build(reference, block, context):
    if dict(block.shape)["outputs"] == 1:
        raise LoweringError("one output is not worth it")
    return Doubled(reference)

BUILDERS = {("fc", "doubled", "fp32"): build}
"""


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package as pip would leave it, on the path."""
    package, info = tmp_path / "arena_doubled", tmp_path / "arena_doubled-1.0.dist-info"
    package.mkdir(), info.mkdir()
    for name, text in (("__init__", ""), ("spec", SPEC), ("lower_torch", LOWERING)):
        (package / f"{name}.py").write_text(text)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: arena-doubled\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[recarena.optimizations]\ndoubled = arena_doubled.spec:SPEC\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_it_is_lowered_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: Callable[[str], Any]
) -> None:
    install(tmp_path, monkeypatch)
    served = planted("din")
    session = served.session({"doubled": {}})
    (step,) = session.report
    assert step["matched"] == ["top.0", "top.1"]
    assert step["fallbacks"] == [{"path": "out", "reason": "impl=reference: one output is not worth it"}]
    batch = served.split.batch(np.arange(40, dtype=np.int64))
    reference = served.session({}).predict(batch)
    np.testing.assert_allclose(session.predict(batch), reference, rtol=0, atol=1e-6)


def test_a_plug_in_that_matches_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: Callable[[str], Any]
) -> None:
    package, info = tmp_path / "arena_empty", tmp_path / "arena_empty-1.0.dist-info"
    package.mkdir(), info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "spec.py").write_text(SPEC.replace('"doubled"', '"hollow"'))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: arena-empty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[recarena.optimizations]\nhollow = arena_empty.spec:SPEC\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"'hollow' matched no block of model=din \(top.0: impl=reference: no hollow"):
        planted("din").session({"hollow": {}})
