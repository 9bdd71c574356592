"""A plug-in that trains something else: the gate says so, with exit code 3."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import ExitCode
from harness.record.reader import read_record
from tests.e2e.main_job import MainJob

pytestmark = pytest.mark.e2e

SPEC = """
from dataclasses import dataclass
from optimizations.contract import Optimization, Phase

@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    pass

SPEC = Optimization(
    name="forgetful", summary="every tenth gradient of a layer is dropped", phase=Phase.GRAPH, scope="train",
    division="closed", origin=(), options=Options,
    claims=lambda p, o: ("top.1.impl",), apply=lambda p, o: p.with_block("top.1", impl="forgetful"),
)
"""
LOWERING = """
import torch

class Forgetful(torch.nn.Module):
    def __init__(self, reference):
        super().__init__()
        self.linear, self.activation = reference.linear, reference.activation

    def forward(self, x):
        y = self.activation(self.linear(x))
        kept = torch.ones(len(y), 1)
        kept[::10] = 0
        return y * kept + (y * (1 - kept)).detach()

BUILDERS = {("fc", "forgetful", "fp32"): lambda reference, block, context: Forgetful(reference)}
"""


def test_other_mathematics_fail_the_gate(tmp_path: Path, job_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins, work = tmp_path / "plugins", tmp_path / "work"
    code, info = plugins / "arena_forgetful", plugins / "arena_forgetful-1.0.dist-info"
    for folder in (code, info, work):
        folder.mkdir(parents=True)
    (code / "__init__.py").write_text("")
    (code / "spec.py").write_text(SPEC)
    (code / "lower_torch_training.py").write_text(LOWERING)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: arena_forgetful\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[recarena.optimizations]\nforgetful = arena_forgetful.spec:SPEC\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(plugins), os.environ.get("PYTHONPATH", "")]))
    job = MainJob(work, job_cache)
    short = ("scope=train", "training.batch_size=64", "budget.segment_s=0.2", "budget.settle_s=0.1")
    done = job.run(*short, "model=dlrm", "opt=[forgetful]")
    assert done.returncode == ExitCode.GATE_FAILED, done.stdout + done.stderr
    gate = read_record(job.only_record()).result.gate
    assert gate.verdict == "fail" and "after 2 steps" in gate.reasons[0]
    assert "gate: fail" in done.stdout
    early = done.stdout.index("the gate has failed, so what follows has no rank: ")
    assert early < done.stdout.index("quads of")
