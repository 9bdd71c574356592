"""Random numbers that are the same bits on every machine and under every numpy.

Only what is guaranteed is used: the raw 64-bit stream of PCG64 seeded by SeedSequence (numpy keeps both stable across
versions, the methods of ``Generator`` it does not), integer arithmetic, and the float operations that IEEE 754 rounds
exactly (+, -, *, /, sqrt). Logarithms and exponentials, whose last bit differs between vector units, are not used.
Effects are multiples of 2**-8 or 2**-10 of small size, so that their sums are exact in float64 in any order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Uint64 = npt.NDArray[np.uint64]
Float64 = npt.NDArray[np.float64]


class Stream:
    """One independent stream of raw draws, named by a seed and a path of small whole numbers."""

    def __init__(self, seed: int, *path: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=path))

    def raw(self, count: int) -> Uint64:
        """[count] 64-bit words."""
        return self._bits.random_raw(count)

    def uniform(self, count: int) -> Float64:
        """[count] multiples of 2**-53 in [0, 1)."""
        return (self.raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def below(self, bound: int | Int64, count: int) -> Int64:
        """[count] whole numbers in [0, bound); ``bound`` (at most 2**31) may be an array [count]."""
        return np.floor(self.uniform(count) * np.asarray(bound, np.float64)).astype(np.int64)

    def happens(self, chance: float, count: int) -> npt.NDArray[np.bool_]:
        """[count] independent events of probability ``chance``."""
        return self.uniform(count) < chance

    def permutation(self, count: int) -> Int64:
        """A random order of range(count)."""
        return np.argsort(self.raw(count), kind="stable").astype(np.int64)


def mix64(values: Int64, salt: int) -> Uint64:
    """splitmix64's finaliser (Steele et al., 2014, "Fast splittable pseudorandom number generators", figure 5)."""
    mixed = values.astype(np.uint64) + np.uint64((salt * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def raw_id(index: Int64, salt: int) -> Int64:
    """A positive 63-bit id for each index: what an id looks like in a log, one to one with overwhelming odds."""
    return (mix64(index, salt) >> np.uint64(1)).astype(np.int64)


def noise(index: Int64, salt: int) -> Float64:
    """A fixed, nearly normal weight per (index, salt): mean 0, standard deviation 1, a multiple of 2**-10.

    The sum of four bytes of a hash (Irwin-Hall), centred and scaled; exact, and no table is stored.
    """
    mixed = mix64(index, salt)
    total = np.zeros(index.shape, np.int64)
    for shift in (0, 16, 32, 48):
        total += ((mixed >> np.uint64(shift)) & np.uint64(255)).astype(np.int64)
    return (total - 510).astype(np.float64) * 2.0**-7 * 0.875


def zipf_cdf(count: int, offset: float = 3.0) -> Float64:
    """Cumulative popularity of ``count`` ranks, share of rank k proportional to 1 / (k + offset) (Zipf-Mandelbrot)."""
    total = np.cumsum(1.0 / (np.arange(1, count + 1) + offset))
    share: Float64 = total / total[-1]
    return share


def pick(cdf: Float64, uniform: Float64) -> Int64:
    """The rank that each uniform draw falls on."""
    return np.minimum(np.searchsorted(cdf, uniform, side="right"), len(cdf) - 1).astype(np.int64)


def log2_floor_linear(values: Float64) -> Float64:
    """log2(1 + x) with straight lines between powers of two (x >= 0), rounded to 2**-8: exact on every machine.

    Within 0.087 of the true logarithm.
    """
    mantissa, exponent = np.frexp(1.0 + values)
    return np.rint((2.0 * mantissa - 1.0 + exponent - 1.0) * 256.0) / 256.0
