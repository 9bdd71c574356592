"""Child process that fits one model: ``python -m zoo.training SPEC.json``.

The spec holds ``model`` (name and sizes), ``dataset`` (name), ``dataset_options``, ``cache_dir``, ``training`` (changes
to the model's defaults), ``out`` (the ``.npz`` to write); ``samples``, where only the first ones of the training split
are to be seen; and where the training is to be resumable, ``state`` (the file from which it goes on if it is there;
whoever has the weights in their place removes it). Standard output gets one JSON object per line: ``{"event":
"progress", epoch, step, steps, loss, valid_auc, resumed}``, ``{"event": "warning", text}`` and at last ``{"event":
"done", path, valid_auc, best_step, steps, epochs}``. It reads no clock: rates are the reader's business.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from zoo.checkpoint import Weights, check_weights, save_weights
from zoo.configs import model_config
from zoo.fitting import Progress, fit
from zoo.models.ctr_model import CtrModel
from zoo.split_file import first_samples
from zoo.stand_ins import Substitute, packed_recurrences
from zoo.training_config import training_config
from zoo.training_state import StateFile


def weights_of(model: CtrModel) -> Weights:
    """The arrays of the model by their state-dict names."""
    return {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}


def load_into(model: CtrModel, weights: Weights) -> None:
    """Copy ``weights`` into the model; parts that only training uses may lack. Raises ValueError if they do not fit.

    Embedding tables that cannot be written, as those of a mapped file, are taken where they lie: such a model can
    predict and not learn.
    """
    state: dict[str, Tensor] = model.state_dict()
    optional = [name for name in state if name.split(".")[0] in model.training_only]
    check_weights(weights, {name: tuple(value.shape) for name, value in state.items()}, optional)
    tables = {f"{path}.weight": part for path, part in model.named_modules() if isinstance(part, nn.Embedding)}
    for name, array in weights.items():
        if name in tables and not array.flags.writeable and array.dtype == np.float32:
            tables[name].weight = nn.Parameter(_in_place(array), requires_grad=False)
        else:
            state[name].copy_(state[name].new_tensor(array))


def _in_place(array: npt.NDArray[np.float32]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def main(spec_path: str, substitute: Substitute = packed_recurrences) -> None:
    """Load the data, fit, write the weights. ``substitute``: what trains in the place of the model's own layers."""
    from zoo.datasets import load_dataset  # its readers of files are not for who takes weights from here, and serves

    spec: dict[str, Any] = json.loads(Path(spec_path).read_text("utf-8"))
    name = spec["model"]["name"]
    config = model_config(name, spec["model"])
    training = training_config(name, spec["training"])
    dataset = load_dataset(spec["dataset"], spec["dataset_options"], Path(spec["cache_dir"]))
    if spec.get("samples"):
        dataset = dataclasses.replace(dataset, train=first_samples(dataset.train, spec["samples"]))
    kept = StateFile(Path(spec["state"]), _warn) if spec.get("state") else None
    fitted = fit(config, dataset, training, _report, substitute, kept)
    out = Path(spec["out"])
    save_weights(out, weights_of(fitted.model))
    _emit(
        event="done",
        path=str(out),
        valid_auc=fitted.valid_auc,
        best_step=fitted.best_step,
        steps=fitted.steps,
        epochs=fitted.epochs,
    )


def _report(progress: Progress) -> None:
    _emit(event="progress", **dataclasses.asdict(progress))


def _warn(text: str) -> None:
    _emit(event="warning", text=text)


def _emit(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
