"""Our plans over packages of other people, each pair measured in one trial, as the Markdown table of docs/peers.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from harness.console.report import DASH, number, plan_text, with_interval
from harness.record.result import Result
from leaderboard.pages import markdown
from leaderboard.store import Entry, Workload

HEADINGS = (
    *("model", "data", "plan", "peer", "LBT over the peer's", "at least", "LBT, qps", "the peer's"),
    *("AUC less the peer's", "gate", "trial", "no rank because"),
)
MARK = "entries"
Key = tuple[Workload, str, str, str, str]
"""Workload, backend, our plan with its options, name and settings of the peer."""


def over_peers(entries: Iterable[Entry]) -> str:
    """A row for the newest record of each plan over each peer at each of its settings, the least ratio of a plan first.

    That first row is the plan over the best of its peers, in bold: no other came nearer. "at least" is the lower
    end of the interval. What is void was not measured, and comes last. Records of a peer by itself have no row.
    """
    newest: dict[Key, Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.result.created):
        if entry.result.peer is not None and not entry.result.is_peer:
            newest[_key(entry)] = entry
    ordered = sorted(newest.items(), key=lambda item: (item[0][0].title, *item[0][1:3]))
    rows: list[Sequence[str]] = [HEADINGS]
    for _, same in groupby(ordered, key=lambda item: item[0][:3]):
        rows += _plan_rows([entry for _, entry in same])
    return markdown(rows)


def _key(entry: Entry) -> Key:
    trial = entry.result.trial
    peer: Mapping[str, str] = trial["peer"]
    plan = json.dumps(trial["opts"], sort_keys=True)
    return Workload.of(entry.result), trial["backend"], plan, peer["name"], peer["settings"]


def _plan_rows(entries: Sequence[Entry]) -> Iterator[Sequence[str]]:
    """Least ratio first; those without one, which no other can be better than, come last, and void ones behind them."""
    best, *others = sorted(entries, key=_order)
    told = _ratio(best) is not None and not best.result.void
    yield tuple(f"**{cell}**" if told and place < BOLD else cell for place, cell in enumerate(_cells(best)))
    yield from map(_cells, others)


BOLD = 6
"""Cells of the first row in bold: who over whom, and by how much."""


def _order(entry: Entry) -> tuple[bool, bool, float]:
    ratio = _ratio(entry)
    return (entry.result.void, ratio is None, ratio or 0.0)


def _ratio(entry: Entry) -> float | None:
    return None if entry.result.ratio is None else entry.result.ratio.lbt


def _cells(entry: Entry) -> tuple[str, ...]:
    result = entry.result
    peer, ratio, gate, candidate = result.peer, result.ratio, result.gate, result.candidate
    assert peer is not None and ratio is not None and gate is not None and candidate is not None
    plan = plan_text(result).replace(f" over {peer.title}", "")
    return (
        Workload.of(result).sized_model,
        _data(result),
        plan,
        peer.title,
        with_interval(ratio.lbt, ratio.lbt_ci),
        DASH if ratio.lbt_ci is None else number(ratio.lbt_ci[0]),
        with_interval(candidate.lbt_qps, candidate.lbt_ci),
        with_interval(result.baseline.lbt_qps, result.baseline.lbt_ci),
        _auc(gate.auc_delta, gate.auc_delta_ci),
        gate.verdict if gate.same_weights else f"{gate.verdict} (AUC alone)",
        result.trial_id,
        "; ".join(entry.unranked) or DASH,
    )


def _data(result: Result) -> str:
    """Name of the data set, and of its file where it has one."""
    path = result.trial["dataset_options"].get("path")
    return f"{result.dataset.name} {Path(path).name.split('.')[0]}" if path else result.dataset.name


def _auc(delta: float | None, bounds: tuple[float, float] | None) -> str:
    if delta is None:
        return DASH
    return f"{delta:+.5f}" + ("" if bounds is None else f" [{bounds[0]:+.5f}, {bounds[1]:+.5f}]")
