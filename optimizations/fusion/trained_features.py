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

    def behaviours(self, raw: Tensor, offsets: Tensor) -> Tensor:
        """See ``FeatureTransform.behaviours``. Raises IndexError for a behaviour outside the table of a field that is
        not hashed, ValueError for behaviours of other columns than the schema's."""
        if raw.shape[1] != self.history_width:
            raise ValueError("the behaviours have other columns than the schema that the model was built for")
        library, local = load_kernels(), self._local
        raw, offsets, rows = raw.contiguous(), offsets.contiguous(), len(offsets) - 1
        library.recarena_features_sizes(0, rows, offsets.data_ptr(), offsets.data_ptr(), 0, local.sizes_pointer)
        out = torch.empty((rows, local.sizes[0], self.history_width), dtype=torch.int64)
        pointers = (raw.data_ptr(), offsets.data_ptr(), rows, local.sizes[0], out.data_ptr(), local.fault_pointer)
        if library.recarena_features_behaviours(self._handle.pointer, *pointers):
            raise self._refused(local.fault[0], local.fault[1])
        return out

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainedFeatures:
        """Itself: it learns nothing, and each thread has its own place for the arguments of a call."""
        return self
