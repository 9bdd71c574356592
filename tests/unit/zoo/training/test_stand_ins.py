"""Layers that train in the place of a model's own: the same parameters while they are there, its own after it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.layers.augru import Augru, Gru
from zoo.layers.packed_recurrence import PackedAugru, PackedGru, packed
from zoo.stand_ins import standing_in


class _Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.rest = Gru(3, 4), nn.Sequential(nn.Linear(4, 1))
        self.rest.append(Augru(4, 4))


def test_the_layers_come_back_with_the_same_parameters() -> None:
    torch.manual_seed(0)
    model = _Nested()
    before, own = dict(model.named_parameters()), (model.gru, model.rest[1])
    layers = {path: packed(model.get_submodule(path)) for path in ("gru", "rest.1")}
    with pytest.raises(RuntimeError, match="in the middle"), standing_in(model, layers):
        assert isinstance(model.gru, PackedGru) and isinstance(model.rest[1], PackedAugru)
        within = dict(model.named_parameters())
        assert within.keys() == before.keys()
        assert all(within[name] is parameter for name, parameter in before.items())
        raise RuntimeError("in the middle")
    assert (model.gru, model.rest[1]) == own
    assert list(model.state_dict()) == list(_Nested().state_dict())
