"""The gate of a training (R6): parameters of both sides after the same steps. Arrays to rows, and rows to a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from harness.estimate.parity import FAR, FEWEST, TensorParity, tensor_parity, worst
from harness.record.result import GateResult, ParityResult
from zoo.checkpoint import load_weights

PARITY_STEPS = 2
"""After one more, a step of the other sign in one element of one row has spread to every tensor."""
REORDERINGS = 3
SHOWN = 3
Arrays = Mapping[str, npt.NDArray[Any]]


def parity_rows(
    stage: str,
    steps: int,
    start: Path,
    baseline: Path,
    candidate: Path,
    reordered: Sequence[Path] = (),
    burst: tuple[int, int] = (-1, -1),
) -> list[TensorParity]:
    """Every tensor that moved; burst: quad and half. Raises ValueError where the files hold other tensors."""
    first, own, other, *more = (load_weights(path) for path in (start, baseline, candidate, *reordered))
    for arrays in (own, other, *more):
        if {name: array.shape for name, array in arrays.items()} != {
            name: array.shape for name, array in first.items()
        }:
            raise ValueError("the sides have other parameters than the start: a plug-in must keep names and shapes")
    rows = (
        tensor_parity(stage, name, steps, first[name], own[name], other[name], [arrays[name] for arrays in more], burst)
        for name in sorted(first)
    )
    return [row for row in rows if row is not None]


def training_gate(rows: Sequence[TensorParity], beside: Sequence[str] = ()) -> GateResult:
    """Verdict of the gate, and of the bursts that were compared. ``beside``: sentences about work beside the clock.
    ValueError without rows of the gate."""
    gate = _of_gate(rows)
    found = worst(gate)
    if found is None:
        raise ValueError("no parameter moved: there is nothing to compare")
    apart = [*_apart(rows), *beside]
    reasons = [*first_steps_off(rows), *apart]
    return GateResult(
        verdict="fail" if reasons else "pass",
        auc_delta=None,
        auc_delta_ci=None,
        margin=0.0,
        logloss_delta_ci=None,
        pcoc_ratio=None,
        timed_answers="fail" if apart else "pass",
        reasons=tuple(reasons),
        parity=ParityResult(
            steps=found.steps,
            tensors=len(gate),
            elements=sum(row.elements for row in gate),
            compared=sum(row.compared for row in gate),
            worst=found.tensor,
            share=found.used,
            deviation=found.p50,
            tolerance=found.tolerance,
        ),
    )


def bursts_apart(rows: Sequence[TensorParity]) -> list[tuple[int, int]]:
    """(quad, half) of the compared bursts in which some tensor is not as close to the baseline's as after the first
    steps. Which of them rounding explains, the plain loop in other orders over the same bursts says."""
    judged = _judged(rows)
    return sorted({(row.quad, row.half) for row in judged if row.stage == "timed" and not row.used_beside(()) <= 1.0})


def most_are_close(rows: Sequence[TensorParity]) -> bool:
    """Whether every tensor is close to the baseline's in the middle one of the bursts, by the other orders so far."""
    return not _middle_ones_off(_judged(rows))


def _judged(rows: Sequence[TensorParity]) -> list[TensorParity]:
    """Those of tensors that are somebody's, and of more than a handful of elements."""
    nobodys = {row.tensor for row in rows if row.stage == "gate" and not row.compared}
    return [row for row in rows if row.elements >= FEWEST and row.tensor not in nobodys]


def _apart(rows: Sequence[TensorParity]) -> list[str]:
    """One sentence per tensor that is not close to the baseline's in the middle one of the bursts, and per quad in
    which one is far off; the worst first."""
    judged = _judged(rows)
    said = [
        f"{row.tensor} is in most bursts {row.p50:.2g} of its movement off in the median, {row.steps} steps after a "
        f"common start: {used:.3g} times what is allowed"
        for used, row in _middle_ones_off(judged)[:SHOWN]
    ]
    far = sorted((row for row in judged if row.stage == "timed" and not row.p50 <= FAR), key=lambda row: -row.p50)
    quads = {row.quad: row for row in reversed(far)}  # of each the worst one
    return said + [
        f"quad {quad}: {row.tensor} is {row.p50:.2g} of its movement off in the median, {row.steps} steps after a "
        f"common start, and by rounding never more than {FAR:g}: steps were left out, or taken otherwise"
        for quad, row in sorted(quads.items(), key=lambda item: -item[1].p50)[:SHOWN]
    ]


def _middle_ones_off(judged: Sequence[TensorParity]) -> list[tuple[float, TensorParity]]:
    """Of each tensor the burst in the middle, by the part of its tolerance that it takes; where that is too much."""
    orders: dict[tuple[str, int, int], list[TensorParity]] = {}
    bursts: dict[str, list[tuple[float, TensorParity]]] = {}
    for row in judged:
        if row.stage == "reordered":
            orders.setdefault((row.tensor, row.quad, row.half), []).append(row)
    for row in judged:
        if row.stage == "timed":
            used = row.used_beside(orders.get((row.tensor, row.quad, row.half), ()))
            bursts.setdefault(row.tensor, []).append((used, row))
    middle = [sorted(found, key=lambda pair: pair[0])[(len(found) - 1) // 2] for found in bursts.values()]
    return sorted((pair for pair in middle if not pair[0] <= 1.0), key=lambda pair: -pair[0])


def _of_gate(rows: Sequence[TensorParity]) -> list[TensorParity]:
    return [row for row in rows if row.stage == "gate"]


def first_steps_off(rows: Sequence[TensorParity]) -> list[str]:
    """One sentence per tensor that is too far off after the first steps, the worst ones first, and how many more."""
    beyond = sorted((row for row in _of_gate(rows) if not row.used <= 1.0), key=lambda row: -row.used)
    said = [
        f"{row.tensor} after {row.steps} steps: {row.p50:.2g} of its movement off in the median (allowed "
        f"{row.tolerance:.2g}), {row.p99:.2g} at the 99th percentile, {row.tail:.2%} of {row.compared} elements far off"
        for row in beyond[:SHOWN]
    ]
    return said + ([f"and {len(beyond) - SHOWN} more tensors"] if len(beyond) > SHOWN else [])
