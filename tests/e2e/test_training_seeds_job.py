"""``training.seeds`` from the command line to the record: real processes, tiny data."""

from __future__ import annotations

import pytest

from harness.errors import ExitCode
from harness.record.reader import read_record
from leaderboard.verify import verify
from tests.e2e.main_job import MainJob

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SHORT = ("scope=train", "training.batch_size=200", "budget.segment_s=0.2", "budget.settle_s=0.1", "model=dlrm")


def test_other_mathematics_to_the_end_with_a_target_of_stored_seeds(main_job: MainJob) -> None:
    """Parts that draw their own dropout: gated by three seeds, timed to what five seeds of the plain loop reach."""
    done = main_job.run(*SHORT, "opt=[micro_batch]", "training.dropout=0.1", "training.seeds=3")
    assert done.returncode in (ExitCode.OK, ExitCode.GATE_FAILED), done.stdout + done.stderr  # tiny data, wide interval
    record = read_record(main_job.only_record())
    result, target = record.result, record.environment["run"]["training"]["target"]
    stored = list((main_job.cache / "weights").glob("dlrm-*.auc.json"))
    assert len(stored) == 5 and len(target["valid_aucs"]) == 5
    assert not list((main_job.cache / "weights").glob("*.state")) and not list(
        (main_job.cache / "seeds").rglob("*.npz")
    )
    assert (result.gate.parity, len(result.gate.seeds.seeds)) == (None, 3)
    for side in (result.baseline, result.candidate):
        assert [each.seed for each in side.train.to_auc] == [1, 2, 3] and 0.5 < side.auc < 0.8
        assert all(each.steps == 20 and each.seconds > 0 for each in side.train.to_auc)
    # The target's seeds were trained by the fit loop, the baseline's by the side: the same mathematics.
    reached = [each.valid_auc for each in result.baseline.train.to_auc]
    assert reached == pytest.approx(target["valid_aucs"][:3], abs=2e-3)
    assert verify(record.path).passed, verify(record.path).problems
    assert "training to the end" in done.stdout and "test AUC" in done.stdout
