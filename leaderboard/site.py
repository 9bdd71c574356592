"""The board as one static page: a single HTML file that needs no network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.console.report import DASH, interval, marks, number, plan_text
from harness.record.result import Result
from leaderboard.chart import late_curve, lbt_bars
from leaderboard.show import board_verdict, git_text, peer_text, ranks
from leaderboard.store import Board, Entry, Workload

COLUMNS = ("rank", "optimizations", "LBT, qps", "ratio to opt=[]", "service ratio", "p99, ms", "AUC", "gate", "verdict")
TRAINING = (
    *("rank", "optimizations", "samples/s", "ratio to opt=[]", "inputs alone", "compute alone", "peak MiB"),
    *("gate", "verdict"),
)
NUMERIC = frozenset(
    {
        *("rank", "LBT, qps", "ratio to opt=[]", "service ratio", "p99, ms", "AUC"),
        *("samples/s", "inputs alone", "compute alone", "peak MiB"),
    }
)
Cell = tuple[str, str, str]
"""Text, sort key, interval."""


def write_site(board: Board, out: Path) -> Path:
    """Write ``index.html`` into the folder ``out`` (made if need be); returns the file."""
    out.mkdir(parents=True, exist_ok=True)
    page = out / "index.html"
    temporary = out / f".index.html-{os.getpid()}"
    temporary.write_text(render(board), "utf-8")
    os.replace(temporary, page)
    return page


def render(board: Board) -> str:
    """The page as text. Everything that comes out of a record is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    groups = [_group(workload, entries) for workload, entries in board.groups.items()]
    unreadable = [{"path": path.name, "why": why} for path, why in board.unreadable.items()]
    template = environment.get_template("site.html")
    return template.render(groups=groups, unreadable=unreadable, numeric=NUMERIC)


def _group(workload: Workload, entries: Sequence[Entry]) -> dict[str, Any]:
    training = workload.scope == "train"
    asked = (
        ["training", f"batch {workload.batch_size}", *([workload.settings] if workload.settings else [])]
        if training
        else [
            f"p{workload.percentile:g} within {workload.limit_ms:g} ms",
            f"{workload.scenario}, {workload.query_sizes} query sizes",
        ]
    )
    return {
        "title": f"{workload.sized_model} on {workload.dataset}",
        "facts": [*asked, f"data {workload.fingerprint[:8]}", workload.hardware_class],
        "columns": TRAINING if training else COLUMNS,
        "bars": Markup(lbt_bars(entries)),
        "rows": [_row(rank, entry) for rank, entry in ranks(entries)],
    }


def _row(rank: str, entry: Entry) -> dict[str, Any]:
    result = entry.result
    columns, cells = (TRAINING, _training_cells(result)) if result.trains else (COLUMNS, _cells(result))
    cells = [(rank, rank if rank.isdigit() else "", ""), (plan_text(result), "", ""), *cells]
    return {
        "cells": [
            {"text": text, "key": key, "interval": "" if extra == DASH else extra, "numeric": name in NUMERIC}
            for name, (text, key, extra) in zip(columns, cells, strict=True)
        ],
        "unranked": "; ".join(entry.unranked),
        "kind": "unranked" if entry.unranked else "peer" if result.is_peer else "",
        "curve": Markup(late_curve(result)),
        "facts": _facts(entry),
        "plan": [{"name": line.name, "phase": line.phase.lower(), "marks": marks(line)} for line in result.plan],
    }


def _cells(result: Result) -> list[Cell]:
    side, ratio = result.measured, result.ratio
    return [
        (number(side.lbt_qps), _key(side.lbt_qps), interval(side.lbt_ci)),
        (number(ratio.lbt), _key(ratio.lbt), interval(ratio.lbt_ci)) if ratio else (DASH, "", ""),
        (number(ratio.service), _key(ratio.service), interval(ratio.service_ci)) if ratio else (DASH, "", ""),
        (number(side.latency_ms.p99), _key(side.latency_ms.p99), ""),
        (number(side.auc, 5), _key(side.auc), ""),
        (result.gate.verdict if result.gate else DASH, "", ""),
        (board_verdict(result) if ratio else "baseline", "", ""),
    ]


def _training_cells(result: Result) -> list[Cell]:
    train, (ratio, bounds, _) = result.measured.train, result.speedup
    peak = None if train is None or train.peak_bytes is None else train.peak_bytes / 2**20
    numbers = (train.samples_per_s, train.input_rows_per_s, train.compute_samples_per_s) if train else (None,) * 3
    speed, inputs, compute = ((number(value), _key(value), "") for value in numbers)
    return [
        speed,
        (number(ratio), _key(ratio), interval(bounds)),
        inputs,
        compute,
        (number(peak), _key(peak), ""),
        (result.gate.verdict if result.gate else DASH, "", ""),
        (board_verdict(result) if result.ratio else "baseline", "", ""),
    ]


def _facts(entry: Entry) -> list[tuple[str, str]]:
    result = entry.result
    found = [
        ("record", entry.path.name),
        ("trial", result.trial_id),
        ("measured", result.created),
        ("source", f"{result.source_sha256[:12]}, commit {git_text(result)}"),
        ("budget", str(result.trial["budget"])),
        *([] if result.trains else _serving_facts(result)),
        ("validity", f"{result.validity.verdict}, {result.validity.voided_quads} quads voided"),
    ]
    if result.peer is not None:
        found.append(("peer", peer_text(result.peer).partition(": ")[2]))
    if result.certificate is not None:
        rate = result.certificate.rate_qps
        found.append(("certificate", f"{number(rate)} qps" if rate else "failed"))
    if result.gate is not None and result.gate.auc_delta is not None:
        low, high = result.gate.auc_delta_ci or (float("nan"), float("nan"))
        found.append(("AUC difference", f"{result.gate.auc_delta:+.5f} [{low:+.5f}, {high:+.5f}]"))
    if result.dataset.bayes_auc is not None:
        found.append(("Bayes AUC of the data", number(result.dataset.bayes_auc, 5)))
    return found


def _serving_facts(result: Result) -> list[tuple[str, str]]:
    return [
        ("slack of the baseline", number(result.baseline.slack)),
        ("service time of 100 samples", _pair(result, "n100")),
        ("floor", f"p99 {number(result.floor.p99_ms)} ms, {number(result.floor.lbt_qps)} qps"),
    ]


def _pair(result: Result, size: str) -> str:
    before = number(getattr(result.baseline.service_ms, size))
    if result.candidate is None:
        return f"{before} ms"
    return f"{before} ms, candidate {number(getattr(result.candidate.service_ms, size))} ms"


def _key(value: float | None) -> str:
    """Sort key of a cell, at full precision."""
    return "" if value is None else repr(float(value))
