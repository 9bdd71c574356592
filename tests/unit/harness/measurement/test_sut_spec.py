"""What a system under test is told: rows of the training split, counts of other rows, and a folder for its builds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.measurement import sut_spec
from harness.measurement.preparation import BASELINE, Prepared
from harness.measurement.sut_spec import CALIBRATION_SAMPLES, calibration_batch, counted_batch, model_spec
from harness.trial import Trial
from optimizations.contract import Plan
from optimizations.plan import first_pipeline
from zoo.configs import DlrmConfig
from zoo.datasets import load_dataset
from zoo.datasets.cache import cached_folder
from zoo.schema import Batch, Split


@pytest.fixture(scope="module")
def train() -> Split:
    return load_dataset("planted", {"shape": "pointwise", "size": "tiny"}, Path("unused")).train


def items(batch: Batch) -> list[list[int]]:
    return batch.item.ids.tolist()


def test_the_calibration_batch_is_not_counted(train: Split) -> None:
    last = len(train) - CALIBRATION_SAMPLES
    assert items(counted_batch(train)) == train.item.ids[:last].tolist()
    assert items(calibration_batch(train)) == train.item.ids[last:].tolist()


def test_the_last_samples_before_it_are_counted(train: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sut_spec, "COUNTED_SAMPLES", 100)
    last = len(train) - CALIBRATION_SAMPLES
    assert items(counted_batch(train)) == train.item.ids[last - 100 : last].tolist()


def test_a_split_that_is_no_larger_is_counted_as_a_whole(train: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sut_spec, "CALIBRATION_SAMPLES", len(train))
    assert len(counted_batch(train)) == len(train) and np.array_equal(counted_batch(train).user_of, train.user_of)


def test_of_the_cache_it_is_told_a_folder_that_holds_no_data(fabricate: Any, tmp_path: Path) -> None:
    """Nor where that is, but for its weights: what one data set has cached lies neither in it nor anywhere it names."""
    cache = tmp_path / "cache"
    data = cached_folder(cache, "clicks", lambda folder: (folder / "labels.npy").touch())
    dataset = load_dataset("planted", {"shape": "pointwise", "size": "tiny"}, cache)
    config, weights = DlrmConfig(), tmp_path / "weights.npz"
    trial: Trial = fabricate(model="dlrm", opts={})[0]
    plan = Plan(steps=(), pipeline=first_pipeline(config, dataset.schema, "torch", "cpu", "serve"))
    prepared = Prepared(
        trial=trial, dataset=dataset, config=config, weights=weights, trained=weights, plans={BASELINE: plan}
    )
    with model_spec(prepared, BASELINE, cache) as spec:
        told = Path(spec["cache_dir"])
        assert told.is_dir() and list(told.iterdir()) == [] and told.parent == cache.resolve()
        assert told not in data.resolve().parents and (data / "labels.npy").exists()
        assert str(cache.resolve()) not in json.dumps({**spec, "cache_dir": ""})
