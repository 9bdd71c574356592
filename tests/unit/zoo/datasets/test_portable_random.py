"""The portable generator against whole-number Python and the laws that its docstrings promise."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zoo.datasets.portable_random import Stream, log2_floor_linear, mix64, noise, pick, raw_id, zipf_cdf

MASK = 2**64 - 1


def reference_mix(value: int, salt: int) -> int:
    """splitmix64's finaliser in whole numbers of any size."""
    mixed = (value + salt * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
    return mixed ^ (mixed >> 31)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_mix64_is_splitmix(value: int, salt: int) -> None:
    index = np.array([value], np.int64)
    expected = reference_mix(value, salt)
    assert int(mix64(index, salt)[0]) == expected
    assert int(raw_id(index, salt)[0]) == expected >> 1
    pieces = sum((expected >> shift) & 255 for shift in (0, 16, 32, 48))
    assert float(noise(index, salt)[0]) == (pieces - 510) / 128 * 0.875


def test_raw_words_of_pcg64_are_the_published_stream() -> None:
    # First output of numpy's PCG64 seeded by SeedSequence(1): numpy guarantees both across versions.
    assert Stream(1).raw(2).tolist() == np.random.PCG64(1).random_raw(2).tolist()
    assert Stream(1, 0).raw(1)[0] != Stream(1, 1).raw(1)[0]


def test_uniform_draws_have_the_moments_of_the_uniform_law() -> None:
    draws = Stream(3).uniform(200_000)
    assert draws.min() >= 0.0 and draws.max() < 1.0
    assert abs(draws.mean() - 0.5) < 5 * (1 / 12 / 200_000) ** 0.5
    assert abs(draws.var() - 1 / 12) < 5 * (1 / 180 / 200_000) ** 0.5


def test_below_reaches_every_number_equally_often() -> None:
    counts = np.bincount(Stream(4).below(7, 70_000), minlength=7)
    assert len(counts) == 7
    assert np.abs(counts - 10_000).max() < 5 * (10_000 * 6 / 7) ** 0.5


def test_noise_has_unit_spread() -> None:
    weights = noise(np.arange(100_000, dtype=np.int64), 9)
    # Irwin-Hall of four bytes: variance 4 (256**2 - 1) / 12 in units of (0.875 / 128)**2.
    expected = (4 * (256**2 - 1) / 12) ** 0.5 * 0.875 / 128
    assert abs(weights.mean()) < 5 * expected / 100_000**0.5
    assert abs(weights.std() - expected) < 0.01
    assert abs(expected - 1.0) < 0.02


def test_zipf_ranks_appear_by_their_share() -> None:
    draws = pick(zipf_cdf(50), Stream(5).uniform(300_000))
    share = 1.0 / (np.arange(1, 51) + 3.0)
    share /= share.sum()
    observed = np.bincount(draws, minlength=50) / 300_000
    assert np.all(np.abs(observed - share) < 5 * np.sqrt(share * (1 - share) / 300_000))


@given(st.integers(0, 2**40))
def test_linear_logarithm_is_exact_at_powers_and_close_between(value: int) -> None:
    got = float(log2_floor_linear(np.array([float(value)]))[0])
    whole = (value + 1).bit_length() - 1
    straight = whole + (value + 1) / 2**whole - 1
    assert abs(got - straight) <= 2**-9
    assert -0.09 < got - np.log2(value + 1.0) < 0.005
    assert got * 256 == round(got * 256)


def test_permutation_holds_each_number_once() -> None:
    assert sorted(Stream(6).permutation(1_000).tolist()) == list(range(1_000))
