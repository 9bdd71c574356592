"""Mean and spread of dense columns after the logarithmic transform of ``zoo.schema.DenseField``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DECIMALS = 4
"""Statistics are rounded, so that the last bit of a machine's logarithm does not change the schema."""


def log_statistics(dense: npt.NDArray[np.float32]) -> tuple[list[float], list[float]]:
    """(means, standard deviations) of sign(x) log(1 + |x|) for each column of dense [R, D]; NaN is left out.

    A column without a value, or with one value only, gets standard deviation 1.
    """
    means, spreads = [], []
    for column in range(dense.shape[1]):
        values = dense[:, column][~np.isnan(dense[:, column])].astype(np.float64)
        logs = np.sign(values) * np.log1p(np.abs(values))
        means.append(round(float(logs.mean()), DECIMALS) if len(logs) else 0.0)
        spreads.append((round(float(logs.std()), DECIMALS) if len(logs) else 0.0) or 1.0)
    return means, spreads
