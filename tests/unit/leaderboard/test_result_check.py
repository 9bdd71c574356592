"""What a result must fulfil beyond having its keys."""

from __future__ import annotations

import pytest

from leaderboard.result_check import check_result


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(trial_id="xyz"), "trial_id is 'xyz', expected 12 hexadecimal digits"),
        (lambda d: d.update(schema_version=99), "schema_version 99 is newer"),
        (lambda d: d["trial"]["sla"].update(limit_ms=0), "trial.sla.limit_ms is 0"),
        (lambda d: d["baseline"].update(auc=1.2), "baseline.auc is 1.2"),
        (lambda d: d["baseline"].update(lbt_ci=[1.0, 2.0]), "baseline.lbt_ci is [1.0, 2.0], which does not hold 120.0"),
        (lambda d: d["candidate"].update(lbt_status="unreachable"), "candidate.lbt_status is unreachable with"),
        (lambda d: d["candidate"]["latency_ms"].update(p50=1e9), "candidate.latency_ms falls"),
        (lambda d: d["ratio"].update(lbt=None, lbt_ci=None), "ratio.lbt is null without a reason"),
        (lambda d: d.update(gate=None), "candidate, ratio and gate must be there together"),
        (lambda d: d["plan"].clear(), "plan and trial.opts name different optimizations"),
        (lambda d: d["segments"][0].update(late=10**6), "segment 0: 1000000 late of"),
        (lambda d: d["candidate"].update(workers=2), "candidate.workers is 2 and baseline.workers 1, and no"),
        (lambda d: d["floor"].pop("lbt_qps"), "floor.lbt_qps is missing"),
    ],
)
def test_schema_and_sense(fabricate, change, sentence):
    data = fabricate()[1].result.to_dict()
    assert check_result(data) == []
    change(data)
    problems = check_result(data)
    assert len(problems) == 1 and problems[0].startswith(sentence)
