"""What the record of a pair of sides holds, whichever model it is of: numbers that follow from its raw columns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from harness.record.result import Result
from harness.traffic.segment import Status
from leaderboard.result_check import check_result

TOO_MUCH = (Status.DROPPED, Status.UNFINISHED, Status.NOT_SENT)
"""What becomes of queries where a probe, or a busy machine, offers more than can be served."""


def check_paired_record(record: Path) -> None:
    """The gate passed, AUC and log loss are scikit-learn's, and both sides answered open load."""
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
    # Whether a rate is one that a side can keep for a whole segment is the host's affair too, of a smoke run above all.
    assert set(open_loop[open_loop.status == Status.ANSWERED].side) >= {"baseline", "candidate"}
    sent = queries[queries.sent_ns >= 0]
    assert len(sent) > 1000
    assert (sent.sent_ns >= sent.planned_ns).all()
