"""What the parity tests share: data with every kind of column, planted data, weights of a trained model's scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.backends.catalogue import load_backend
from harness.backends.protocol import LoweringContext, Session
from optimizations.kernels.loader import KernelsUnavailable, find_compiler
from optimizations.plan import first_pipeline, resolve
from zoo.configs import DienConfig, DinConfig, DlrmConfig, ModelConfig, WdlConfig
from zoo.datasets import load_dataset
from zoo.models import build_model
from zoo.schema import (
    MISSING_ID,
    BagField,
    CrossField,
    DenseField,
    HistoryField,
    IdField,
    Int64,
    Rows,
    Schema,
    Split,
)
from zoo.training import weights_of

EVERY_COLUMN = Schema(
    name="every_column",
    dense=(
        DenseField(name="age", side="user", mean=3.0, std=2.0),
        DenseField(name="price", side="item", transform="log", mean=0.5, std=1.5),
        DenseField(name="rank", side="item"),
    ),
    ids=(
        IdField(name="city", side="user", column=0, table="city", rows=11),
        IdField(name="age_bucket", side="user", column=0, table="age_bucket", rows=8, source="bucket"),
        IdField(name="C3", side="item", column=0, table="item", rows=370),
        IdField(name="category", side="item", column=1, table="category", rows=9, hashed=False),
    ),
    bags=(
        BagField(name="tags", side="user", column=0, table="tags", rows=13),
        BagField(name="badges", side="user", column=1, table="badges", rows=5, hashed=False, pooling="mean"),
        BagField(name="words", side="item", column=0, table="words", rows=17, pooling="mean"),
    ),
    history=(HistoryField(name="hist_category", target="category", table="category", rows=9, hashed=False),),
    crosses=(CrossField(name="city_x_item", left="city", right="C3", rows=29),),
    max_history=200,
)

ODD_SIZES: dict[str, ModelConfig] = {
    "wdl": WdlConfig(embedding_dim=5, large_dim=17, deep_units=(33, 7)),
    "din": DinConfig(embedding_dim=7, attention_units=(19, 5, 3), top_units=(21,)),
    "dien": DienConfig(embedding_dim=7, hidden_units=13, attention_units=(9,), top_units=(17, 35)),
    "dlrm": DlrmConfig(embedding_dim=6, bottom_units=(11, 6), top_units=(9, 3)),
}
DEFAULT_SIZES: dict[str, ModelConfig] = {
    "wdl": WdlConfig(),
    "din": DinConfig(),
    "dien": DienConfig(),
    "dlrm": DlrmConfig(),
}
SHAPES = {"wdl": "pointwise", "dlrm": "pointwise", "din": "sequence", "dien": "sequence"}


@dataclass(frozen=True)
class Served:
    """A model on a data set; ``session`` lowers it with any plan."""

    context: LoweringContext
    split: Split

    def session(self, opts: Mapping[str, Any], *, expand: str = "first", **changes: Any) -> Session:
        """The session of ``opts``; ``changes`` replace fields of the lowering context."""
        context = dataclasses.replace(self.context, **changes)
        pipeline = first_pipeline(context.config, context.schema, "torch", context.device, "serve")
        plan = resolve(pipeline, opts, frozenset())
        late = dataclasses.replace(plan, pipeline=dataclasses.replace(plan.pipeline, expand="late"))
        return load_backend("torch").lower(late if expand == "late" else plan, context)


def ids(hashed: bool, rows: int, count: int, rng: np.random.Generator) -> Int64:
    """Raw ids, a tenth of them missing."""
    raw = rng.integers(-(2**62), 2**62, count) if hashed else rng.integers(0, rows, count)
    return np.where(rng.random(count) < 0.1, MISSING_ID, raw)


def random_rows(schema: Schema, side: Any, count: int, rng: np.random.Generator) -> Rows:
    """Random columns of one side; bags of 0 to 4 values."""
    dense = rng.normal(2.0, 3.0, (count, len(schema.dense_of(side)))).astype(np.float32)
    dense[rng.random(dense.shape) < 0.1] = np.nan
    dense[rng.random(dense.shape) < 0.1] = 0.0
    raw = [field for field in schema.ids_of(side) if field.source == "id"]
    bags = schema.bags_of(side)
    lengths = rng.integers(0, 5, (count, len(bags)))
    values = [ids(f.hashed, f.rows, lengths[r, k], rng) for r in range(count) for k, f in enumerate(bags)]
    return Rows(
        dense,
        np.stack([np.zeros(count, np.int64), *(ids(f.hashed, f.rows, count, rng) for f in raw)], 1)[:, 1:].copy(),
        np.concatenate([*values, np.zeros(0, np.int64)]),
        np.concatenate([[0], lengths.ravel().cumsum()]).astype(np.int64),
    )


def random_split(schema: Schema, lengths: list[int], candidates: int, seed: int) -> Split:
    """One user per length of history, ``candidates`` samples each."""
    rng, users = np.random.default_rng(seed), len(lengths)
    history = [ids(field.hashed, field.rows, sum(lengths), rng) for field in schema.history]
    return Split(
        user=random_rows(schema, "user", users, rng),
        item=random_rows(schema, "item", users * candidates, rng),
        history=np.stack(history, 1),
        history_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        user_of=np.repeat(np.arange(users), candidates),
        labels=np.zeros(users * candidates, np.float32),
        groups=np.arange(users + 1) * candidates,
    )


def trained_scale(config: ModelConfig, schema: Schema, seed: int) -> dict[str, Any]:
    """Random weights, a little larger than those of a model trained on planted data (tables there: std 0.03)."""
    torch.manual_seed(seed)
    model = build_model(config, schema)
    for name, value in model.state_dict().items():
        if "tables" in name or "crosses" in name:
            value.normal_(std=0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.2, 1.2)
        elif name.endswith(("running_mean", "alpha")):
            value.normal_(std=0.3)
        elif name.endswith("bias") or name == "wide.dense":
            value.normal_(std=0.1)
    return dict(weights_of(model))


def served(config: ModelConfig, schema: Schema, split: Split, seed: int = 1) -> Served:
    """``config`` on ``split`` with random weights."""
    context = LoweringContext(
        schema=schema,
        config=config,
        weights=trained_scale(config, schema, seed),
        calibration=split.batch(np.arange(min(len(split), 200))),
        cache_dir=Path("unused"),
        device="cpu",
        threads=1,
    )
    return Served(context, split)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _subnormals() -> Iterator[None]:
    """A training flushes them for its whole process."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def _compiler(request: pytest.FixtureRequest) -> None:
    """Without a compiler there are no kernels to compare; the fallback has its own tests."""
    if "unloaded" in request.fixturenames:
        return
    try:
        find_compiler()
    except KernelsUnavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def every_column() -> Callable[[str], Served]:
    """Models of odd sizes on every kind of column; histories of 0, 1, 200 and a few more steps."""
    split = random_split(EVERY_COLUMN, [0, 1, 200, 3, 16, 17, 0, 50, 7, 2], 12, seed=3)
    made: dict[str, Served] = {}

    def of(model: str) -> Served:
        if model not in made:
            made[model] = served(ODD_SIZES[model], EVERY_COLUMN, split)
        return made[model]

    return of


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Served]:
    """Models of default sizes on the built-in data."""
    cache = tmp_path_factory.mktemp("planted")
    made: dict[str, Served] = {}

    def of(model: str) -> Served:
        if model not in made:
            data = load_dataset("planted", {"shape": SHAPES[model], "size": "tiny"}, cache)
            made[model] = served(DEFAULT_SIZES[model], data.schema, data.test)
        return made[model]

    return of
