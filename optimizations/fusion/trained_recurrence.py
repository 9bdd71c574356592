"""GRU and AUGRU in training: one native call forward and one backward each."""

from __future__ import annotations

from torch import Tensor

from optimizations.fusion.native_recurrence import NativeRecurrence
from zoo.layers.augru import Augru, Gru
from zoo.layers.packed_recurrence import PackedAugru, PackedGru


class TrainedGru(PackedGru):
    """Same signature and parameters as ``PackedGru``."""

    def __init__(self, reference: Gru) -> None:
        super().__init__(reference)
        self._rooms: list[Tensor] = []

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """See ``zoo.layers.augru.Gru.forward``."""
        rnn = self.rnn
        weights = (rnn.weight_ih_l0, rnn.bias_ih_l0, rnn.weight_hh_l0, rnn.bias_hh_l0)
        states: Tensor = NativeRecurrence.apply(x, None, lengths, False, self._rooms, *weights)
        return states


class TrainedAugru(PackedAugru):
    """Same signature and parameters as ``PackedAugru``."""

    def __init__(self, reference: Augru) -> None:
        super().__init__(reference)
        self._rooms: list[Tensor] = []

    def forward(self, x: Tensor, scores: Tensor, lengths: Tensor, user_of: Tensor | None) -> Tensor:
        """See ``zoo.layers.augru.Augru.forward``."""
        if user_of is not None:
            x, lengths = x.index_select(0, user_of), lengths.index_select(0, user_of)
        weights = (self.weight_ih, self.bias_ih, self.weight_hh, self.bias_hh)
        state: Tensor = NativeRecurrence.apply(x, scores, lengths, True, self._rooms, *weights)
        return state
