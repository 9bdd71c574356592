"""Weights as bytes: one scale per output, after part of each input's range has been moved into its weights.

x W^T = (x / s) (W s)^T for any s per input. Inputs are rounded to 255 steps of the range of their own row, so one wide
channel costs all others their precision; s = sqrt(max |x| / max |W|), with max |x| from rows of the training split,
shares the range out (Xiao et al., "SmoothQuant", 2023, equation 4 with alpha = 1/2).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from optimizations.lowering import LoweringContext, LoweringError
from zoo.frozen_model import frozen_model
from zoo.layers.features import to_tensors

LARGEST = 127
STEPS = 255


class QuantizedWeight(NamedTuple):
    """weight[j, k] = integers[j, k] * scale[j] * inverse[k]."""

    integers: Tensor  # [outputs, inputs] int8 in [-127, 127]
    scale: Tensor  # [outputs]
    inverse: Tensor  # [inputs], what an input is multiplied by


def quantized(weight: Tensor, largest_input: Tensor) -> QuantizedWeight:
    """weight [outputs, inputs] as integers; largest_input [inputs]: max |x| of every input, 0 where it is unknown."""
    largest_weight = weight.abs().amax(0)
    known = (largest_input > 0) & (largest_weight > 0)
    smooth = torch.where(known, (largest_input / largest_weight).sqrt(), 1.0)
    inverse = 1.0 / smooth
    balanced = weight * smooth
    scale = (balanced.abs().amax(1) / LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
    integers = (balanced / scale.unsqueeze(1)).round().clamp(-LARGEST, LARGEST).to(torch.int8)
    return QuantizedWeight(integers, scale.contiguous(), inverse.contiguous())


def largest_inputs(context: LoweringContext, path: str) -> Tensor:
    """max |x| [inputs] of every input of the fully connected layer at ``path``, over the calibration rows.

    Raises LoweringError when there are none.
    """
    if context.calibration is None or not len(context.calibration):
        raise LoweringError("int8 needs rows of the training split to calibrate on, and there are none")
    model = frozen_model(context.config, context.schema, dict(context.weights))
    seen: list[Tensor] = []
    layer = model.get_submodule(path)
    layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().abs().amax(0)))
    with torch.inference_mode():
        model.score(to_tensors(context.calibration))
    return torch.stack(seen).amax(0).clone()


class Int8Product(nn.Module):
    """x W^T + b on integers by the framework: inputs in 255 steps of the range of their row, exact integer sums."""

    def __init__(self, weight: QuantizedWeight, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        self.sums = weight.scale * weight.integers.sum(1, dtype=torch.int32)
        self.columns = weight.integers.double().T.contiguous()  # a product of integers below 2^53 is exact

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        x = x * self.weight.inverse
        low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
        width = high - low
        per_step = torch.where(width > 1e-30, STEPS / width, 0.0)
        integers = ((x - low) * per_step + 0.5).floor()
        sums = (integers.double() @ self.columns).float()
        return sums * self.weight.scale * (width / STEPS) + self.sums * low + self.bias
