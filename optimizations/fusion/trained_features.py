"""The features of a training batch in one native call; U = N."""

from __future__ import annotations

from typing import Any

from torch import nn

from optimizations.fusion.torch_features import FusedFeatures


class TrainedFeatures(FusedFeatures):
    """``FeatureTransform`` of the schema of ``reference``, whose ``history_rows`` it keeps for sampled behaviours."""

    def __init__(self, reference: nn.Module) -> None:
        super().__init__(reference.schema)  # type: ignore[arg-type]
        self.history_rows = reference.history_rows

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainedFeatures:
        """Itself: it learns nothing, and each thread has its own place for the arguments of a call."""
        return self
