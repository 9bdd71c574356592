"""What fits the served weights: on the native kernels a model moves as on the zoo's own, and is judged alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from optimizations.kernels.loader import load_kernels
from optimizations.trainer import main, native
from tests.parity.conftest import DEFAULT_SIZES, EVERY_COLUMN, ODD_SIZES, random_split, trained_scale
from zoo.checkpoint import load_weights
from zoo.layers.augru import Augru, Gru
from zoo.models import build_model
from zoo.models.ctr_model import CtrModel
from zoo.prediction import predict
from zoo.stand_ins import packed_recurrences, standing_in
from zoo.training import load_into

MODELS = ["wdl", "din", "dien", "dlrm"]


@pytest.fixture
def unloaded() -> Iterator[None]:
    """What is built is looked for again, in the test and after it."""
    load_kernels.cache_clear()
    yield
    load_kernels.cache_clear()


def _model(name: str, seed: int) -> CtrModel:
    config = ODD_SIZES[name]
    model = build_model(config, EVERY_COLUMN)
    load_into(model, trained_scale(config, EVERY_COLUMN, seed))
    return model


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_judged_alike(name: str) -> None:
    """Scores of users with histories of 0, 1, 200 and a few more steps, several samples each."""
    split = random_split(EVERY_COLUMN, [0, 1, 200, 3, 16, 17, 0, 50, 7, 2], 12, seed=3)
    model = _model(name, seed=1)
    expected = predict(model, split)
    with standing_in(model, native(model, ODD_SIZES[name], EVERY_COLUMN).layers):
        scores = predict(model, split)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    assert np.ptp(expected) > 1e-2


@pytest.mark.parametrize("name", MODELS)
def test_the_parameters_are_those_of_the_model(name: str) -> None:
    model = _model(name, seed=1)
    before, state = dict(model.named_parameters()), list(model.state_dict())
    with standing_in(model, native(model, ODD_SIZES[name], EVERY_COLUMN).layers):
        within = dict(model.named_parameters())
        assert list(model.state_dict()) == state
    assert within.keys() == before.keys()
    assert all(within[path] is parameter for path, parameter in before.items())


def _train(name: str, folder: Path, **training: float) -> dict[str, np.ndarray]:
    """What ``python -m optimizations.trainer`` does."""
    shape = "sequence" if name in ("din", "dien") else "pointwise"
    out = folder / f"{name}.npz"
    spec = {
        "model": {"name": name},
        "dataset": "planted",
        "dataset_options": {"shape": shape, "size": "tiny", "train_users": 400},
        "cache_dir": str(folder / "cache"),
        "training": {"max_epochs": 1, "batch_size": 400, "threads": 1, **training},
        "out": str(out),
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    main(str(folder / "spec.json"), native)
    return load_weights(out)


@pytest.mark.parametrize("name", MODELS)
def test_a_training_without_a_compiler_learns_the_same(
    name: str, tmp_path: Path, unloaded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_kernels = _train(name, tmp_path)
    load_kernels.cache_clear()
    monkeypatch.setenv("RECARENA_NO_COMPILER", "1")
    framework = _train(name, tmp_path)
    assert with_kernels.keys() == framework.keys()
    for path, array in framework.items():
        # Adam divides by the size of the gradient: where that is rounding alone, a step of either sign is right.
        close = np.isclose(with_kernels[path], array, rtol=1e-3, atol=1e-4)
        assert close.mean() > 0.98, path


@pytest.mark.parametrize("name", MODELS)
def test_every_block_that_fusion_knows_is_native(name: str) -> None:
    """Only what has no activation of its own, the layer that makes the logit, is left to the framework."""
    model = _model(name, seed=1)
    layers = native(model, ODD_SIZES[name], EVERY_COLUMN).layers
    recurrent = {path for path, child in model.named_children() if isinstance(child, Gru | Augru)}
    known = {"features", "embedding"} | recurrent
    assert known <= layers.keys()
    assert all(type(layer).__name__.startswith("Trained") for layer in layers.values())
    assert len(layers) > len(packed_recurrences(model, ODD_SIZES[name], EVERY_COLUMN).layers) + 2


def test_the_framework_trains_where_nothing_can_be_built(unloaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECARENA_NO_COMPILER", "1")
    config = DEFAULT_SIZES["dien"]
    torch.manual_seed(0)
    model = build_model(config, EVERY_COLUMN)
    layers = native(model, config, EVERY_COLUMN).layers
    assert {path: type(layer).__name__ for path, layer in layers.items()} == {
        "gru": "PackedGru",
        "augru": "PackedAugru",
    }
