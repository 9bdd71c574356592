"""What a ``result.json`` must fulfil beyond having its keys: numbers that can be, and that agree with each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.record.jsonable import mismatches
from harness.record.result import RESULT_SCHEMA_VERSION, Result
from harness.trial import PEER

HEX = {"trial_id": 12, "source_sha256": 64, "weights_sha256": 64}


def check_result(data: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with the plain form of a result, one sentence each; empty for a sound one."""
    problems = mismatches(Result, data)
    return problems or [*_identity(data), *_sides(data), *_comparison(data), *_claims(data), *_segments(data)]


def _identity(data: Mapping[str, Any]) -> Iterator[str]:
    if data["schema_version"] > RESULT_SCHEMA_VERSION:
        yield f"schema_version {data['schema_version']} is newer than {RESULT_SCHEMA_VERSION}, which this version reads"
    for name, digits in HEX.items():
        if not re.fullmatch(f"[0-9a-f]{{{digits}}}", data[name]):
            yield f"{name} is {data[name]!r}, expected {digits} hexadecimal digits"
    limit = data["trial"].get("sla", {}).get("limit_ms")
    if not isinstance(limit, (int, float)) or limit <= 0:
        yield f"trial.sla.limit_ms is {limit!r}, expected a number above 0"
    peer = data["trial"].get("peer") or {}
    asked = [peer.get("name")] if data["trial"].get("backend") == PEER else sorted(data["trial"].get("opts", {}))
    if sorted(line["name"] for line in data["plan"]) != asked:
        yield "plan and trial.opts name different optimizations"
    said = data.get("peer") or {}
    if {name: said.get(name) for name in peer} != dict(peer) or bool(said) != bool(peer):
        yield f"peer is {said.get('name')!r} and trial.peer {peer.get('name')!r}, or they are set otherwise"


def _sides(data: Mapping[str, Any]) -> Iterator[str]:
    for name in ("baseline", "candidate"):
        side = data[name]
        if side is None:
            continue
        if side["auc"] is not None and not 0 <= side["auc"] <= 1:
            yield f"{name}.auc is {side['auc']}, expected a number in [0, 1]"
        for key in ("lbt_qps", "logloss", "pcoc", "slack", "offline_samples_per_s", "rss_bytes"):
            if side[key] is not None and side[key] < 0:
                yield f"{name}.{key} is {side[key]}, expected no negative number"
        yield from _interval(f"{name}.lbt_ci", side["lbt_qps"], side["lbt_ci"])
        known = [v for v in (side["latency_ms"][p] for p in ("p50", "p90", "p99", "p999")) if v is not None]
        if known != sorted(known):
            yield f"{name}.latency_ms falls from one percentile to the next"
        if (side.get("train") is not None) != (data["trial"].get("scope") == "train"):
            yield f"{name}.train must be there exactly when trial.scope is train"
        if (side["lbt_status"] == "unreachable") != (side["lbt_qps"] == 0):
            yield f"{name}.lbt_status is {side['lbt_status']} with an LBT of {side['lbt_qps']}"


def _comparison(data: Mapping[str, Any]) -> Iterator[str]:
    present = {data[name] is not None for name in ("candidate", "ratio", "gate")}
    if len(present) > 1:
        yield "candidate, ratio and gate must be there together or not at all"
    if (data["candidate"] is not None) != bool(data["trial"].get("opts") or data["trial"].get("peer")):
        yield "a candidate must be there exactly when trial.opts names optimizations, or trial.peer a peer"
    ratio = data["ratio"]
    if ratio is not None:
        yield from _interval("ratio.lbt_ci", ratio["lbt"], ratio["lbt_ci"])
        yield from _interval("ratio.service_ci", ratio["service"], ratio["service_ci"])
        yield from _interval("ratio.train_ci", ratio.get("train"), ratio.get("train_ci"))
        if ratio["lbt"] is None and not ratio["reason"]:
            yield "ratio.lbt is null without a reason"
    gate = data["gate"]
    if gate is not None:
        yield from _interval("gate.auc_delta_ci", gate["auc_delta"], gate["auc_delta_ci"])


def _claims(data: Mapping[str, Any]) -> Iterator[str]:
    """What the candidate runs otherwise than the baseline, some optimization must have claimed.

    A peer is another system altogether.
    """
    if data["candidate"] is None or data["trial"].get("peer"):
        return
    claimed = {claim for line in data["plan"] for claim in line["claims"]}
    slots = {"workers": "runtime.workers", "dispatch": "dispatch.", "dtypes": ".dtype"}
    for key, slot in slots.items():
        sides = [data[name].get(key) for name in ("baseline", "candidate")]
        if sides[0] != sides[1] and not any(slot in claim for claim in claimed):
            yield f"candidate.{key} is {sides[1]} and baseline.{key} {sides[0]}, and no optimization claims {slot}"


def _segments(data: Mapping[str, Any]) -> Iterator[str]:
    for segment in data["segments"]:
        if not 0 <= segment["late"] <= segment["queries"]:
            yield f"segment {segment['segment']}: {segment['late']} late of {segment['queries']} queries"
        if segment["counted_from_ns"] > segment["counted_to_ns"]:
            yield f"segment {segment['segment']} ends before it begins"


def _interval(what: str, value: float | None, bounds: list[float] | None) -> Iterator[str]:
    if bounds is None:
        return
    if value is None or not bounds[0] <= value <= bounds[1]:
        yield f"{what} is {bounds}, which does not hold {value}"
