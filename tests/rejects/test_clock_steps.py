"""The wall clock may jump by hours and years while it is measured: no stamp, no deadline and no verdict notices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.traffic.segment import Status
from optimizations.kernels.loader import KernelsUnavailable, find_compiler

HERE = Path(__file__).parent
SERVICE_NS, HOUR_NS = 2_000_000, 3_600_000_000_000


@pytest.fixture(scope="module")
def stepping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes the wall clock of a process jump at every reading."""
    if sys.platform != "linux":
        pytest.skip("LD_PRELOAD is of Linux")
    library = tmp_path_factory.mktemp("clock") / "libstepping_clock.so"
    try:
        compiler = find_compiler()
    except KernelsUnavailable as missing:
        pytest.skip(str(missing))
    source = ["-x", "c", str(HERE / "stepping_clock.c")]
    command = [*compiler, "-shared", "-fPIC", "-O1", "-o", str(library)]
    subprocess.run([*command, *source, "-ldl"], check=True)
    return library


def test_a_jumping_wall_clock_changes_nothing(stepping: Path) -> None:
    program = [sys.executable, str(HERE / "main_with_stepping_clock.py")]
    environment = {**os.environ, "LD_PRELOAD": str(stepping)}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["preloaded"] == [True] * 3
    assert max(seen["wall_steps_s"]) > 3600 and min(seen["wall_steps_s"]) < -3600
    assert seen["aborted"] == ["", ""]
    assert seen["planned_as_traced"]
    assert seen["status"] == [Status.ANSWERED] * len(seen["status"])
    for planned, sent, done_ns in (np.array(stamps) for stamps in seen["stamps"]):
        assert (planned <= sent).all() and (sent + SERVICE_NS <= done_ns).all()
        assert (np.diff(planned) >= 0).all()
        # One jump of the steps that were made would be at least an hour.
        assert done_ns.max() - planned.min() < HOUR_NS
    assert 0 < seen["start_s"] < 3600
