"""Result values to JSON and back, and what a reader is told about a file that is not a result."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ExitCode
from harness.record.jsonable import mismatches, to_plain
from harness.record.result import Certificate, Floor, Ratio, Result

PUBLISHED_KEYS = {
    "": "schema_version trial_id created recarena_version source_sha256 git trial plan baseline candidate ratio gate "
    "floor validity dataset weights_sha256",
    "git": "sha dirty",
    "trial": "model sizes dataset backend device scope opts scenario query_sizes sla seed budget",
    "baseline": "auc logloss pcoc lbt_qps lbt_ci lbt_status slack service_ms latency_ms offline_samples_per_s "
    "single_stream_ms rss_bytes minor_faults_per_query start_s train",
    "ratio": "lbt lbt_ci service offline train train_ci",
    "gate": "verdict auc_delta auc_delta_ci margin logloss_delta_ci pcoc_ratio timed_answers",
    "floor": "p50_ms p99_ms lbt_qps",
    "validity": "verdict reasons voided_quads",
    "dataset": "name fingerprint rows label_rate bayes_auc",
}


@pytest.mark.parametrize("place", PUBLISHED_KEYS)
def test_published_keys_stay(fabricate, place):
    data = fabricate()[1].result.to_dict()
    assert set(PUBLISHED_KEYS[place].split()) <= set(data[place] if place else data)
    assert {"n1", "n10", "n32", "n100"} == set(data["baseline"]["service_ms"])
    assert {"p50", "p90", "p99", "p999"} <= set(data["baseline"]["latency_ms"])
    assert {"name", "phase", "claims", "matched", "fallbacks", "build_s", "emulated", "division"} <= set(
        data["plan"][0]
    )


def test_round_trip_through_json_text(fabricate):
    result = fabricate()[1].result
    assert Result.from_dict(json.loads(json.dumps(result.to_dict(), allow_nan=False))) == result


def test_keys_of_a_later_version_are_ignored(fabricate):
    result = fabricate()[1].result
    data = result.to_dict() | {"invented": 1}
    data["floor"]["invented"] = 2
    assert Result.from_dict(data) == result


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_float_leaves_json(value):
    plain = to_plain({"floor": Floor(p50_ms=value, p99_ms=float(np.float32(1.5)), lbt_qps=None)})
    text = json.dumps(plain, allow_nan=False)
    assert json.loads(text)["floor"]["p50_ms"] == (value if math.isfinite(value) else None)


def test_numpy_scalars_become_numbers():
    plain = to_plain((np.int64(3), np.float64(0.5), np.bool_(True), np.float64("nan")))
    assert plain == [3, 0.5, True, None]
    assert [type(item) for item in plain[:3]] == [int, float, bool]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d["baseline"].pop("auc"), "baseline.auc is missing"),
        (lambda d: d["floor"].update(lbt_qps="fast"), "floor.lbt_qps is 'fast', expected a number"),
        (
            lambda d: d["validity"].update(verdict="fine"),
            "validity.verdict is 'fine', expected one of valid, noisy_host, void",
        ),
        (lambda d: d["ratio"].update(lbt_ci=[1.0]), "ratio.lbt_ci has 1 items, expected 2"),
        (lambda d: d["plan"][0].update(emulated=1), "plan[0].emulated is 1, expected true or false"),
        (lambda d: d["dataset"].update(rows=True), "dataset.rows is True, expected a whole number"),
        (lambda d: d.update(gate=[]), "gate is [], expected an object"),
    ],
)
def test_what_is_wrong_is_named(fabricate, change, sentence):
    data = fabricate()[1].result.to_dict()
    change(data)
    found = mismatches(Result, data)
    assert len(found) == 1 and found[0].startswith(sentence)
    with pytest.raises(ValueError, match=re.escape(found[0])):
        Result.from_dict(data)


def test_candidate_may_be_absent(fabricate):
    result = fabricate(opts={})[1].result
    data = result.to_dict()
    assert (data["candidate"], data["ratio"], data["gate"]) == (None, None, None)
    assert Result.from_dict(data).measured == result.baseline


def test_exit_codes_by_precedence(fabricate):
    import dataclasses

    result = fabricate()[1].result
    assert result.exit_code == ExitCode.OK
    unreachable = dataclasses.replace(
        result, candidate=dataclasses.replace(result.candidate, lbt_qps=0.0, lbt_status="unreachable")
    )
    assert unreachable.exit_code == ExitCode.SLA_UNREACHABLE
    failed = dataclasses.replace(unreachable, gate=dataclasses.replace(result.gate, verdict="fail"))
    assert failed.exit_code == ExitCode.GATE_FAILED
    noisy = dataclasses.replace(failed, validity=dataclasses.replace(result.validity, verdict="noisy_host"))
    assert noisy.exit_code == ExitCode.GATE_FAILED
    refused = dataclasses.replace(noisy, trial={**result.trial, "budget": "official"})
    assert refused.exit_code == ExitCode.REFUSED
    for beside in (result, failed):
        void = dataclasses.replace(beside, validity=dataclasses.replace(result.validity, verdict="void"))
        assert void.void and void.exit_code == ExitCode.REFUSED
    official = dataclasses.replace(result, trial={**result.trial, "budget": "official"})
    assert official.exit_code == ExitCode.REFUSED
    certificate = Certificate(verdict="pass", rate_qps=9.0, attempts=())
    assert dataclasses.replace(official, certificate=certificate).exit_code == ExitCode.OK
    none = dataclasses.replace(certificate, verdict="fail", rate_qps=None)
    assert dataclasses.replace(official, certificate=none).exit_code == ExitCode.REFUSED
    base_zero = dataclasses.replace(
        result, baseline=dataclasses.replace(result.baseline, lbt_qps=0.0, lbt_status="unreachable")
    )
    assert base_zero.exit_code == ExitCode.OK


def test_ratio_reason_stands_without_a_number():
    ratio = Ratio(lbt=None, lbt_ci=None, service=3.0, offline=None, reason="the baseline is late at every rate")
    assert to_plain(ratio)["lbt"] is None and to_plain(ratio)["service"] == 3.0
