"""Experiments that are sweeps: what ``hydra.sweeper.params`` of their file asks for, as command-line overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

GROUP = "experiment"
NOT_AGAIN = "hydra.sweeper.params=null"
"""For Hydra, which would multiply by the same parameters once more."""


def with_sweep(overrides: Sequence[str], folder: Path) -> list[str]:
    """``overrides``, and behind them what the experiment among them sweeps, but for keys that they give themselves.

    ``folder``: of the experiments' files. An experiment that there is not is left for others to tell.
    """
    given = dict(override.partition("=")[::2] for override in overrides)
    file = folder / f"{given.get(GROUP, '')}.yaml"
    swept = _swept(file) if file.is_file() else {}
    return [*overrides, *(f"{key}={values}" for key, values in swept.items() if key not in given)]


def _swept(file: Path) -> Mapping[str, Any]:
    found = OmegaConf.select(OmegaConf.load(file), "hydra.sweeper.params")
    return {} if found is None else {str(key): value for key, value in found.items()}
