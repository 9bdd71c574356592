"""Planted data of both shapes: the same bytes everywhere, the promised groups, labels that follow the probability."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from zoo.datasets import fingerprint, load_dataset
from zoo.datasets.planted import PlantedOptions
from zoo.schema import Dataset, Rows, Schema, hash_rows

SHAPES = ("pointwise", "sequence")
TINY = {"size": "tiny", "seed": 7}
PINNED = {
    "pointwise": "670839f1def95d2d145be36606e2c7087c4c2c87a5f8030bccb155c6fa303051",
    "sequence": "47d7844c11c80ca03869f4469060189428c6610b5c87f09381572758d2b27e9c",
}
"""SHA-256 of all arrays and the schema at size=tiny, seed=7. A change of these is a change of GENERATOR_VERSION."""


@pytest.fixture(scope="module", params=SHAPES)
def tiny(request: pytest.FixtureRequest) -> Dataset:
    return load_dataset("planted", {"shape": request.param, **TINY}, Path("unused"))


def digest_of(data: Dataset) -> str:
    """SHA-256 over the bytes of every array of every split, and the schema."""
    found = hashlib.sha256(data.schema.to_json().encode())
    for split in (data.train, data.valid, data.test):
        for part in (split.user, split.item):
            for array in (part.dense, part.ids, part.bag_values, part.bag_offsets):
                found.update(np.ascontiguousarray(array).tobytes())
        for array in (
            split.history,
            split.history_offsets,
            split.user_of,
            split.labels,
            split.groups,
            split.probability,
        ):
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def shape_of(data: Dataset) -> str:
    return "sequence" if data.schema.history else "pointwise"


def test_bytes_are_pinned(tiny: Dataset) -> None:
    assert digest_of(tiny) == PINNED[shape_of(tiny)]


SCRIPT = """
import hashlib, importlib.util, json, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("planted_tests", sys.argv[1])
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
options = json.loads(sys.argv[2])
print(tests.digest_of(tests.load_dataset("planted", options, Path("unused"))))
"""


@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_do_not_depend_on_the_process_or_the_vector_unit(shape: str) -> None:
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "99",
        # Without AVX-512 numpy's own exp and log1p end in other last bits.
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR AVX2 FMA3 AVX512F AVX512_SKX",
    }
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, __file__, json.dumps({"shape": shape, **TINY})]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == PINNED[shape]


def test_seeds_give_other_data(tiny: Dataset) -> None:
    other = load_dataset("planted", {"shape": shape_of(tiny), "size": "tiny", "seed": 8}, Path("unused"))
    assert digest_of(other) != digest_of(tiny)
    assert other.fingerprint != tiny.fingerprint


def test_fingerprint_is_that_of_the_resolved_counts() -> None:
    counts = dataclasses.asdict(PlantedOptions(size="tiny", shape="pointwise").counts())
    spelled = {"shape": "pointwise", "size": "large", "seed": 7, **counts}
    assert fingerprint("planted", spelled) == fingerprint("planted", {"shape": "pointwise", **TINY})
    assert fingerprint("planted", {**spelled, "train_users": 401}) != fingerprint("planted", spelled)


def test_default_sizes_keep_their_promise() -> None:
    for shape in SHAPES:
        counts = PlantedOptions(shape=shape).counts()  # type: ignore[arg-type]
        assert counts.test_users * counts.test_candidates >= 50_000
        assert counts.test_candidates == 100


def test_a_group_is_one_user_and_its_candidates(tiny: Dataset) -> None:
    for split, users, candidates in ((tiny.valid, 40, 20), (tiny.test, 40, 100)):
        assert np.array_equal(split.groups, np.arange(users + 1) * candidates)
        assert np.array_equal(split.user_of, np.repeat(np.arange(users), candidates))
        assert len(split.user) == users and len(split.item) == users * candidates
        batch = split.batch(np.arange(candidates, 2 * candidates, dtype=np.int64))
        assert len(batch.user) == 1 and len(batch) == candidates


def test_columns_are_what_the_schema_says(tiny: Dataset) -> None:
    for split in (tiny.train, tiny.valid, tiny.test):
        _check_side(split.user, tiny.schema, "user")
        _check_side(split.item, tiny.schema, "item")
        assert split.history.shape[1] == len(tiny.schema.history)
        assert np.diff(split.history_offsets).max() <= tiny.schema.max_history
        assert split.history_offsets[-1] == len(split.history)


def _check_side(rows: Rows, schema: Schema, side: str) -> None:
    assert rows.dense.shape[1] == len(schema.dense_of(side)) and rows.dense.dtype == np.float32
    fields = [field for field in schema.ids_of(side) if field.source == "id"]
    assert rows.ids.shape[1] == len(fields) and rows.ids.dtype == np.int64
    assert rows.bags_per_row == len(schema.bags_of(side))
    assert rows.bag_offsets[-1] == len(rows.bag_values)
    for field in fields:
        if not field.hashed:
            assert set(np.unique(rows.ids[:, field.column]).tolist()) <= set(range(1, field.rows))


def test_statistics_are_those_of_the_training_split(tiny: Dataset) -> None:
    for side, rows in (("user", tiny.train.user), ("item", tiny.train.item)):
        for column, field in enumerate(tiny.schema.dense_of(side)):
            values = [np.log1p(float(x)) for x in rows.dense[:, column] if not np.isnan(x)]
            assert field.mean == pytest.approx(np.mean(values), abs=6e-5)
            assert field.std == pytest.approx(np.std(values), abs=6e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_labels_follow_the_probability(shape: str) -> None:
    options = {"shape": shape, "seed": 3, "train_users": 2_000, "valid_users": 10}
    data = load_dataset("planted", options, Path("unused"))
    for split in (data.train, data.test):
        assert split.probability is not None
        p = split.probability.astype(np.float64)
        assert abs(split.labels.mean() - p.mean()) < 4 * np.sqrt((p * (1 - p)).sum()) / len(p)
        for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 1.0)):  # calibrated in each part of the range
            chosen = (p >= low) & (p < high)
            error = np.sqrt((p * (1 - p))[chosen].sum()) / chosen.sum()
            assert abs(split.labels[chosen].mean() - p[chosen].mean()) < 4 * error
    assert data.bayes_auc is not None
    # 512 users share their draws: the standard error of one labelling stays below 0.0025 on 51,200 samples.
    assert abs(roc_auc_score(data.test.labels, data.test.probability) - data.bayes_auc) < 0.0075
    assert 0.75 < data.bayes_auc < 0.87
    assert 0.1 < data.test.labels.mean() < 0.4


def test_items_of_the_sequence_never_share_a_table_row() -> None:
    data = load_dataset("planted", {"shape": "sequence", **TINY}, Path("unused"))
    field = next(field for field in data.schema.ids if field.name == "item")
    seen = np.unique(np.concatenate([split.item.ids[:, 0] for split in (data.train, data.valid, data.test)]))
    assert len(np.unique(hash_rows(seen, field.rows))) == len(seen) > 300
