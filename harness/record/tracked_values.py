"""What a tracking server is told of a record: metrics, parameters and tags, named as its UI sorts and plots them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from harness.record.reader import Record
from harness.record.result import Result, SegmentInfo
from harness.record.side_result import SideResult


def late_series(segments: Iterable[SegmentInfo]) -> dict[str, dict[int, float]]:
    """Late fraction of each side by offered rate in whole queries/s, without voided and closed-loop segments."""
    counts: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for segment in segments:
        if segment.offered_qps and segment.queries and not segment.voided and segment.side != "floor":
            total = counts[segment.side][round(segment.offered_qps)]
            total[0] += segment.late
            total[1] += segment.queries
    return {side: {qps: late / n for qps, (late, n) in sorted(rows.items())} for side, rows in counts.items()}


def metrics_of(result: Result) -> dict[str, float]:
    """The numbers that the UI sorts and plots by; what was not determined is left out."""
    found = _side_metrics("", result.measured)
    if result.candidate is not None:
        found |= _side_metrics("baseline_", result.baseline)
    if result.ratio is not None:
        ratio = result.ratio
        low, high = ratio.lbt_ci or (None, None)
        found |= {"ratio_lbt": ratio.lbt, "ratio_lbt_low": low, "ratio_lbt_high": high}
        found |= {"ratio_service": ratio.service, "ratio_offline": ratio.offline}
        low, high = ratio.train_ci or (None, None)
        found |= {"ratio_train": ratio.train, "ratio_train_low": low, "ratio_train_high": high}
        found |= {"ratio_train_input": ratio.train_input, "ratio_train_compute": ratio.train_compute}
        found |= {"ratio_train_to_auc": ratio.train_to_auc}
    if result.gate is not None:
        found |= {"gate_passed": float(result.gate.verdict == "pass"), "auc_delta": result.gate.auc_delta}
    found |= {"floor_lbt_qps": result.floor.lbt_qps, "bayes_auc": result.dataset.bayes_auc}
    return {name: float(value) for name, value in found.items() if value is not None}


def params_of(result: Result) -> dict[str, str]:
    """The trial's fields as dotted names and text."""
    return _flat("", result.trial)


def tags_of(record: Record) -> dict[str, str]:
    """What a run is looked for by."""
    result = record.result
    return {
        "recarena.kind": "trial",
        "trial_id": result.trial_id,
        "plan": ",".join(line.name for line in result.plan) or "none",
        "emulated": ",".join(line.name for line in result.plan if line.emulated) or "none",
        "fingerprint": result.dataset.fingerprint,
        "git_sha": result.git.sha or "none",
        "source_sha256": result.source_sha256,
        "hardware_class": result.hardware_class,
        "validity": result.validity.verdict,
        "gate": result.gate.verdict if result.gate else "none",
        "record": record.path.name,
    }


def _side_metrics(prefix: str, side: SideResult) -> dict[str, float | None]:
    low, high = side.lbt_ci or (None, None)
    values = {
        "lbt_qps": side.lbt_qps,
        "lbt_qps_low": low,
        "lbt_qps_high": high,
        "auc": side.auc,
        "logloss": side.logloss,
        "pcoc": side.pcoc,
        "slack": side.slack,
        "latency_p50_ms": side.latency_ms.p50,
        "latency_p90_ms": side.latency_ms.p90,
        "latency_p99_ms": side.latency_ms.p99,
        "latency_p999_ms": side.latency_ms.p999,
        "single_stream_p50_ms": side.single_stream_ms.p50,
        "service_n100_ms": side.service_ms.n100,
        "offline_samples_per_s": side.offline_samples_per_s,
    }
    if side.train is not None:
        values |= {
            "train_samples_per_s": side.train.samples_per_s,
            "train_input_rows_per_s": side.train.input_rows_per_s,
            "train_compute_samples_per_s": side.train.compute_samples_per_s,
            "train_peak_bytes": side.train.peak_bytes,
            "train_seconds_to_auc": side.train.seconds_to_auc,
            "train_target_auc": side.train.target_auc,
        }
    return {prefix + name: value for name, value in values.items()}


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Nested mapping as dotted names and text (lists as JSON)."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(f"{prefix}{key}.", value)
        else:
            found[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return found
