"""The fused sequence blocks: DIN's and DIEN's attention, the GRU and the AUGRU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from optimizations.fusion.torch_dense import layer_structure
from optimizations.kernels.interface import ACTIVATIONS, PRECISIONS, Handle, Layer
from optimizations.kernels.loader import load_kernels
from optimizations.lowering import LoweringError
from zoo.layers.attention import ActivationUnit, SoftmaxAttention
from zoo.layers.augru import Augru, Gru


class FusedAttention(nn.Module):
    """Same signature as ``LocalActivationUnit`` and ``SoftmaxAttention``; steps past a length are not computed."""

    def __init__(self, reference: ActivationUnit, dtype: str, threads: int) -> None:
        super().__init__()
        described = [layer_structure(layer) for layer in (*reference.units, reference.score)]
        if described[-1][0].kind != ACTIVATIONS["none"]:
            raise LoweringError("the attention's last layer has an activation")
        layers = (Layer * len(described))(*(layer for layer, _ in described))
        self.softmax = isinstance(reference, SoftmaxAttention)
        projection, _keep = layer_structure(reference.query) if self.softmax else (None, None)
        self.width, self.threads = int(layers[0].inputs) // 4, threads
        arguments = (layers, len(layers), projection, self.width, int(self.softmax), PRECISIONS[dtype])
        library = load_kernels()
        self._run = library.recarena_attention_run
        self._handle = Handle(library, "attention", arguments)

    def forward(self, query: Tensor, keys: Tensor, lengths: Tensor, user_of: Tensor | None) -> Tensor:
        """query [N, q], keys [U, T, w] to scores [N, T] (DIEN) or the pooled interest [N, w] (DIN)."""
        query, keys = query.contiguous(), keys.contiguous()
        samples, steps = query.shape[0], keys.shape[1]
        out = torch.empty((samples, steps if self.softmax else self.width))
        users = 0 if user_of is None else user_of.data_ptr()
        inputs = (query.data_ptr(), keys.data_ptr(), lengths.data_ptr(), users)
        self._run(self._handle.pointer, *inputs, samples, steps, out.data_ptr(), self.threads)
        return out


def recurrent_handle(reference: Gru | Augru, dtype: str) -> Handle:
    """The packed weights of either cell."""
    weights = (reference.weight_ih, reference.weight_hh, reference.bias_ih, reference.bias_hh)
    tensors = [weight.detach().contiguous() for weight in weights]
    hidden, inputs = tensors[1].shape[1], tensors[0].shape[1]
    pointers = (tensor.data_ptr() for tensor in tensors)
    return Handle(load_kernels(), "recurrent", (*pointers, inputs, hidden, PRECISIONS[dtype]))


class FusedGru(nn.Module):
    """Same signature as ``Gru``."""

    def __init__(self, reference: Gru, dtype: str, threads: int) -> None:
        super().__init__()
        self.hidden, self.threads = reference.weight_hh.shape[1], threads
        self._handle = recurrent_handle(reference, dtype)
        self._run = load_kernels().recarena_gru_run

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x [U, T, inputs] to states [U, T, h], zero past ``lengths``."""
        x = x.contiguous()
        users, steps, _ = x.shape
        out = torch.empty((users, steps, self.hidden))
        self._run(self._handle.pointer, x.data_ptr(), lengths.data_ptr(), users, steps, out.data_ptr(), self.threads)
        return out


class FusedAugru(nn.Module):
    """Same signature as ``Augru``."""

    def __init__(self, reference: Augru, dtype: str, threads: int) -> None:
        super().__init__()
        self.hidden, self.threads = reference.weight_hh.shape[1], threads
        self._handle = recurrent_handle(reference, dtype)
        self._run = load_kernels().recarena_augru_run

    def forward(self, x: Tensor, scores: Tensor, lengths: Tensor, user_of: Tensor | None) -> Tensor:
        """x [U, T, inputs], scores [N, T] to the last real state [N, h]."""
        x, scores = x.contiguous(), scores.contiguous()
        users, steps, _ = x.shape
        samples = scores.shape[0]
        out = torch.empty((samples, self.hidden))
        index = 0 if user_of is None else user_of.data_ptr()
        inputs = (x.data_ptr(), lengths.data_ptr(), index, scores.data_ptr())
        self._run(self._handle.pointer, *inputs, users, samples, steps, out.data_ptr(), self.threads)
        return out
