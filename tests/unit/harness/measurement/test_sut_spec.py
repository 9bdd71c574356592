"""What a system under test is told of the training split: rows to calibrate on, and counts of other rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.measurement import sut_spec
from harness.measurement.sut_spec import CALIBRATION_SAMPLES, calibration_batch, counted_batch
from zoo.datasets import load_dataset
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
