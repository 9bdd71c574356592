"""Peers by name: what is known of them, their plans, and that nobody loads one by accident."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from harness.backends.peers import catalogue
from harness.backends.peers.catalogue import PEERS, missing_packages, require_peer, same_weights
from harness.backends.peers.plans import peer_plan
from harness.errors import ConfigurationError
from optimizations.plan import first_pipeline, plan_from_json, plan_to_json
from zoo.configs import MODELS, WdlConfig
from zoo.schema import IdField, Schema

ROOT = Path(__file__).resolve().parents[4]
SCHEMA = Schema(name="pointwise", ids=(IdField(name="C1", side="item", column=0, table="C1", rows=10),))
RUNTIMES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "deepctr_torch")
AMX = frozenset({"amx_bf16", "avx512_bf16"})


def test_every_peer_has_a_module_as_it_comes_and_at_its_best() -> None:
    for name, peer in PEERS.items():
        assert (catalogue.FOLDER / f"{name}.py").is_file()
        assert list(peer.settings)[:2] == ["stock", "best"] and set(peer.models) <= set(MODELS)
        assert peer.same_weights == (not peer.shaped_by)
        assert all(list(catalogue.FOLDER.glob(pattern)) for pattern in peer.shaped_by)


@pytest.mark.parametrize("name", PEERS)
def test_a_plan_says_who_the_peer_is_and_how_it_is_set(name: str) -> None:
    config = WdlConfig(large_fields=())
    stock, best = (peer_plan({"name": name, "settings": s}, config, SCHEMA, frozenset()) for s in ("stock", "best"))
    for plan, settings in ((stock, "stock"), (best, "best")):
        (step,) = plan.steps
        assert (step.name, step.options["settings"]) == (name, settings)
        assert plan_from_json(plan_to_json(plan)) == plan
        assert plan.pipeline.blocks == first_pipeline(config, SCHEMA, "peer", "cpu", "serve").blocks
        assert step.division == ("closed" if PEERS[name].same_weights else "open")
    assert not stock.pipeline.runtime.undecided and stock.pipeline.runtime.workers == 1
    assert best.pipeline.runtime.undecided and "runtime.executor" in best.steps[0].claims


@pytest.mark.parametrize(("flags", "dtype", "division"), [(frozenset(), "fp32", "closed"), (AMX, "bf16", "open")])
def test_a_precision_that_the_processor_lacks_is_not_claimed(flags: frozenset[str], dtype: str, division: str) -> None:
    peer = {"name": "openvino_stock", "settings": "best_bf16"}
    plan = peer_plan(peer, WdlConfig(large_fields=()), SCHEMA, flags)
    assert {block.dtype for block in plan.pipeline.blocks} == {dtype} and plan.steps[0].division == division


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else object())
    assert missing_packages("openvino_stock") == ["openvino"] and missing_packages("torch_compile") == []
    with pytest.raises(ConfigurationError, match=r"openvino, which is not installed: pip install .recarena\[peers\]"):
        require_peer("openvino_stock", "stock", "wdl", "cpu")


def test_a_trial_without_a_peer_has_one_model() -> None:
    assert same_weights({}) and same_weights({"name": "ort_stock", "settings": "best"})


def test_nothing_but_a_system_under_test_loads_a_peer() -> None:
    """All that the main process imports for a run, and what a system under test knows before it loads its peer."""
    code = (
        "import sys, run, harness.measure, harness.edge.command, harness.edge.config, leaderboard.__main__\n"
        "import harness.sut.server, harness.sut.model_session, harness.backends.peer_backend\n"
        f"print(sorted(set({RUNTIMES!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
