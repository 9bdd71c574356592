"""A main job that is killed while it trains, and started again."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.main_job import MainJob
from zoo.checkpoint import load_weights

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
LONG = ("model=dlrm", "training.batch_size=4", "training.threads=1")
"""1,000 steps, of which every hundredth is kept."""


def killed_at(job: MainJob, ending: str) -> list[str]:
    """Kill the job by SIGKILL as soon as a line matches; returns its lines."""
    lines = []
    with subprocess.Popen(job.command(*LONG), cwd=job.folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if re.search(ending, line):
                process.kill()
                break
    return lines


def weights_in(cache: Path) -> dict[str, bytes]:
    (path,) = (cache / "weights").glob("dlrm-*.npz")
    return {name: array.tobytes() for name, array in load_weights(path).items()}


def test_it_goes_on_where_it_stood_and_leaves_the_same_weights(tmp_path: Path) -> None:
    trained = r"^floor \("  # what is measured first
    whole, ended = (MainJob(tmp_path, tmp_path / name) for name in ("whole", "ended"))
    killed_at(whole, trained)
    killed_at(ended, r"training dlrm: [4-9]\d\d/1000 steps")
    (state,) = (ended.cache / "weights").glob("*.state")
    said = "".join(killed_at(ended, trained))
    found = re.search(r"training dlrm, resumed at step (\d+): 1000 steps", said)
    assert found and int(found[1]) >= 300, said
    assert not state.exists()
    assert weights_in(ended.cache) == weights_in(whole.cache)
