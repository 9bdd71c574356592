"""DIEN with the AUGRU that OpenVINO's compiler joins to one primitive. It is not the paper's: its scores are its own.

The compiler recognises the steps of the authors' published program: the reset comes before the product with the state's
weights, and attention acts on the gate that keeps the state. In the paper (Zhou et al., 2019, section 4.3) the reset
comes after that product, and attention acts on the gate that renews the state: no weights make one of the other.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.bench.peers.contender import PEER_TOLERANCE, Contender, UnfitError
from tests.bench.peers.onnx_contenders import openvino_answer, openvino_settings
from tests.bench.peers.workload import HISTORY, Workload
from zoo.layers.augru import Augru
from zoo.layers.ragged import step_mask, to_samples
from zoo.onnx.export import write_graph
from zoo.onnx.inputs import INPUTS
from zoo.onnx.padded_model import PaddedModel
from zoo.onnx.row_inputs import RowArrays


class JoinedAugru(Augru):
    """As many steps as the example has, each in the form that is recognised: products of [input, state] rows."""

    def forward(self, x: Tensor, scores: Tensor, lengths: Tensor, user_of: Tensor | None) -> Tensor:
        """x [U, T, inputs], scores [N, T] to the last state [N, h]."""
        hidden = self.weight_hh.shape[1]
        weight, bias = torch.cat((self.weight_ih, self.weight_hh), 1), (self.bias_ih + self.bias_hh).unsqueeze(0)
        inputs = to_samples(x, user_of)
        attention = scores * step_mask(to_samples(lengths, user_of), x.shape[1])
        state = x.new_zeros(scores.shape[0], hidden)
        for step in range(HISTORY):
            row, score = inputs[:, step], attention[:, step : step + 1]
            gates = F.linear(torch.cat((row, state), 1), weight[: 2 * hidden]) + bias[:, : 2 * hidden]
            reset, keep = torch.sigmoid(gates).chunk(2, 1)
            joined = torch.cat((row, reset * state), 1)
            candidate = torch.tanh(F.linear(joined, weight[2 * hidden :]) + bias[:, 2 * hidden :])
            kept = (1.0 - score) * keep
            state = kept * state + (1.0 - kept) * candidate
        return state


def openvino_augru(workload: Workload, threads: int, folder: Path) -> Contender:
    """OpenVINO from table rows, in fp32; hashing the ids is not in its time.

    Raises UnfitError where there is no AUGRU, where the compiler does not join it, and where its scores are not those
    of the same steps in PyTorch.
    """
    if not hasattr(workload.reference, "augru"):
        raise UnfitError(f"{workload.config.name} has no AUGRU")
    model = PaddedModel(workload.reference, rows_given=True)
    model.model.augru.__class__ = JoinedAugru
    path, rows = folder / "openvino_augru.onnx", RowArrays(workload.dataset.schema)
    write_graph(model, workload.dataset.schema, path, rows_given=True, steps=HISTORY)
    compiled = openvino.Core().compile_model(
        _without_idle_steps(openvino.Core().read_model(path)), "CPU", openvino_settings(threads)
    )
    if (joined := _layers(compiled).count("RNNSeq")) != 2:
        raise UnfitError(f"GRU and AUGRU are {joined} primitives and not 2")
    answer = openvino_answer(compiled)
    for batch in (queries[0] for queries in workload.queries.values()):
        arrays = rows(batch)
        with torch.inference_mode():
            expected = model(*(torch.from_numpy(arrays[name]) for name in INPUTS)).numpy()
        if (deviation := float(np.abs(answer(arrays) - expected).max())) > PEER_TOLERANCE:
            raise UnfitError(f"scores differ by {deviation:.2g} from the same steps in PyTorch")
    note = f"openvino {importlib.metadata.version('openvino')}; GRU and AUGRU a primitive each, steps of another model"
    return Contender(predict=answer, prepare=rows, tolerance=None, note=note)


def _without_idle_steps(model: Any) -> Any:
    """The graph less what its reader adds to a product without a bias: times one and plus zero hide the steps."""
    for of, idle in (("Multiply", _is_one), ("Add", _is_zero)):
        for node in model.get_ordered_ops():
            if node.get_type_name() == of:
                first, second = (value.get_node() for value in node.input_values())
                if first.get_type_name() == "MatMul" and idle(second):
                    node.output(0).replace(first.output(0))
    return model


def _is_one(node: Any) -> bool:
    return node.get_type_name() == "Constant" and bool((node.get_data() == 1.0).all())


def _is_zero(node: Any) -> bool:
    """A constant zero, or a product with one."""
    if node.get_type_name() == "Multiply":
        return any(_is_zero(value.get_node()) for value in node.input_values())
    return node.get_type_name() == "Constant" and bool((node.get_data() == 0.0).all())


def _layers(compiled: Any) -> list[str]:
    return [op.get_rt_info()["layerType"].astype(str) for op in compiled.get_runtime_model().get_ops()]
