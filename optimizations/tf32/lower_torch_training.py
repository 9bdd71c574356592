"""tf32 in training on PyTorch: the library's own switch on CUDA; on a CPU the operands of each product are rounded."""

from __future__ import annotations

from optimizations.rounded_training import trained_blocks
from optimizations.tf32.lower_torch import native_on_cuda, rounded

BUILDERS = {key: native_on_cuda(builder) for key, builder in trained_blocks("tf32", rounded).items()}
