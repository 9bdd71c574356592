"""Operations and bytes of a unit, counted by hand and by walking through the arithmetic."""

from __future__ import annotations

import itertools

import pytest

from tests.bench.units.work import (
    Work,
    attention_work,
    fc_work,
    interaction_work,
    lookup_work,
    recurrent_work,
)


@pytest.mark.parametrize(("dtype", "weight_bytes"), [("fp32", 4), ("bf16", 2), ("int8", 1)])
def test_fully_connected(dtype: str, weight_bytes: int) -> None:
    """2 rows, 3 inputs, 5 outputs: 30 multiply-adds, 15 weights, 6 numbers read, 10 written."""
    assert fc_work(2, 3, 5, dtype) == Work(flops=60, sequential_bytes=15 * weight_bytes + 16 * 4)


def test_interaction() -> None:
    """4 vectors of 3 numbers have 6 pairs of 3 multiply-adds; 12 numbers are read and 6 written, for each of 2."""
    assert interaction_work(2, 4, 3) == Work(flops=2 * 2 * 6 * 3, sequential_bytes=2 * (12 + 6) * 4)
    pairs = sum(1 for _ in itertools.combinations(range(27), 2))
    assert interaction_work(1, 27, 16).flops == 2 * 16 * pairs


def test_dien_at_default_sizes_by_hand() -> None:
    """64 users, 50 steps, 36 inputs and units: 3 x 36 gates of 72 inputs are 7,776 multiply-adds a step."""
    gru = recurrent_work(64, 50, 36, 36, "fp32", all_states=True)
    augru = recurrent_work(64, 50, 36, 36, "bf16", all_states=False)
    assert gru.flops == augru.flops == 2 * 64 * 50 * 7_776 == 49_766_400
    assert gru.sequential_bytes == 4 * (7_776 + 64 * 50 * 36 + 64 * 50 * 36)
    assert augru.sequential_bytes == 2 * 7_776 + 4 * (64 * 50 * 36 + 64 * 50 + 64 * 36)


def counted_attention(samples: int, steps: int, width: int, units: tuple[int, ...], source: int | None) -> int:
    """Multiplications and additions of the split form, one loop per product."""
    count = 0
    for _ in range(samples):
        if source is not None:
            count += sum(2 * source for _ in range(width))  # projection of the candidate
        count += sum(2 * width for _ in range(units[0]))  # its product with (W_q + W_d)
        count += sum(2 for _ in range(units[0] * width))  # (W_k - W_d) + W_p diag(q)
        for _ in range(steps):
            count += sum(2 * width for _ in range(units[0]))
            count += sum(2 * a * b for a, b in itertools.pairwise(units)) + 2 * units[-1]
            if source is None:
                count += 2 * width  # weighted sum of the keys
    return count


@pytest.mark.parametrize(
    ("samples", "steps", "width", "units"), [(1, 1, 2, (3,)), (3, 5, 4, (7, 2)), (2, 0, 3, (5, 1))]
)
@pytest.mark.parametrize("source", [None, 6])
def test_attention(samples: int, steps: int, width: int, units: tuple[int, ...], source: int | None) -> None:
    work = attention_work(samples, steps, width, units, "fp32", source)
    assert work.flops == counted_attention(samples, steps, width, units, source)


def test_bytes_of_attention_by_hand() -> None:
    """Width 2, units (3,), 4 steps, 5 samples. First layer 3 x 2 x 3 weights, last one 3.

    DIN reads 8 + 2 numbers a sample and writes 2. DIEN reads 8 + 6, writes 4 scores and has 12 more weights.
    """
    assert attention_work(5, 4, 2, (3,), "fp32", None).sequential_bytes == 4 * 21 + 4 * 5 * 12
    assert attention_work(5, 4, 2, (3,), "bf16", 6).sequential_bytes == 2 * 33 + 4 * 5 * 18


@pytest.mark.parametrize(("dtype", "row"), [("fp32", 72), ("bf16", 36)])
def test_lookups(dtype: str, row: int) -> None:
    assert lookup_work(1664, 18, dtype) == Work(random_bytes=1664 * row, row_bytes=row)
