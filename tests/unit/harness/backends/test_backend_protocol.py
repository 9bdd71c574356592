"""Backends by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.backends import protocol
from harness.backends.protocol import load_backend
from harness.errors import ConfigurationError


def test_an_unknown_backend_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"backend=tensorrt is not known: use one of torch"):
        load_backend("tensorrt")


def test_a_backend_without_its_framework_names_the_requirement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(protocol.BACKENDS, "absent", "recarena[absent]")
    with pytest.raises(ConfigurationError, match=r"pip install 'recarena\[absent\]'"):
        load_backend("absent")


def test_the_protocol_itself_loads_no_framework() -> None:

    code = "import sys, harness.backends.protocol; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
