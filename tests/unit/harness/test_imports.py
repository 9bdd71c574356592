"""What the main process loads: it keeps labels and time, and must stay light."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAMEWORKS = ("torch", "tensorflow", "mlflow", "onnxruntime", "openvino")


def loaded(module: str, heavy: tuple[str, ...]) -> list[str]:
    code = f"import sys, {module}; print(*(name for name in {heavy} if name in sys.modules))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    "module", ["run", "harness.measure", "harness.traffic.sender", "leaderboard.show", "optimizations.plan"]
)
def test_the_main_process_loads_no_framework(module: str) -> None:
    assert loaded(module, FRAMEWORKS) == []


def test_a_command_line_is_checked_without_statistics_and_pictures() -> None:
    assert loaded("harness.edge.command", (*FRAMEWORKS, "scipy", "matplotlib")) == []


def test_what_serves_loads_no_readers_of_data_files() -> None:
    assert loaded("harness.backends.torch_backend", ("torch", "pyarrow", "scipy")) == ["torch"]
