"""Sizes of the models: frozen dataclasses without a framework, so that plans and ``--help`` stay light.

Defaults are those of the DeepRec modelzoo (modelzoo/{WDL,DIN,DIEN,DLRM}/train.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WdlConfig:
    """Wide & Deep (Cheng et al., 2016). ``large_fields`` have ``large_dim`` columns; a schema may lack some of them."""

    embedding_dim: int = 64
    large_dim: int = 128
    large_fields: tuple[str, ...] = ("C3", "C4", "C10", "C12", "C16", "C21", "C24", "C26")
    deep_units: tuple[int, ...] = (1024, 512, 256)
    name: str = "wdl"


@dataclass(frozen=True, slots=True, kw_only=True)
class DinConfig:
    """Deep Interest Network (Zhou et al., 2018): Dice, local activation unit, weighted sum pooling."""

    embedding_dim: int = 18
    attention_units: tuple[int, ...] = (80, 40)
    top_units: tuple[int, ...] = (200, 80)
    name: str = "din"


@dataclass(frozen=True, slots=True, kw_only=True)
class DienConfig:
    """Deep Interest Evolution Network (Zhou et al., 2019): GRU, auxiliary loss, attention, AUGRU."""

    embedding_dim: int = 18
    hidden_units: int = 36
    attention_units: tuple[int, ...] = (80, 40)
    auxiliary_units: tuple[int, ...] = (100, 50)
    auxiliary_weight: float = 1.0
    top_units: tuple[int, ...] = (200, 80)
    name: str = "dien"


@dataclass(frozen=True, slots=True, kw_only=True)
class DlrmConfig:
    """DLRM (Naumov et al., 2019). The bottom MLP ends at ``embedding_dim``, so that its output can be dotted."""

    embedding_dim: int = 16
    bottom_units: tuple[int, ...] = (512, 256, 64, 16)
    top_units: tuple[int, ...] = (512, 256)
    name: str = "dlrm"


ModelConfig = WdlConfig | DinConfig | DienConfig | DlrmConfig

MODELS: dict[str, type[WdlConfig] | type[DinConfig] | type[DienConfig] | type[DlrmConfig]] = {
    "wdl": WdlConfig,
    "din": DinConfig,
    "dien": DienConfig,
    "dlrm": DlrmConfig,
}
"""The four models. The architecture of each lives in ``zoo/models/<name>.py``."""

NEEDS_HISTORY = frozenset({"din", "dien"})
"""Models that cannot be built on a schema without a history."""


def model_config(name: str, sizes: Mapping[str, Any]) -> ModelConfig:
    """The config of model ``name`` with ``sizes`` over its defaults; lists become tuples.

    Raises ValueError for an unknown model or size.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; there are {', '.join(MODELS)}")
    kind = MODELS[name]
    known = {field.name for field in dataclasses.fields(kind)} - {"name"}
    if unknown := sorted(set(sizes) - known - {"name"}):
        raise ValueError(f"model {name!r} has no size {unknown[0]!r}; it has {', '.join(sorted(known))}")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in sizes.items() if key != "name"
    }
    return kind(**values)
