"""Distributions of query sizes (samples per query) over [1, 100], as published probability tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from harness.errors import ConfigurationError

LARGEST = 100
HEAVY_MEDIAN, HEAVY_SIGMA = 22.0, 1.0
MLPERF_SIZES = (100, 100, *(200,) * 12, 300, 300, 400, 500, 600, 700)
MLPERF_LARGEST = 700

Pmf = npt.NDArray[np.float64]


@lru_cache
def pmf(name: str) -> Pmf:
    """Probability of each size: float64 [LARGEST + 1], index = samples, entry 0 is 0. Read-only.

    * "heavy": log-normal, median parameter 22, sigma 1, in unit bins [n - 0.5, n + 0.5), cut to [1, 100].
      Mean 27.1; quantiles .05/.25/.50/.75/.90/.95/.99 = 4/11/20/37/60/75/94; the largest 25 % of queries carry 54 % of
      the samples (the shape of production requests in Gupta et al., DeepRecSys, ISCA 2020, figure 5).
    * "mlperf_dlrm": the 20 equally likely sizes of MLPerf Inference's DLRM-v2 (dist_quantile.txt: 100 to 700, mean
      270), divided by 7 and rounded, so that they lie in [14, 100]. Mean 38.6.
    * "fixed:N": always N. "uniform:LO-HI": LO to HI, equally likely.

    Raises ConfigurationError for another name or a size out of range.
    """
    kind, _, argument = name.partition(":")
    if kind not in DISTRIBUTIONS:
        raise ConfigurationError(
            f"scenario.query_sizes={name!r} is not known: use heavy, mlperf_dlrm, fixed:N or uniform:LO-HI"
        )
    try:
        table = DISTRIBUTIONS[kind](argument)
    except (ValueError, IndexError) as error:
        raise ConfigurationError(
            f"scenario.query_sizes={name!r} cannot be read: use heavy, mlperf_dlrm, fixed:N or uniform:LO-HI with "
            f"whole numbers from 1 to {LARGEST}"
        ) from error
    normalised: Pmf = table / table.sum()
    normalised.flags.writeable = False
    return normalised


def draw(table: Pmf, uniforms: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Sizes [Q] for uniforms [Q] in [0, 1), by inversion."""
    cumulative = np.cumsum(table)
    cumulative[-1] = 1.0
    return np.searchsorted(cumulative, uniforms, side="right").astype(np.int64)


def mean_size(name: str) -> float:
    """Expected samples per query."""
    return float(pmf(name) @ np.arange(LARGEST + 1))


def _heavy(argument: str) -> Pmf:
    _refuse(argument)

    def below(x: float) -> float:
        return 0.5 * (1.0 + math.erf((math.log(x) - math.log(HEAVY_MEDIAN)) / (HEAVY_SIGMA * math.sqrt(2.0))))

    return np.array([0.0] + [below(n + 0.5) - below(n - 0.5) for n in range(1, LARGEST + 1)])


def _mlperf_dlrm(argument: str) -> Pmf:
    _refuse(argument)
    table = np.zeros(LARGEST + 1)
    for size in MLPERF_SIZES:
        table[round(size * LARGEST / MLPERF_LARGEST)] += 1.0
    return table


def _fixed(argument: str) -> Pmf:
    return _uniform(f"{argument}-{argument}")


def _uniform(argument: str) -> Pmf:
    low, high = (int(text) for text in argument.split("-"))
    if not 1 <= low <= high <= LARGEST:
        raise ValueError(argument)
    table = np.zeros(LARGEST + 1)
    table[low : high + 1] = 1.0
    return table


def _refuse(argument: str) -> None:
    if argument:
        raise ValueError(argument)


DISTRIBUTIONS: dict[str, Callable[[str], Pmf]] = {
    "heavy": _heavy,
    "mlperf_dlrm": _mlperf_dlrm,
    "fixed": _fixed,
    "uniform": _uniform,
}
