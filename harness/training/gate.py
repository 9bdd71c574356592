"""The gate of a training (R6): parameters of both sides after the same steps. Arrays to rows, and rows to a verdict."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from harness.estimate.parity import TensorParity, tensor_parity, worst
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
    quad: int = -1,
) -> list[TensorParity]:
    """Every tensor that moved. Raises ValueError where the files do not hold the same tensors."""
    first, own, other, *more = (load_weights(path) for path in (start, baseline, candidate, *reordered))
    for arrays in (own, other, *more):
        if {name: array.shape for name, array in arrays.items()} != {
            name: array.shape for name, array in first.items()
        }:
            raise ValueError("the sides have other parameters than the start: a plug-in must keep names and shapes")
    rows = (
        tensor_parity(stage, name, steps, first[name], own[name], other[name], [arrays[name] for arrays in more], quad)
        for name in sorted(first)
    )
    return [row for row in rows if row is not None]


def training_gate(rows: Sequence[TensorParity], beside: Sequence[str] = ()) -> GateResult:
    """Verdict of the gate, and of the bursts that were compared. ``beside``: sentences about work beside the clock.
    ValueError without rows of the gate."""
    gate = [row for row in rows if row.stage == "gate"]
    found = worst(gate)
    if found is None:
        raise ValueError("no parameter moved: there is nothing to compare")
    apart = [*_apart(rows, {row.tensor for row in gate if not row.compared}), *beside]
    reasons = [*_reasons(gate), *apart]
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


def burst_shares(rows: Sequence[TensorParity], nobodys: Collection[str] = ()) -> list[tuple[float, TensorParity]]:
    """Which part of its tolerance each tensor of each compared burst takes, but for those that are ``nobodys``."""
    reordered: dict[str, list[TensorParity]] = {}
    for row in rows:
        if row.stage == "reordered":
            reordered.setdefault(row.tensor, []).append(row)
    timed = [row for row in rows if row.stage == "timed" and row.tensor not in nobodys]
    return [(row.used_beside(reordered.get(row.tensor, ())), row) for row in timed]


def _apart(rows: Sequence[TensorParity], nobodys: Collection[str]) -> list[str]:
    """One sentence per burst that did not end where the baseline's did, the worst ones first."""
    worst_of: dict[int, tuple[float, TensorParity]] = {}
    for used, row in burst_shares(rows, nobodys):
        if not used <= max(1.0, worst_of.get(row.quad, (0.0, row))[0]):
            worst_of[row.quad] = (used, row)
    found = sorted(worst_of.values(), key=lambda each: -each[0])
    said = [
        f"quad {row.quad}: {row.tensor} is {row.p50:.2g} of its movement off in the median {row.steps} steps after a "
        f"common start, {used:.3g} times what is allowed: steps were left out, or taken otherwise"
        for used, row in found[:SHOWN]
    ]
    return said + ([f"and {len(found) - SHOWN} more quads"] if len(found) > SHOWN else [])


def _reasons(rows: Sequence[TensorParity]) -> list[str]:
    """One sentence per tensor that is too far off, the worst ones first, and how many more there are."""
    beyond = sorted((row for row in rows if not row.used <= 1.0), key=lambda row: -row.used)
    said = [
        f"{row.tensor} after {row.steps} steps: {row.p50:.2g} of its movement off in the median (allowed "
        f"{row.tolerance:.2g}), {row.p99:.2g} at the 99th percentile, {row.tail:.2%} of {row.compared} elements far off"
        for row in beyond[:SHOWN]
    ]
    return said + ([f"and {len(beyond) - SHOWN} more tensors"] if len(beyond) > SHOWN else [])
