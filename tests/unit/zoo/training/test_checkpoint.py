from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo.checkpoint import check_weights, checkpoint_key, code_version, load_weights, save_weights
from zoo.configs import DinConfig, DlrmConfig
from zoo.models import build_model
from zoo.schema import Schema
from zoo.training import load_into, weights_of
from zoo.training_config import TrainingConfig


def test_key_is_stable(mixed: Schema) -> None:
    one = checkpoint_key(DinConfig(), mixed, TrainingConfig(), "data")
    other = checkpoint_key(DinConfig(), Schema.from_json(mixed.to_json()), TrainingConfig(), "data")
    assert one == other and len(one) == 64


def test_key_changes_with_whatever_shapes_the_weights(mixed: Schema) -> None:
    schema = dataclasses.replace(mixed, max_history=7)
    keys = {
        checkpoint_key(DinConfig(), mixed, TrainingConfig(), "data"),
        checkpoint_key(DinConfig(top_units=(100, 80)), mixed, TrainingConfig(), "data"),
        checkpoint_key(DlrmConfig(), mixed, TrainingConfig(), "data"),
        checkpoint_key(DinConfig(), schema, TrainingConfig(), "data"),
        checkpoint_key(DinConfig(), mixed, TrainingConfig(seed=2), "data"),
        checkpoint_key(DinConfig(), mixed, TrainingConfig(), "other data"),
        checkpoint_key(DinConfig(), mixed, TrainingConfig(), "data", code="other code"),
    }
    assert len(keys) == 7


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    root = tmp_path / "zoo"
    shutil.copytree(Path(zoo.__file__).parent, root, ignore=shutil.ignore_patterns("datasets", "__pycache__"))
    return root


@pytest.mark.parametrize(
    "file", ["layers/mlp.py", "models/din.py", "models/ctr_model.py", "optimizers.py", "fitting.py"]
)
def test_code_version_follows_the_code_that_shapes(sources: Path, file: str) -> None:
    before = code_version("din", sources)
    with (sources / file).open("a") as handle:
        handle.write("\nADDED = 1\n")
    assert code_version("din", sources) != before


def test_code_version_ignores_comments_docstrings_and_other_models(sources: Path) -> None:
    before = code_version("din", sources)
    with (sources / "layers/mlp.py").open("a") as handle:
        handle.write("\n# a comment\n")
    text = (sources / "layers/mlp.py").read_text()
    (sources / "layers/mlp.py").write_text(text.replace("Data-adaptive activation", "Adaptive activation"))
    with (sources / "models/wdl.py").open("a") as handle:
        handle.write("\nADDED = 1\n")
    assert code_version("din", sources) == before == code_version("din")


def test_weights_survive_the_disk(tmp_path: Path, mixed: Schema) -> None:
    model, other = (build_model(DinConfig(), mixed) for _ in range(2))
    save_weights(tmp_path / "sub" / "w.npz", weights_of(model))
    load_into(other, load_weights(tmp_path / "sub" / "w.npz"))
    for name, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["w.npz"]


def test_state_dict_files_are_read(tmp_path: Path, mixed: Schema) -> None:
    model = build_model(DinConfig(), mixed)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    loaded = load_weights(tmp_path / "w.pt")
    assert loaded.keys() == model.state_dict().keys()
    np.testing.assert_array_equal(loaded["out.linear.weight"], model.out.linear.weight.detach().numpy())


@pytest.mark.parametrize("name", ["w.npz", "w.pt"])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match=f"{name} cannot be read as weights"):
        load_weights(tmp_path / name)


def test_misfits_are_listed_by_name() -> None:
    weights = {"a": np.zeros(3), "b": np.zeros((2, 2)), "x": np.zeros(1)}
    with pytest.raises(ValueError) as caught:
        check_weights(weights, {"a": (3,), "b": (2, 5), "c": (1,), "aux.d": (1,)}, optional=["aux.d"])
    text = str(caught.value)
    assert "missing: c;" in text and "unexpected: x;" in text and "wrong shape: b is [2, 2], not [2, 5])" in text


def test_fitting_weights_pass() -> None:
    check_weights({"a": np.zeros((3, 1))}, {"a": (3, 1), "aux.d": (1,)}, optional=["aux.d"])
