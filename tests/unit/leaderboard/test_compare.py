"""Comparison of two records: intervals against closed forms, and what must not be compared."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from rich.console import Console

from harness.errors import ConfigurationError
from harness.record.reader import read_record
from harness.record.writer import RecordWriter
from harness.trial import Sla
from leaderboard.compare import compare, comparison_view, incomparable, regressed


@pytest.fixture
def record(tmp_path, fabricate):
    def write(edit=lambda result: result, **fields):
        trial, measurement = fabricate(**fields)
        measurement = dataclasses.replace(measurement, result=edit(measurement.result))
        with RecordWriter(tmp_path, trial) as writer:
            return read_record(writer.write(measurement))

    return write


def by_metric(lines):
    return {line.metric.split(",")[0]: line for line in lines}


def test_a_slower_record_is_a_regression_and_a_faster_one_is_not(record):
    fast, slow = record(speedup=2.0), record(speedup=1.7)
    lines = by_metric(compare(fast, slow))
    lbt = lines["latency-bound throughput"]
    assert lbt.change == pytest.approx(1.7 / 2.0)
    half = math.hypot(math.log(1 / 0.96), math.log(1.04))
    assert lbt.ci[0] == pytest.approx(0.85 * math.exp(-half)) and lbt.ci[1] == pytest.approx(0.85 * math.exp(half))
    assert lbt.verdict == "worse" and regressed(compare(fast, slow))
    assert by_metric(compare(slow, fast))["latency-bound throughput"].verdict == "better"
    assert not regressed(compare(slow, fast))


def test_the_interval_decides(record):
    """Intervals of +-4 % each: 5 % less may be chance, 6 % less may not (hypot of both is 5.7 %)."""
    base = record(speedup=2.0)
    assert not regressed(compare(base, record(speedup=1.9)))
    lines = by_metric(compare(base, record(speedup=1.88)))
    assert lines["latency-bound throughput"].verdict == "worse"
    assert lines["ratio to opt=[]"].verdict == "no difference"


def test_auc_is_compared_by_pairs(record, fabricate):
    base, same = record(), record()
    auc = by_metric(compare(base, same))["AUC"]
    assert (auc.change, auc.verdict) == (0.0, "no difference")
    worse = by_metric(compare(base, record(shift=0.3)))
    assert worse["AUC"].verdict == "worse" and worse["gate (1 = passed)"].verdict == "worse"
    predictions = fabricate()[1].predictions
    rows = (predictions["side"] == "candidate") & (predictions["run"] == "accuracy")
    labels, scores = predictions["label"][rows], predictions["score"][rows]
    positives, negatives = scores[labels == 1], scores[labels == 0]
    pairs = (positives[:, None] > negatives).mean() + 0.5 * (positives[:, None] == negatives).mean()
    assert auc.before == pytest.approx(float(pairs), abs=1e-12)
    assert worse["AUC"].ci[0] < worse["AUC"].change < worse["AUC"].ci[1] < 0


def test_ratios_to_two_different_baselines_are_not_compared(record):
    """Each backend has an ``opt=[]`` of its own: half the ratio is no regression, half the throughput is one."""
    torch, other = record(speedup=2.0), record(lbt=60.0, speedup=2.0, backend="onnxruntime")
    lines = by_metric(compare(torch, other))
    assert lines["ratio to opt=[] of its own backend"].verdict == "not tested"
    assert lines["ratio to opt=[] of its own backend"].ci is None
    assert lines["latency-bound throughput"].verdict == "worse"
    smaller = record(lbt=240.0, speedup=1.0, backend="onnxruntime")
    assert not regressed(compare(torch, smaller)) and regressed(compare(torch, record(lbt=240.0, speedup=1.0)))


def test_other_samples_are_not_paired(record):
    line = by_metric(compare(record(), record(random_seed=8)))["AUC"]
    assert line.verdict == "not tested" and line.ci is None


def test_throughput_that_fell_to_zero_is_worse(record):
    def stalled(result):
        side = dataclasses.replace(result.candidate, lbt_qps=0.0, lbt_ci=None, lbt_status="unreachable")
        return dataclasses.replace(result, candidate=side)

    assert by_metric(compare(record(), record(stalled)))["latency-bound throughput"].verdict == "worse"


@pytest.mark.parametrize(
    ("fields", "phrase"),
    [
        ({"hardware": "arm64"}, "hardware_class x86_64-2c-avx512 and arm64"),
        ({"dataset_fingerprint": "aa" * 32}, "fingerprint"),
        ({"sla": Sla(limit_ms=50.0)}, "limit_ms 100.0 and 50.0"),
        ({"sla": Sla(limit_ms=100.0, percentile=95.0)}, "percentile 99.0 and 95.0"),
        ({"model": "din", "sizes": {"embedding_dim": 18}}, "model dien and din"),
        ({"sizes": {"embedding_dim": 4, "hidden_units": 36}}, "sizes default and embedding_dim=4"),
        ({"query_sizes": "fixed:32"}, "query_sizes heavy and fixed:32"),
    ],
)
def test_what_differs_is_refused_unless_forced(record, fields, phrase):
    a, b = record(), record(**fields)
    assert len(incomparable(a.result, b.result)) == 1
    with pytest.raises(ConfigurationError, match=phrase):
        compare(a, b)
    assert len(compare(a, b, force=True)) == 7


def test_another_way_to_train_is_another_job(record):
    def training(result):
        trial = {**result.trial, "scope": "train", "training": {"batch_size": 128, "dropout": dropout, "seed": seed}}
        return dataclasses.replace(result, trial=trial)

    dropout, seed = 0.0, 1
    plain = record(training)
    seed = 2
    assert incomparable(plain.result, record(training).result) == []
    dropout = 0.5
    assert incomparable(plain.result, record(training).result) == ["settings default and dropout=0.5"]


@pytest.mark.parametrize("verdict", ["void", "noisy_host"])
def test_a_void_result_is_compared_by_force_alone_and_a_noisy_host_is_named(record, verdict):
    """Of a void one, a side ran while the other one was timed: its numbers are no regression."""

    def marked(result):
        return dataclasses.replace(result, validity=dataclasses.replace(result.validity, verdict=verdict))

    base, other = record(), record(marked, speedup=1.5)
    if verdict == "void":
        with pytest.raises(ConfigurationError, match="the result of B is void; --force"):
            compare(base, other)
    lines = compare(base, other, force=verdict == "void")
    console = Console(width=500)
    with console.capture() as captured:
        console.print(comparison_view(base, other, lines))
    named = [line for line in captured.get().splitlines() if line[:2] in ("A:", "B:")]
    assert [line.endswith(f"({verdict.replace('_', ' ')})") for line in named] == [False, True]


def test_other_optimizations_are_what_comparing_is_for(record):
    assert np.isfinite(compare(record(), record(opts={"bf16": {}}))[0].change)
