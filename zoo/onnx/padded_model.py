"""A reference model, written so that a whole-graph exporter or compiler can follow it: the stock form of ``opt=[]``."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from zoo.layers.tensors import RawTensors, SideTensors
from zoo.models.ctr_model import CtrModel
from zoo.onnx.padded_features import PaddedFeatures, PaddedTables, PaddedWideTables
from zoo.onnx.recurrences import OperatorGru, ScanAugru


class PaddedModel(nn.Module):
    """Scores [N] from the arguments of ``zoo.onnx.inputs``; any number of users, samples and steps."""

    def __init__(
        self, reference: CtrModel, *, rows_given: bool = False, compiled: bool = False, expand_first: bool = True
    ) -> None:
        """The blocks that are rewritten are copies of those of ``reference`` and share its parameters (but for the wide
        part's, which lie otherwise).

        rows_given, expand_first: see ``PaddedFeatures``. compiled: for a code generator in place of a runtime of
        operators: columns are engineered one by one, which it joins itself, and the recurrences are the reference's,
        which it unrolls.
        """
        super().__init__()
        self.model = copy.copy(reference)
        self.model._modules = dict(reference._modules)
        self.model.features = PaddedFeatures(reference.features.schema, rows_given, compiled, expand_first)
        self.model.embedding = _with_weights(PaddedTables, reference.embedding)
        if hasattr(reference, "wide"):
            self.model.wide = PaddedWideTables(reference.wide)
        if not compiled and hasattr(reference, "augru"):
            self.model.gru = _with_weights(OperatorGru, reference.gru)
            self.model.augru = _with_weights(ScanAugru, reference.augru)
        self.model.expand_first = False  # the features block copies the user's columns itself

    def forward(
        self,
        user_dense: Tensor,
        user_ids: Tensor,
        user_bag_values: Tensor,
        user_bag_offsets: Tensor,
        item_dense: Tensor,
        item_ids: Tensor,
        item_bag_values: Tensor,
        item_bag_offsets: Tensor,
        history: Tensor,
        history_lengths: Tensor,
        user_of: Tensor,
    ) -> Tensor:
        """Click probabilities [N]."""
        user = SideTensors(user_dense, user_ids, user_bag_values, user_bag_offsets)
        item = SideTensors(item_dense, item_ids, item_bag_values, item_bag_offsets)
        return self.model.score(RawTensors(user, item, history, history_lengths, user_of))


def _with_weights(kind: type[Any], reference: nn.Module) -> Any:
    """The reference block with the methods of ``kind``, a subclass of its own class that adds no state."""
    made = copy.copy(reference)
    made.__class__ = kind
    return made
