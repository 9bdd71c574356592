"""The tensors that flow between the blocks of a PyTorch model. Every block keeps to these signatures:

| role        | call                                                     | result                              |
| ----------- | -------------------------------------------------------- | ----------------------------------- |
| features    | ``features(raw: RawTensors)``                            | ``Features``                        |
| embedding   | ``embedding(features: Features)``                        | ``Embedded``                        |
| wide        | ``wide(features: Features)``                             | logit [N]                           |
| fc          | ``fc(x [R, inputs])``; split: ``fc(columns: Columns)``   | [R, outputs], activation included   |
| interaction | ``interaction(vectors [N, F, d])``                       | [N, F (F - 1) / 2], lower triangle  |
| attention   | ``attention(query [N, q], keys [U, T, w], lengths [U], user_of)`` | din: pooled [N, w];          |
|             |                                                          | dien: softmax scores [N, T]         |
| recurrent   | gru: ``gru(x [U, T, w], lengths [U])``                   | states [U, T, h], zero past the length |
|             | augru: ``augru(x [U, T, h], scores [N, T], lengths [U], user_of)`` | last state [N, h]         |

``user_of`` is [N] int64, or None when the user side already stands once per sample (U = N): the reference plan
expands first, so its blocks always see None.
A history of length 0 counts as one step that is masked out (scores 0, states 0).
A model hands ``Columns`` to the stack of layers that first mixes both sides; the stack joins them, unless its first
layer is split and has the attribute ``takes_columns``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from zoo.layers.derived import derived
from zoo.layers.ragged import to_samples


class SideTensors(NamedTuple):
    """Raw columns of R rows of one side (see ``zoo.schema.Rows``)."""

    dense: Tensor  # [R, D] float32, NaN = missing
    ids: Tensor  # [R, F] int64, raw
    bag_values: Tensor  # [total] int64, raw
    bag_offsets: Tensor  # [R * B + 1] int64


class RawTensors(NamedTuple):
    """A batch as it is served, on the device."""

    user: SideTensors  # U rows
    item: SideTensors  # N rows
    history: Tensor  # [T, H] int64, raw, flat
    history_offsets: Tensor  # [U + 1] int64
    user_of: Tensor | None  # [N] int64; None: U = N, already expanded


class SideFeatures(NamedTuple):
    """Engineered columns of one side."""

    dense: Tensor  # [R, D] float32, normalised, filled
    rows: Tensor  # [R, F] int64, table rows, in the order of schema.ids_of(side)
    bag_rows: Tensor  # [total] int64, table rows
    bag_offsets: Tensor  # [R * B + 1] int64


class Features(NamedTuple):
    """What the embedding tables are asked for."""

    user: SideFeatures
    item: SideFeatures
    history: Tensor  # [U, T, H] int64 table rows, padded with 0; T = max(1, longest); T = 1 without a history
    lengths: Tensor  # [U] int64, may be 0
    crosses: Tensor  # [N, C] int64 rows of the hashed crosses
    user_of: Tensor | None


class Embedded(NamedTuple):
    """Concatenated embeddings: ids in field order, then bags in field order."""

    user: Tensor  # [U, Eu]
    item: Tensor  # [N, Ei]
    target: Tensor  # [N, W]: embeddings of the item-side targets of the history fields, in history field order
    history: Tensor  # [U, T, W]
    summed: Tensor | None = None  # [U, W]: sum over the real steps, from a block that has it on the way
    wide: Tensor | None = None  # [N]: logit of the wide part, of a model that has one


class TrainingInput(NamedTuple):
    """What a training step reads of its samples, none of it decided by a parameter. U = N."""

    features: Features
    negatives: Tensor | None = None  # [N, T, H] table rows of a sampled behaviour per behaviour, padded with 0


@derived
def side_by_side(parts: tuple[Tensor, ...]) -> Tensor:
    """Columns [N, k] of inputs as one [N, inputs]."""
    return torch.cat(parts, 1)


class Columns(NamedTuple):
    """Inputs of a first layer, in the order of its weights (``Block.user_columns``)."""

    parts: tuple[Tensor, ...]  # [U, k] where shared, else [N, k]
    shared: tuple[bool, ...]  # per part: one row per user, not per sample
    user_of: Tensor | None

    def joined(self) -> Tensor:
        """All columns once per sample: [N, inputs]."""
        pairs = zip(self.parts, self.shared, strict=True)
        parts = tuple(to_samples(part, self.user_of) if shared else part for part, shared in pairs)
        of_inputs = all(isinstance(part, Tensor) and not part.requires_grad for part in parts)
        return side_by_side(parts) if of_inputs else torch.cat(parts, 1)

    def of_users(self) -> Tensor:
        """The shared columns, once per user: [U, k]."""
        return torch.cat([part for part, shared in zip(self.parts, self.shared, strict=True) if shared], 1)

    def of_samples(self) -> Tensor:
        """The other columns: [N, k]."""
        return torch.cat([part for part, shared in zip(self.parts, self.shared, strict=True) if not shared], 1)
