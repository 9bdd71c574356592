"""bf16 in training on PyTorch: the three products of a fully connected layer with operands in bfloat16, and its result
rounded once."""

from __future__ import annotations

from torch import Tensor

from optimizations.rounded_training import trained_blocks

BUILDERS = trained_blocks("bf16", Tensor.bfloat16)
