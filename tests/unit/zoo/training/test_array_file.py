"""Weights that are mapped: the bytes that numpy reads, on page boundaries, and tables that are not copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.array_file import PAGE, map_arrays
from zoo.checkpoint import load_weights, new_weights_file, save_weights
from zoo.configs import DlrmConfig
from zoo.frozen_model import frozen_model
from zoo.models import build_model
from zoo.schema import IdField, Schema
from zoo.training import weights_of

ARRAYS = {
    "table": np.arange(3_000, dtype=np.float32).reshape(1_000, 3),
    "a name that is long" * 9: np.arange(7, dtype=np.int64),
    "turned": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "one": np.float32(4.0).reshape(()),
    "nothing": np.zeros((0, 3), np.float32),
}


def test_numpy_reads_what_is_mapped(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.npz", ARRAYS)
    mapped = map_arrays(tmp_path / "w.npz")
    with np.load(tmp_path / "w.npz") as file:
        assert set(file.files) == set(mapped) == set(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(file[name], array, strict=True)
            np.testing.assert_array_equal(mapped[name], array, strict=True)
    for name in set(ARRAYS) - {"nothing"}:
        assert mapped[name].ctypes.data % PAGE == 0 and not mapped[name].flags.writeable


def test_what_numpy_wrote_is_read(tmp_path: Path) -> None:
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "w.npz", **ARRAYS)
        for name, array in load_weights(tmp_path / "w.npz").items():
            np.testing.assert_array_equal(array, ARRAYS[name], strict=True)


def test_a_write_that_fails_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.npz", {"a": np.ones(3)})
    with pytest.raises(RuntimeError), new_weights_file(tmp_path / "w.npz") as file:
        file.add("b", (3,), np.float64, (np.zeros(3),))
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["w.npz"]
    assert list(load_weights(tmp_path / "w.npz")) == ["a"]


def test_a_frozen_model_has_its_tables_in_the_file_and_all_else_in_memory(tmp_path: Path) -> None:
    schema = Schema(
        name="s", ids=tuple(IdField(name=f"C{k}", side="item", column=k, table=f"C{k}", rows=50) for k in range(2))
    )
    config = DlrmConfig(embedding_dim=4, bottom_units=(4,), top_units=(8,))
    weights = weights_of(build_model(config, schema))
    save_weights(tmp_path / "w.npz", weights)
    mapped = load_weights(tmp_path / "w.npz")
    model = frozen_model(config, schema, mapped)
    for name, value in model.state_dict().items():
        assert torch.equal(value, torch.from_numpy(weights[name])), name
        assert (value.data_ptr() == mapped[name].ctypes.data) == (".tables." in name), name
    assert not any(parameter.requires_grad for parameter in model.parameters())
