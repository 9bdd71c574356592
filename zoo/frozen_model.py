"""The PyTorch reference with weights that are there already: to predict with, and with no tables of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode

from zoo.checkpoint import Weights
from zoo.configs import ModelConfig
from zoo.models import build_model
from zoo.models.ctr_model import CtrModel
from zoo.schema import Schema
from zoo.training import load_into


def frozen_model(config: ModelConfig, schema: Schema, weights: Weights) -> CtrModel:
    """The model of ``config`` on ``schema`` with ``weights``, in evaluation mode, without gradients, on the CPU.

    Tables of a mapped file stay there (``zoo.training.load_into``). Raises ValueError for weights that do not fit.
    """
    with _Undrawn():
        model = build_model(config, schema)
    load_into(model, weights)
    return model.eval().requires_grad_(False)


class _Undrawn(TorchFunctionMode):
    """Normal initial values are not drawn. Those of the tables would be the only ones to touch all of their memory."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") == "normal_":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
