"""``scope=train opt=[sharded_embedding]`` from the command line: a record with TorchRec, one paragraph without it."""

from __future__ import annotations

import importlib.util

import pytest

from harness.errors import ExitCode
from harness.record.reader import read_record
from harness.record.training_rows import Chunk, as_rows
from leaderboard.verify import verify
from tests.e2e.main_job import MainJob
from tests.parity.sharded_case import NEEDS

pytestmark = pytest.mark.e2e
SHARDED = ("scope=train", "model=dlrm", "opt=[sharded_embedding]", "training.batch_size=64")
SHORT = ("budget.segment_s=0.3", "budget.settle_s=0.1")
INSTALLED = importlib.util.find_spec("torchrec") is not None


@pytest.mark.skipif(not INSTALLED, reason=NEEDS)
def test_a_training_on_two_ranks(main_job: MainJob) -> None:
    done = main_job.run(*SHARDED, *SHORT)
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    record = read_record(main_job.only_record())
    result, chunks = record.result, as_rows(Chunk, record.training())
    assert (result.gate.verdict, result.gate.timed_answers, result.gate.parity.steps) == ("pass", "pass", 2)
    (line,) = result.plan
    assert (line.name, line.matched, line.fallbacks, line.options) == (
        "sharded_embedding",
        ("train.ranks",),
        (),
        {"ranks": 2},
    )
    base, cand = result.baseline.train, result.candidate.train
    assert (base.steps, base.samples) == (cand.steps, cand.samples) and result.ratio.train > 0
    assert cand.peak_bytes > 2 * base.peak_bytes  # of the ranks and their parent together
    assert all(chunk.cpu_ns > 0 for chunk in chunks)
    assert verify(record.path).passed, verify(record.path).problems


@pytest.mark.skipif(INSTALLED, reason="TorchRec is installed")
def test_without_torchrec_the_command_that_installs_it_is_told(main_job: MainJob) -> None:
    done = main_job.run(*SHARDED)
    assert done.returncode == ExitCode.BAD_CONFIGURATION
    assert "pip install --no-deps 'torchrec==1.8.0'" in done.stderr.replace("\n", " ")
    assert not list(main_job.folder.iterdir())
