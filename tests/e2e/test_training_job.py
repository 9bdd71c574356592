"""``scope=train`` from the command line to the record: real processes, tiny data, few steps."""

from __future__ import annotations

import json

import pytest

from harness.errors import ExitCode
from harness.record.reader import read_record
from harness.record.training_rows import Chunk, as_rows
from leaderboard.verify import verify
from tests.e2e.main_job import MainJob

pytestmark = pytest.mark.e2e
SHORT = ("scope=train", "training.batch_size=64", "budget.segment_s=0.3", "budget.settle_s=0.1")


def test_a_training_in_parts_with_inputs_ahead(main_job: MainJob) -> None:
    done = main_job.run(*SHORT, "model=din", "opt=[micro_batch,stage,executor]", "opt.stage.depth=3")
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    record = read_record(main_job.only_record())
    result, chunks = record.result, as_rows(Chunk, record.training())
    assert (result.gate.verdict, result.gate.timed_answers, result.gate.parity.steps) == ("pass", "pass", 2)
    assert result.ratio.train > 0 and result.ratio.train_ci is None  # one quad
    assert [line.matched for line in result.plan] == [
        ("runtime.executor", "runtime.threads"),
        ("train.parts",),
        ("train.prefetch", "train.prefetch_threads"),
    ]
    base, cand = result.baseline.train, result.candidate.train
    assert (base.steps, base.samples) == (cand.steps, cand.samples) and base.peak_bytes > 10**8
    assert min(base.input_rows_per_s, base.compute_samples_per_s, base.samples_per_s) > 0
    assert cand.threads == 1 and all(chunk.cpu_ns > 0 for chunk in chunks if chunk.steps)
    assert {chunk.purpose for chunk in chunks} == {"gate", "pace", "settle", "quad", "save", "warm", "read", "compute"}
    assert verify(record.path).passed, verify(record.path).problems
    assert "training, samples/s" in done.stdout and "gate: pass" in done.stdout
    run = json.loads((record.path / "environment.json").read_text())["run"]
    assert run["training"]["epoch_samples"] == 4000 and set(run["frozen_by"]) >= {"baseline", "candidate"}
