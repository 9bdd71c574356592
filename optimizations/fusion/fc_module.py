"""The zoo's own layer in the place of a module that computes the same: for whatever exchanges or splits its product."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from optimizations.fusion.fc_activations import RecognisedLayer
from optimizations.fusion.fc_recognition import recognise
from optimizations.lowering import LoweringError
from zoo.blueprint import Block
from zoo.layers.mlp import ACTIVATIONS, FullyConnected


class Gated(nn.Module):
    """f(z) = z (g + slope (1 - g)) with g = sigmoid(z * scale + shift): Dice in evaluation mode, and SiLU."""

    def __init__(self, slope: Tensor, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.slope, self.scale, self.shift = (nn.Parameter(part, requires_grad=False) for part in (slope, scale, shift))

    def forward(self, z: Tensor) -> Tensor:
        """[R, outputs] to the same."""
        gate = torch.sigmoid(z * self.scale + self.shift)
        return z * (gate + self.slope * (1 - gate))


def described(module: nn.Module, block: Block) -> FullyConnected:
    """``fully_connected``. Raises LoweringError, too, where its sizes are not those of ``block``."""
    layer = fully_connected(module)
    check_sizes(layer.linear.in_features, layer.linear.out_features, block)
    return layer


def check_sizes(inputs: int, outputs: int, block: Block) -> None:
    """Raises LoweringError where a layer's sizes are not those that ``block`` names."""
    shape = dict(block.shape)
    if inputs != shape.get("inputs", inputs) or outputs != shape.get("outputs", outputs):
        raise LoweringError(f"a layer of {inputs} x {outputs} where the model describes {shape}")


def fully_connected(module: nn.Module) -> FullyConnected:
    """``module`` itself where it is one of the zoo's layers as they were built, else what is recognised in its graph.

    Raises LoweringError as ``recognise`` does.
    """
    if type(module) is FullyConnected and type(module.activation) is type(ACTIVATIONS[module.kind](1)):
        return module
    found = recognise(module)
    outputs, inputs = found.weight.shape
    layer = FullyConnected(inputs, outputs, "none")
    layer.linear.weight = nn.Parameter(found.weight.float().contiguous())
    layer.linear.bias = nn.Parameter(found.bias.float())
    layer.kind, layer.activation = found.kind, _activation(found)
    place = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    return layer.eval().requires_grad_(False).to(place)


def _activation(found: RecognisedLayer) -> nn.Module:
    outputs = len(found.bias)
    if found.slope is None:
        return ACTIVATIONS[found.kind](outputs)
    slope = found.slope.float()
    if found.scale is not None and found.shift is not None:
        return Gated(slope, found.scale.float(), found.shift.float())
    activation = nn.PReLU(outputs)
    activation.weight = nn.Parameter(slope)
    return activation
