"""The main job, as a user starts it: every model measured against its baseline on a tiny data set.

DLRM's is interrupted and started again (``test_ended_job.py``); the sweep that is killed measures the baseline alone
(``tests/rejects/test_killed_sweep.py``).
"""

from __future__ import annotations

import pytest

from tests.e2e.main_job import MainJob
from tests.e2e.paired_record import check_paired_record

pytestmark = pytest.mark.e2e
SMALL = {
    "wdl": ("model.embedding_dim=8", "model.large_dim=16", "model.deep_units=[64,32]"),
    "din": ("dataset.max_history=8",),
    "dien": ("dataset.max_history=8",),
}
"""The way from the command line to the record is the same for every size: ``tests/parity`` has the scores of all."""


@pytest.mark.parametrize("model", [*(pytest.param(m, marks=pytest.mark.slow) for m in ("wdl", "din")), "dien"])
def test_each_model_is_measured_and_its_numbers_follow_from_the_raw_columns(model: str, main_job: MainJob) -> None:
    done = main_job.run(f"model={model}", *SMALL[model], "opt=[fusion,bf16]")
    assert done.returncode == 0, done.stdout + done.stderr
    check_paired_record(main_job.only_record())
