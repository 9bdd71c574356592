"""The raw columns of a batch as the fused features read them: where they lie, and whether all of them are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from optimizations.fusion.torch_features import FusedFeatures
from optimizations.fusion.trained_features import TrainedFeatures
from tests.parity.conftest import EVERY_COLUMN
from zoo.layers.features import FeatureTransform, expand, to_tensors
from zoo.layers.tensors import RawTensors, SideTensors
from zoo.schema import Split


@pytest.fixture
def split(every_column: Callable[[str], Any]) -> Split:
    """Every kind of column."""
    found: Split = every_column("din").split
    return found


def strided(x: Tensor) -> Tensor:
    """The same elements, no two of them neighbours."""
    wide = torch.full((*x.shape, 3), -7, dtype=x.dtype)
    wide[..., 1] = x
    return wide[..., 1]


def flat(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else [each for part in found or () for each in flat(part)]


@pytest.mark.parametrize("expanded", ["given so", "on the way", "not"])
@pytest.mark.parametrize("lie", ["side by side", "apart", "by column"])
def test_columns_are_read_wherever_they_lie(split: Split, lie: str, expanded: str) -> None:
    fused, reference = FusedFeatures(EVERY_COLUMN), FeatureTransform(EVERY_COLUMN)
    fused.expand_first = expanded == "on the way"
    moved: dict[str, Callable[[Tensor], Tensor]] = {
        "side by side": lambda x: x,
        "apart": strided,
        "by column": lambda x: x.T.contiguous().T if x.dim() == 2 else x,
    }
    for seed in range(20):
        samples = np.random.default_rng(seed).integers(0, len(split), 50)
        raw = to_tensors(split.batch(np.sort(samples)))
        raw = expand(raw) if expanded == "given so" else raw
        user, item = (SideTensors(*map(moved[lie], side)) for side in (raw.user, raw.item))
        user_of = None if raw.user_of is None else moved[lie](raw.user_of)
        elsewhere = RawTensors(user, item, moved[lie](raw.history), moved[lie](raw.history_offsets), user_of)
        found = flat(fused(elsewhere))
        expected = flat(reference(expand(raw) if expanded == "on the way" else raw))
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


NARROWER = {f"{side}.{name}": (side, name) for side in ("user", "item") for name in ("dense", "ids", "bag_offsets")}


def without_one(raw: RawTensors, side: str, name: str) -> RawTensors:
    """One column less of that kind."""
    rows: SideTensors = getattr(raw, side)
    value: Tensor = getattr(rows, name)
    less = value[: len(value) - len(rows.dense)] if name == "bag_offsets" else value[:, : value.shape[1] - 1]
    return raw._replace(**{side: rows._replace(**{name: less.contiguous()})})


@pytest.mark.parametrize("kind", [FusedFeatures, lambda schema: TrainedFeatures(FeatureTransform(schema))])
@pytest.mark.parametrize("column", list(NARROWER))
def test_a_column_too_few_is_refused(split: Split, column: str, kind: Callable[..., FusedFeatures]) -> None:
    features, raw = kind(EVERY_COLUMN), to_tensors(split.batch(np.arange(30)))
    features(raw)
    with pytest.raises(ValueError, match="the batch has other columns than the schema"):
        features(without_one(raw, *NARROWER[column]))


@pytest.mark.parametrize("columns", [0, 2])
def test_behaviours_of_another_width_are_refused(split: Split, columns: int) -> None:
    features, raw = TrainedFeatures(FeatureTransform(EVERY_COLUMN)), to_tensors(split.batch(np.arange(30)))
    other = torch.zeros((len(raw.history), columns), dtype=torch.int64)
    assert features.behaviours(raw.history, raw.history_offsets).shape[2] == raw.history.shape[1] == 1
    with pytest.raises(ValueError, match="the batch has other columns than the schema"):
        features(raw._replace(history=other))
    with pytest.raises(ValueError, match="the behaviours have other columns than the schema"):
        features.behaviours(other, raw.history_offsets)


@pytest.mark.parametrize("opts", [{"fusion": {"program": False}}, {"fusion": {}}, {"fusion": {}, "stage": {}}])
def test_a_session_refuses_them_too(every_column: Callable[[str], Any], opts: dict[str, Any]) -> None:
    served = every_column("wdl")
    batch, session = served.split.batch(np.arange(30)), served.session(opts)
    assert np.isfinite(session.predict(batch)).all()
    object.__setattr__(batch.item, "dense", batch.item.dense[:, :1].copy())
    with pytest.raises(ValueError, match="the batch has other columns than the schema"):
        session.predict(batch)
