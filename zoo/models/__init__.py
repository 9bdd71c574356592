"""The models of the zoo. ``zoo/models/<name>.py`` holds the architecture of model ``<name>`` and its ``build``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from zoo.blueprint import describe
from zoo.configs import ModelConfig
from zoo.schema import Schema

if TYPE_CHECKING:
    from zoo.models.ctr_model import CtrModel


def build_model(config: ModelConfig, schema: Schema) -> CtrModel:
    """The PyTorch reference of ``config`` on ``schema``, freshly initialised from torch's global generator.

    Raises ValueError when the schema lacks what the model needs.
    """
    describe(config, schema)
    model: CtrModel = import_module(f"zoo.models.{config.name}").build(config, schema)
    return model
