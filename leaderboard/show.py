"""The board and single records on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from harness.console.report import DASH, number, plan_table, plan_text, ratio_verdict, result_table, with_interval
from harness.record.peer_result import PeerResult
from harness.record.reader import Record
from harness.record.result import Result
from harness.trial import PEER
from leaderboard.store import Board, Entry, Workload

_COLUMNS: dict[str, Literal["left", "right"]] = {
    "rank": "right",
    "opt": "left",
    "LBT, qps": "right",
    "ratio to opt=[]": "right",
    "verdict": "left",
    "p99, ms": "right",
    "AUC": "right",
    "gate": "left",
    "trial": "left",
    "unranked because": "left",
}
_TRAINING_COLUMNS: dict[str, Literal["left", "right"]] = {
    "rank": "right",
    "opt": "left",
    "samples/s": "right",
    "ratio to opt=[]": "right",
    "verdict": "left",
    "inputs alone": "right",
    "compute alone": "right",
    "gate": "left",
    "trial": "left",
    "unranked because": "left",
}


def board_view(board: Board) -> RenderableType:
    """One table per workload; entries without a rank follow with their reasons."""
    parts: list[RenderableType] = [_group_table(workload, entries) for workload, entries in board.groups.items()]
    parts += [f"unreadable: {escape(str(path))}: {escape(why)}" for path, why in board.unreadable.items()]
    return Group(*parts) if parts else "no records"


def record_view(record: Record) -> RenderableType:
    """Plan, final table and where it was measured."""
    result = record.result
    candidate = result.candidate.slack if result.candidate is not None else None
    facts = [
        f"trial {result.trial_id}, created {result.created}, RecArena {result.recarena_version}, "
        f"source {result.source_sha256[:12]}, commit {git_text(result)}",
        f"hardware: {result.hardware_class}",
        f"data: {result.dataset.rows:,} rows, {result.dataset.label_rate:.4f} clicked, "
        f"fingerprint {result.dataset.fingerprint[:12]}; weights {result.weights_sha256[:12]}",
        f"record: {record.path}",
    ]
    if result.peer is not None:
        facts.insert(3, peer_text(result.peer))
    return Group(plan_table(result.plan, candidate, result.baseline.slack), result_table(result), *map(escape, facts))


def ranks(entries: Sequence[Entry]) -> Iterator[tuple[str, Entry]]:
    """Each entry with its rank, a dash for those that have none. A peer stands where its throughput puts it and takes
    no place from others."""
    place = 0
    for entry in entries:
        if entry.unranked:
            yield DASH, entry
        elif entry.result.is_peer:
            yield PEER, entry
        else:
            place += 1
            yield str(place), entry


def peer_text(peer: PeerResult) -> str:
    """Who the peer is, on which weights, and what it was told or chose."""
    trained = ", ".join(f"{name.replace('_', ' ')} {value:.5g}" for name, value in sorted(peer.trained.items()))
    weights = f"weights of its own ({trained})" if peer.weights == "own" else "our weights"
    told = "; ".join(filter(None, (", ".join(f"{k}={v}" for k, v in peer.options.items()), peer.built.get("summary"))))
    return f"peer ({peer.side}): {peer.title}, {weights}" + (f"; {told}" if told else "")


def board_verdict(result: Result) -> str:
    """Faster or not; nothing of what is void."""
    ratio, bounds, _ = result.speedup
    return DASH if result.void or result.ratio is None else ratio_verdict(ratio, bounds)


def git_text(result: Result) -> str:
    """Short commit, with a plus where the work tree differed from it."""
    if result.git.sha is None:
        return "none"
    return result.git.sha[:10] + ("+" if result.git.dirty else "")


def _group_table(workload: Workload, entries: Sequence[Entry]) -> Table:
    table = Table(title=escape(workload.title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    training = workload.scope == "train"
    for heading, justify in (_TRAINING_COLUMNS if training else _COLUMNS).items():
        table.add_column(heading, justify=justify, overflow="fold")
    for rank, entry in ranks(entries):
        table.add_row(*(_training_row if training else _row)(rank, entry))
    return table


def _row(rank: str, entry: Entry) -> list[str]:
    result, side, ratio = entry.result, entry.result.measured, entry.result.ratio
    return [
        rank,
        escape(plan_text(result)),
        with_interval(side.lbt_qps, side.lbt_ci),
        DASH if ratio is None else with_interval(ratio.lbt, ratio.lbt_ci),
        board_verdict(result),
        number(side.latency_ms.p99),
        number(side.auc, 5),
        DASH if result.gate is None else result.gate.verdict,
        escape(result.trial_id),
        escape("; ".join(entry.unranked)),
    ]


def _training_row(rank: str, entry: Entry) -> list[str]:
    result, side = entry.result, entry.result.measured.train
    ratio, bounds, _ = result.speedup
    return [
        rank,
        escape(plan_text(result)),
        number(side.samples_per_s if side else None),
        with_interval(ratio, bounds),
        board_verdict(result),
        number(side.input_rows_per_s if side else None),
        number(side.compute_samples_per_s if side else None),
        DASH if result.gate is None else result.gate.verdict,
        escape(result.trial_id),
        escape("; ".join(entry.unranked)),
    ]
