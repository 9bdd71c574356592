from __future__ import annotations

import pytest

from zoo.configs import MODELS, DinConfig, model_config
from zoo.training_config import TrainingConfig, default_training, training_config


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_defaults(model: str) -> None:
    assert training_config(model, {}) == default_training(model)
    assert training_config(model, {"seed": 5, "dropout": 0.5}).dropout == 0.5


def test_unknown_settings_are_named() -> None:
    with pytest.raises(ValueError, match="no setting 'learning_rate'; it has batch_size"):
        training_config("din", {"learning_rate": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("dense_lr", 0.0),
        ("embedding_l2", -1.0),
        ("dropout", 1.0),
        ("average", 1.0),
        ("average", -0.1),
        ("seed", -1),
    ],
)
def test_impossible_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"training.{name}="):
        TrainingConfig(**{name: value})


def test_model_config_takes_lists_and_names_unknown_sizes() -> None:
    assert model_config("din", {"name": "din", "top_units": [20, 8]}) == DinConfig(top_units=(20, 8))
    with pytest.raises(ValueError, match="no size 'top_unit'; it has attention_units, embedding_dim, top_units"):
        model_config("din", {"top_unit": [20]})
    with pytest.raises(ValueError, match="unknown model 'dinn'"):
        model_config("dinn", {})
