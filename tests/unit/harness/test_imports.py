"""What the main process loads: it keeps labels and time, and must stay light."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["run", "harness.measure", "harness.traffic.sender", "leaderboard.show", "optimizations.plan"]
)
def test_the_main_process_loads_no_framework(module: str) -> None:
    heavy = ("torch", "tensorflow", "mlflow", "onnxruntime", "openvino")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
