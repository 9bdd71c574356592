"""The main job, as a user starts it: every model measured against its baseline on a tiny data set."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from harness.record.result import Result
from harness.traffic.segment import Status
from leaderboard.result_check import check_result
from tests.e2e.main_job import MainJob

pytestmark = pytest.mark.e2e
TOO_MUCH = (Status.DROPPED, Status.UNFINISHED, Status.NOT_SENT)
"""What becomes of queries where a probe, or a busy machine, offers more than can be served."""

PLANS = {
    "dlrm": ("opt=[fusion,bf16,embedding_tier]", "opt.bf16.embedding=false", "dataset.table_copies=50"),
}
"""A model whose tables are larger than trained, and lie in their file."""


@pytest.mark.parametrize("model", ["wdl", pytest.param("din", marks=pytest.mark.slow), "dien", "dlrm"])
def test_each_model_is_measured_and_its_numbers_follow_from_the_raw_columns(model: str, main_job: MainJob) -> None:
    done = main_job.run(f"model={model}", *PLANS.get(model, ("opt=[fusion,bf16]",)))
    assert done.returncode == 0, done.stdout + done.stderr
    record = main_job.only_record()
    plain = json.loads((record / "result.json").read_text("utf-8"))
    assert check_result(plain) == []
    result = Result.from_dict(plain)
    assert result.gate is not None and result.gate.verdict == "pass"
    assert result.candidate is not None and result.ratio is not None
    assert [line.name for line in result.plan][:2] == ["fusion", "bf16"]
    assert all(line.built["hot_bytes"] > 0 for line in result.plan[2:])
    rows = pq.read_table(record / "predictions.parquet").to_pandas()
    for side, reported in (("baseline", result.baseline), ("candidate", result.candidate)):
        own = rows[(rows.side == side) & (rows.run == "accuracy") & rows.label.notna()]
        assert reported.auc == pytest.approx(roc_auc_score(own.label, own.score), abs=1e-9)
        assert reported.logloss == pytest.approx(log_loss(own.label, own.score.astype(np.float64)), rel=1e-6)
    queries = pq.read_table(record / "queries.parquet").to_pandas()
    open_loop = queries[queries.offered_qps > 0]  # a closed loop asks for more than it has the time for
    assert set(open_loop.status) <= {Status.ANSWERED, *TOO_MUCH}
    whole = open_loop.groupby(["side", "segment"]).status.agg(lambda status: (status == Status.ANSWERED).all())
    assert {side for (side, _), answered in whole.items() if answered} >= {"baseline", "candidate"}
    sent = queries[queries.sent_ns >= 0]
    assert len(sent) > 1000
    assert (sent.sent_ns >= sent.planned_ns).all()


def test_no_optimization_measures_the_baseline_alone(main_job: MainJob) -> None:
    done = main_job.run("model=dlrm")
    assert done.returncode == 0, done.stdout + done.stderr
    plain = json.loads((main_job.only_record() / "result.json").read_text("utf-8"))
    assert (plain["candidate"], plain["ratio"], plain["gate"], plain["plan"]) == (None, None, None, [])
    assert plain["baseline"]["auc"] > 0.5
