"""The form of the models that is exported and compiled gives the eager reference's scores, in PyTorch itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from harness.backends.torch_backend import reference_model
from zoo.onnx.inputs import INPUTS, raw_arrays
from zoo.onnx.padded_model import PaddedModel
from zoo.onnx.row_inputs import RowArrays

MODELS = ["wdl", "din", "dien", "dlrm"]


@pytest.mark.parametrize("rows_given", [False, True])
@pytest.mark.parametrize("how", [{}, {"compiled": True}, {"expand_first": False}], ids=["stock", "compiled", "late"])
@pytest.mark.parametrize("model", MODELS)
def test_it_agrees(every_column: Callable[[str], Any], model: str, how: dict[str, bool], rows_given: bool) -> None:
    """One user at a time, with and without a history, then all of them, and a user row per sample."""
    served = every_column(model)
    reference = reference_model(served.context)
    form = PaddedModel(reference, rows_given=rows_given, **how).eval()
    arrays_of, eager, split = (
        RowArrays(served.context.schema) if rows_given else raw_arrays,
        served.session({}),
        served.split,
    )
    one_by_one = [split.batch(first + np.arange(n)) for first in split.groups[:-1] for n in (1, 12)]
    spread = []
    for batch in (*one_by_one, split.batch(np.arange(0, len(split), 5)), split.training_batch(np.arange(40))):
        arrays, expected = arrays_of(batch), eager.predict(batch)
        with torch.inference_mode():
            scores = form(*(torch.from_numpy(arrays[name]) for name in INPUTS)).numpy()
        spread.append(np.ptp(expected))
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    assert max(spread) > 8e-5


def test_the_reference_stays_as_it_is(every_column: Callable[[str], Any]) -> None:
    reference = reference_model(every_column("dien").context)
    kinds = {name: type(child) for name, child in reference.named_modules()}
    PaddedModel(reference)
    assert {name: type(child) for name, child in reference.named_modules()} == kinds
    assert reference.expand_first
