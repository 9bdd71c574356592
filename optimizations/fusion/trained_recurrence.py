"""GRU and AUGRU in training: the packed layers of the fit loop with native kernels for all that is not a product."""

from __future__ import annotations

from torch import Tensor

from optimizations.fusion.native_evolution import NativeEvolution
from optimizations.fusion.packed_linear import PackedLinear
from optimizations.fusion.packed_rows import PutRows, TakeRows, places
from zoo.layers.packed_recurrence import PackedAugru, PackedGru
from zoo.layers.ragged import not_empty


class TrainedGru(PackedGru):
    """Same signature and parameters as ``PackedGru``."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """See ``zoo.layers.augru.Gru.forward``."""
        users, steps, _ = x.shape
        place, running, _ = places(lengths, steps)
        rnn, width = self.rnn, self.rnn.hidden_size
        if not running:
            return x.new_zeros(users, steps, width)
        # The update gate is turned round, as in PackedGru, in the weights instead of in all of the steps.
        turn = x.new_ones(3 * width)
        turn[width : 2 * width] = -1
        columns = turn.unsqueeze(1)
        gates = PackedLinear.apply(x.flatten(0, 1), place, rnn.weight_ih_l0 * columns, rnn.bias_ih_l0 * turn)
        weight, bias = rnn.weight_hh_l0 * columns, rnn.bias_hh_l0 * turn
        states = NativeEvolution.apply(gates, gates.new_ones(len(gates), 1), weight, bias, running)
        return PutRows.apply(states, place, users * steps).view(users, steps, width)


class TrainedAugru(PackedAugru):
    """Same signature and parameters as ``PackedAugru``."""

    def forward(self, x: Tensor, scores: Tensor, lengths: Tensor, user_of: Tensor | None) -> Tensor:
        """See ``zoo.layers.augru.Augru.forward``."""
        if user_of is not None:
            return super().forward(x, scores, lengths, user_of)
        steps, width = x.shape[1], self.weight_hh.shape[1]
        place, running, last = places(lengths, steps)
        if not running:
            return x.new_zeros(len(lengths), width)
        gates = PackedLinear.apply(x.flatten(0, 1), place, self.weight_ih, self.bias_ih)
        attention = TakeRows.apply(scores.reshape(-1, 1), place)
        states = NativeEvolution.apply(gates, attention, self.weight_hh, self.bias_hh, running)
        # The place of an empty row is another one's: rows may stand twice here.
        return states.index_select(0, last) * not_empty(lengths)
