"""Peers on the command line: the two places where one may stand, and the paragraph for everything that is wrong."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any

import pytest
import yaml

from harness.backends.peers.catalogue import PEERS
from harness.edge.config import CONF, plan_runs
from harness.edge.experiments import GROUP, with_sweep
from harness.edge.help import help_page
from harness.edge.trial_builder import build
from harness.errors import ConfigurationError
from harness.trial import Trial


@pytest.fixture(autouse=True)
def everything_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the extra is there is not asked here."""
    monkeypatch.setattr("harness.backends.peers.catalogue.missing_packages", lambda name: [])


def trial_of(*overrides: str) -> Trial:
    (values,) = plan_runs(overrides, multirun=False)
    trial, _ = build(values)
    return trial


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_has_a_file_and_is_on_the_help_page(name: str) -> None:
    assert yaml.safe_load((CONF / "peer" / f"{name}.yaml").read_text()) == {"name": name, "settings": "stock"}
    assert PEERS[name].summary in help_page()


def test_no_file_without_a_peer() -> None:
    assert {path.stem for path in (CONF / "peer").glob("*.yaml")} == {"none", *PEERS}


def test_with_its_own_backend_a_peer_is_what_is_measured() -> None:
    trial = trial_of("backend=peer", "peer=ort_stock", "peer.settings=best", "model=wdl")
    assert (trial.backend, trial.peer, trial.opts) == ("peer", {"name": "ort_stock", "settings": "best"}, {})
    assert trial.baseline() == trial_of("model=wdl")


def test_with_a_plan_a_peer_is_the_baseline() -> None:
    trial = trial_of("peer=ort_stock", "opt=[fusion]")
    assert trial.candidate() == trial_of("opt=[fusion]")
    assert trial.baseline() == trial_of("backend=peer", "peer=ort_stock")
    other = trial_of("peer=openvino_stock", "backend=onnxruntime", "opt=[executor]") if _onnx() else None
    assert other is None or (other.candidate().backend, other.baseline().backend) == ("onnxruntime", "peer")


def _onnx() -> bool:
    return all(importlib.util.find_spec(package) for package in ("onnx", "onnxscript", "onnxruntime"))


def test_without_a_peer_a_trial_is_what_it_was() -> None:
    assert trial_of().peer == {} and trial_of("peer=none") == trial_of()


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["backend=peer"], ["backend=peer measures", "peer=ort_stock, openvino_stock"]),
        (["peer=ort_stok"], ["peer=ort_stok is unknown", "did you mean 'ort_stock'?"]),
        (["peer=ort_stock"], ["there is no plan to compare with it", "say backend=peer"]),
        (["peer.settings=best"], ["peer.settings=best without a peer"]),
        (["backend=peer", "peer=ort_stock", "peer.settings=bst"], ["peer.settings=bst is unknown", "'best'?"]),
        (["backend=peer", "peer=ort_stock", "opt=[fusion]"], ["a peer takes no optimizations", "peer.settings"]),
        (["backend=peer", "peer=ort_stock", "experiment=best"], ["a peer takes no optimizations"]),
        (["scope=train", "peer=ort_stock", "opt=[stage]"], ["scope=train peer=ort_stock", "leave peer out"]),
        (["peer=ort_stock", "+peer.threads=3"], ["peer has no option 'threads'"]),
        (["peer=[ort_stock,torch_compile]"], ["peer takes one of"]),
    ],
)
def test_bad_input_is_one_paragraph(overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        trial_of(*overrides)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    for part in parts:
        assert part in message


def test_a_peer_without_its_packages_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.backends.peers.catalogue.missing_packages", lambda name: ["onnx", "onnxruntime"])
    with pytest.raises(ConfigurationError) as caught:
        trial_of("backend=peer", "peer=ort_stock")
    assert str(caught.value) == (
        "peer=ort_stock needs onnx, onnxruntime, which are not installed: pip install 'recarena[peers]', or choose "
        "another peer"
    )


def test_peers_run_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.edge.trial_builder.capabilities", lambda: frozenset({"cuda"}))
    with pytest.raises(ConfigurationError, match=r"peer=ort_stock device=cuda: .*device=cpu only"):
        trial_of("peer=ort_stock", "opt=[fusion]", "device=cuda")


def test_the_experiment_compares_the_best_plan_with_every_peer_at_both_settings() -> None:
    def cells(*overrides: str) -> dict[tuple[str, str, str], Any]:
        runs = plan_runs(with_sweep(["experiment=peers", *overrides], CONF / GROUP), multirun=True)
        return {(r["model"]["name"], r["peer"]["name"], r["peer"]["settings"]): r for r in runs}

    every = cells()
    ours = [name for name, peer in PEERS.items() if peer.same_weights]
    assert set(every) == {(m, p, s) for m in ("wdl", "din", "dien", "dlrm") for p in ours for s in ("stock", "best")}
    trial, _ = build(every["din", "ort_stock", "best"])
    assert dataclasses.replace(trial, peer={}) == trial_of("experiment=best", "model=din")
    assert set(cells("peer=ort_stock", "model=dien", "peer.settings=best")) == {("dien", "ort_stock", "best")}
