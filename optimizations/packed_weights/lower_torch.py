"""packed_weights on PyTorch: oneDNN's linear with a weight that it has rearranged beforehand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from optimizations.lowering import LoweringContext, LoweringError
from optimizations.matrix_products import with_products
from optimizations.split_layers import SplitFullyConnected
from zoo.blueprint import Block

TYPICAL_ROWS = 32
"""oneDNN chooses the layout for about so many rows; the product is right for any number."""


class PackedProduct(nn.Module):
    """x W^T + b, operands in ``dtype``, the bias added in fp32."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype).contiguous(), TYPICAL_ROWS)
        self.bias, self.dtype = bias, dtype

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs] in fp32."""
        in_product = self.bias if self.dtype == torch.float32 else None
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x.to(self.dtype), self.weight, in_product, "none", [], "")
        return out if in_product is not None else out.float() + self.bias


def bf16_can_be_packed() -> bool:
    """Whether oneDNN has kernels for packed bfloat16 on this processor; where not, it raises at the first weight."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _product(dtype: torch.dtype) -> Callable[[Tensor, Tensor], nn.Module]:
    if not torch.backends.mkldnn.is_available():
        raise LoweringError("this build of PyTorch has no oneDNN: its weights stay as they are")
    if dtype == torch.bfloat16 and not bf16_can_be_packed():
        raise LoweringError("oneDNN packs bfloat16 only on processors with AVX512 or AVX-NE-CONVERT")
    return lambda weight, bias: PackedProduct(weight, bias, dtype)


def _layer(dtype: torch.dtype) -> Callable[[nn.Module, Block, LoweringContext], nn.Module]:
    return lambda reference, block, context: with_products(reference, _product(dtype))


def _split_layer(dtype: torch.dtype) -> Callable[[nn.Module, Block, LoweringContext], nn.Module]:
    return lambda reference, block, context: with_products(SplitFullyConnected(reference, block), _product(dtype))


BUILDERS: dict[tuple[str, str, str], Callable[[nn.Module, Block, LoweringContext], nn.Module]] = {
    ("fc.packed", "reference", "fp32"): _layer(torch.float32),
    ("fc.packed", "reference", "bf16"): _layer(torch.bfloat16),
    ("fc.split.packed", "reference", "fp32"): _split_layer(torch.float32),
    ("fc.split.packed", "reference", "bf16"): _split_layer(torch.bfloat16),
}
