"""Ragged rows in PyTorch: gathering segments, padding, masks, and the step from users to samples."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.layers.derived import derived


def to_samples(x: Tensor, user_of: Tensor | None) -> Tensor:
    """Rows [U, ...] of the users as rows [N, ...] of the samples; ``x`` itself when it already stands per sample."""
    return x if user_of is None else x.index_select(0, user_of)


@derived
def step_mask(lengths: Tensor, steps: int) -> Tensor:
    """[R, steps] bool: True at the real steps of each row of ``lengths`` [R]."""
    return torch.arange(steps, device=lengths.device) < lengths.unsqueeze(1)


@derived
def not_empty(lengths: Tensor) -> Tensor:
    """[R, 1] bool: whether a row of ``lengths`` [R] has a real step."""
    return (lengths > 0).unsqueeze(1)


@derived
def divisors(lengths: Tensor) -> Tensor:
    """[R, 1]: by what a sum over the real steps of each row is divided for their mean."""
    return lengths.clamp(min=1).unsqueeze(-1)


def take_segments(values: Tensor, offsets: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Gather segments ``index`` [K] of a ragged tensor; returns (values, offsets [K + 1])."""
    lengths = (offsets[1:] - offsets[:-1]).index_select(0, index)
    out = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    shift = torch.repeat_interleave(offsets.index_select(0, index) - out[:-1], lengths)
    return values.index_select(0, torch.arange(len(shift), device=values.device) + shift), out


def pad_segments(values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Flat ``values`` [total, H] as (padded [R, T, H], lengths [R]), T = max(1, longest), padded with 0."""
    lengths = offsets[1:] - offsets[:-1]
    steps = max(1, int(lengths.max())) if len(lengths) else 1
    padded = values.new_zeros(len(lengths), steps, values.shape[1])
    padded[step_mask(lengths, steps)] = values
    return padded, lengths


def bag_columns(offsets: Tensor, bags: int) -> Tensor:
    """Bag column [total] of every value of rows that hold ``bags`` bags each."""
    lengths = offsets[1:] - offsets[:-1]
    columns = torch.arange(len(lengths), device=offsets.device) % bags
    return torch.repeat_interleave(columns, lengths)


@derived
def split_bags(values: Tensor, offsets: Tensor, bags: int) -> list[tuple[Tensor, Tensor]]:
    """(values [total_b], offsets [R + 1]) of each of ``bags`` bag columns that lie interleaved, row by row."""
    if bags <= 1:
        return [(values, offsets)] * bags
    columns = bag_columns(offsets, bags)
    lengths = (offsets[1:] - offsets[:-1]).view(-1, bags)
    own_offsets = torch.nn.functional.pad(lengths.cumsum(0), (0, 0, 1, 0))
    return [(values[columns == k], own_offsets[:, k]) for k in range(bags)]
