"""The gate of a training (R6): parameters of both sides after the same steps. Arrays to rows, and rows to a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from harness.estimate.parity import TIMED_SHARED, TensorParity, shared_by_block, tensor_parity, worst
from harness.record.result import GateResult, ParityResult
from zoo.checkpoint import load_weights

PARITY_STEPS = 2
"""After one more, a step of the other sign in one element of one row has spread to every tensor."""
REORDERINGS = 3
SHOWN = 3
Arrays = Mapping[str, npt.NDArray[Any]]


def parity_rows(
    stage: str, steps: int, start: Path, baseline: Path, candidate: Path, reordered: Sequence[Path] = ()
) -> list[TensorParity]:
    """Every tensor that moved. Raises ValueError where the files do not hold the same tensors."""
    first, own, other, *more = (load_weights(path) for path in (start, baseline, candidate, *reordered))
    for arrays in (own, other, *more):
        if {name: array.shape for name, array in arrays.items()} != {
            name: array.shape for name, array in first.items()
        }:
            raise ValueError("the sides have other parameters than the start: a plug-in must keep names and shapes")
    rows = (
        tensor_parity(stage, name, steps, first[name], own[name], other[name], [arrays[name] for arrays in more])
        for name in sorted(first)
    )
    return [row for row in rows if row is not None]


def training_gate(rows: Sequence[TensorParity]) -> GateResult:
    """Verdict of the gate, and of the parameters after the last timed step. ValueError without rows of the gate."""
    gate, timed = ([row for row in rows if row.stage == stage] for stage in ("gate", "timed"))
    found = worst(gate)
    if found is None:
        raise ValueError("no parameter moved: there is nothing to compare")
    nobodys = {row.tensor for row in gate if not row.compared}
    lost = _lost([row for row in timed if row.tensor not in nobodys])
    reasons = [*_reasons(gate), *lost]
    return GateResult(
        verdict="fail" if reasons else "pass",
        auc_delta=None,
        auc_delta_ci=None,
        margin=0.0,
        logloss_delta_ci=None,
        pcoc_ratio=None,
        timed_answers="fail" if lost else "pass",
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


def _lost(rows: Sequence[TensorParity]) -> list[str]:
    """One sentence per block that did not go the baseline's way until the last step."""
    found = shared_by_block(rows)
    return [
        f"{block} after {rows[0].steps} steps: its movement shares {share:.2f} with the baseline's (at least "
        f"{TIMED_SHARED:g}): it was trained otherwise, or no more"
        for block, share in sorted(found.items(), key=lambda item: item[1])
        if share < TIMED_SHARED
    ][:SHOWN]


def _reasons(rows: Sequence[TensorParity]) -> list[str]:
    """One sentence per tensor that is too far off, the worst ones first, and how many more there are."""
    beyond = sorted((row for row in rows if not row.used <= 1.0), key=lambda row: -row.used)
    said = [
        f"{row.tensor} after {row.steps} steps: {row.p50:.2g} of its movement off in the median (allowed "
        f"{row.tolerance:.2g}), {row.p99:.2g} at the 99th percentile, {row.tail:.2%} of {row.compared} elements far off"
        for row in beyond[:SHOWN]
    ]
    return said + ([f"and {len(beyond) - SHOWN} more tensors"] if len(beyond) > SHOWN else [])
