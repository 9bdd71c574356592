"""Backends by name: what is known of them, what they need, and that nobody loads one by accident."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from harness.backends import catalogue
from harness.backends.catalogue import (
    BACKENDS,
    BackendEntry,
    load_backend,
    missing_packages,
    require_backend,
    require_training,
    require_weights,
)
from harness.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[4]
ABSENT = BackendEntry(summary="", packages=("no_such_package",), requirement="recarena[absent]", graph="raw")
RUNTIMES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "tensorflow")


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package can be found."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_every_entry_has_a_module_and_every_module_an_entry() -> None:
    modules = (ROOT / "harness" / "backends").glob("*_backend.py")
    assert sorted(path.name.removesuffix("_backend.py") for path in modules) == sorted(BACKENDS)


def test_an_unknown_backend_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"backend=tensorrt is not known: use one of onnxruntime, openvino, p"):
        load_backend("tensorrt")


def test_a_backend_that_cannot_be_loaded_names_the_requirement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalogue.BACKENDS, "absent", ABSENT)
    with pytest.raises(ConfigurationError, match=r"pip install 'recarena\[absent\]'"):
        load_backend("absent")


def test_what_is_missing_is_told_with_the_way_to_install_it(nothing_installed: None) -> None:
    assert missing_packages("torch") == ["torch"]
    assert missing_packages("onnxruntime") == ["onnx", "onnxruntime", "onnxscript", "torch"]
    for name, extra in (("onnxruntime", "onnx"), ("openvino", "openvino")):
        with pytest.raises(ConfigurationError) as caught:
            require_backend(name, "cpu")
        message = str(caught.value)
        assert f"backend={name} needs onnx, " in message and f"pip install 'recarena[{extra}]'" in message
        assert "or say backend=torch" in message and "\n" not in message


def test_without_tensorflow_its_backend_says_how_to_install_it(nothing_installed: None) -> None:
    assert missing_packages("tensorflow") == ["tensorflow"]
    with pytest.raises(ConfigurationError) as caught:
        require_backend("tensorflow", "cpu")
    message = str(caught.value)
    assert message == (
        "backend=tensorflow needs tensorflow, which is not installed: pip install 'recarena[tf]', or say backend=torch"
    )


def test_a_backend_without_pytorch_reads_no_state_dict() -> None:
    for name, path in (
        ("tensorflow", "mine.npz"),
        ("tensorflow", ""),
        ("torch", "mine.pt"),
        ("onnxruntime", "mine.pt"),
    ):
        require_weights(name, path)
    with pytest.raises(ConfigurationError, match=r"backend=tensorflow model\.weights=mine\.pt: .* save .* as \.npz"):
        require_weights("tensorflow", "mine.pt")


def test_one_missing_package_is_told_in_the_singular(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else object())
    with pytest.raises(ConfigurationError, match="backend=openvino needs openvino, which is not installed"):
        require_backend("openvino", "cpu")


def test_a_device_that_a_backend_does_not_run_on_names_the_backends_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    require_backend("torch", "cuda")
    with pytest.raises(
        ConfigurationError, match=r"backend=onnxruntime runs on device=cpu, not on device=cuda.*=torch\)"
    ):
        require_backend("onnxruntime", "cuda")


def test_nothing_but_a_system_under_test_loads_a_runtime() -> None:
    """All that the main process imports for a run, and a system under test before it knows its backend."""
    code = (
        "import sys, run, harness.measure, harness.edge.command, harness.edge.config, harness.record.writer\n"
        "import harness.sut.server, harness.sut.model_session, harness.backends.catalogue, leaderboard.__main__\n"
        f"print(sorted(set({RUNTIMES!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_pytorch_is_served_where_no_other_runtime_can_be_imported() -> None:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({RUNTIMES[1:]!r}))  # importing any of them now fails\n"
        "from harness.backends.catalogue import load_backend; print(load_backend('torch').__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "harness.backends.torch_backend"


def test_a_backend_that_only_serves_is_refused_for_training() -> None:
    require_training("torch")
    with pytest.raises(ConfigurationError, match=r"backend=onnxruntime scope=train.*backend=torch"):
        require_training("onnxruntime")
