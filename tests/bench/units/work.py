"""Operations and bytes that a unit cannot do without: what its time is held against. Pure functions.

A multiplication and an addition are one operation each. Counted are products of matrices in the form with the fewest
operations, and memory that every implementation has to read or write once. Not counted are elementary functions,
biases and whatever an implementation does on top, so a share of the roofline is a share of useful work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

FLOAT_BYTES = 4
BYTES_OF = {"fp32": 4, "bf16": 2, "int8": 1}
"""Bytes of a weight or of a table's number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """flops: operations. sequential_bytes: read and written in order. random_bytes: rows of ``row_bytes`` anywhere."""

    flops: int = 0
    sequential_bytes: int = 0
    random_bytes: int = 0
    row_bytes: int = 0


def fc_work(rows: int, inputs: int, outputs: int, dtype: str) -> Work:
    """x [rows, inputs] W^T, weights in ``dtype``, everything else in fp32."""
    weights, values = inputs * outputs, rows * (inputs + outputs)
    return Work(
        flops=2 * rows * inputs * outputs,
        sequential_bytes=weights * BYTES_OF[dtype] + values * FLOAT_BYTES,
    )


def interaction_work(samples: int, vectors: int, width: int) -> Work:
    """The strict lower triangle of A A^T, A [vectors, width] read once per sample."""
    pairs = vectors * (vectors - 1) // 2
    return Work(
        flops=2 * samples * pairs * width,
        sequential_bytes=samples * (vectors * width + pairs) * FLOAT_BYTES,
    )


def recurrent_work(sequences: int, steps: int, inputs: int, hidden: int, dtype: str, all_states: bool) -> Work:
    """A GRU or AUGRU: three gates from inputs and state at each step. ``all_states``: every state is written.

    The AUGRU (``all_states=False``) reads a score per step and writes its last state only.
    """
    gates, weights = 3 * hidden, 3 * hidden * (inputs + hidden)
    written = sequences * steps * hidden if all_states else sequences * hidden + sequences * steps
    return Work(
        flops=2 * sequences * steps * gates * (inputs + hidden),
        sequential_bytes=weights * BYTES_OF[dtype] + (sequences * steps * inputs + written) * FLOAT_BYTES,
    )


def attention_work(
    samples: int, steps: int, width: int, units: Sequence[int], dtype: str, projected_from: int | None
) -> Work:
    """One candidate per sample over its own ``steps`` keys [steps, width], rated by ``units`` and a last one.

    The first layer on [q, k, q - k, q * k] is W_q q + (W_k + W_p diag(q)) k: per sample the first product and the
    matrix in brackets (an operation to multiply and one to add per weight), per step one product of ``width``.
    ``projected_from``: inputs of DIEN's projection of the candidate, which rates (a score per step is written); None:
    DIN, which pools the keys by their ratings (``width`` numbers are written).
    """
    first, later = width * units[0], sum(a * b for a, b in pairwise((*units, 1)))
    projection = width * (projected_from or 0)
    pooling = width if projected_from is None else 0
    per_sample, per_step = 2 * first + projection, first + later + pooling
    weights = 3 * first + later + projection
    query, written = (width, width) if projected_from is None else (projected_from, steps)
    return Work(
        flops=2 * samples * (per_sample + steps * per_step),
        sequential_bytes=weights * BYTES_OF[dtype] + samples * (steps * width + query + written) * FLOAT_BYTES,
    )


def lookup_work(lookups: int, width: int, dtype: str) -> Work:
    """Rows of ``width`` numbers, each read once from anywhere; what is written stays in the caches."""
    row = width * BYTES_OF[dtype]
    return Work(random_bytes=lookups * row, row_bytes=row)
