"""The features of a training batch in one native call, those of its sampled behaviours in another; U = N."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from optimizations.fusion.torch_features import FusedFeatures
from optimizations.kernels.loader import load_kernels


class TrainedFeatures(FusedFeatures):
    """``FeatureTransform`` of the schema of ``reference``."""

    def __init__(self, reference: nn.Module) -> None:
        super().__init__(reference.schema)  # type: ignore[arg-type]

    def history_rows(self, raw: Tensor) -> Tensor:
        """Table rows of raw behaviours [T, H]. Raises IndexError for one outside the table of a field that is not
        hashed."""
        raw = raw.contiguous()
        rows = torch.empty_like(raw)
        outside = load_kernels().recarena_features_behaviours(
            self._handle.pointer, raw.data_ptr(), len(raw), rows.data_ptr()
        )
        if outside >= 0:
            field = len(self.fields) - self.history_width + outside % self.history_width
            raise self._refused(field, int(raw.flatten()[outside]))
        return rows

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainedFeatures:
        """Itself: it learns nothing, and each thread has its own place for the arguments of a call."""
        return self
