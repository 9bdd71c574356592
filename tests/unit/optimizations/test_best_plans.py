"""The best plans are plans: each resolves on its model, in its division."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.backends.catalogue import BACKENDS
from harness.trial import PEER
from optimizations.best_plans import best_plan
from optimizations.contract import PlanError
from optimizations.plan import first_pipeline, resolve
from zoo.configs import MODELS, NEEDS_HISTORY, model_config
from zoo.datasets import DATASETS, load_dataset
from zoo.schema import Schema

AMX = frozenset({"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8"})


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Schema]:
    folder: Path = tmp_path_factory.mktemp("cache")
    shapes = ("sequence", "pointwise")
    return {s: load_dataset("planted", {"size": "tiny", "shape": s}, folder, lambda *_: None).schema for s in shapes}


@pytest.mark.parametrize("flags", [frozenset(), AMX])
@pytest.mark.parametrize("model", sorted(MODELS))
def test_each_resolves_and_says_its_division(schemas: dict[str, Schema], model: str, flags: frozenset[str]) -> None:
    schema = schemas["sequence" if model in NEEDS_HISTORY else "pointwise"]
    first = first_pipeline(model_config(model, {}), schema, "torch", "cpu", "serve")
    closed = resolve(first, dict.fromkeys(best_plan("best", model, flags)), flags)
    assert closed.division == "closed" and not any(step.emulated for step in closed.steps)
    opened = best_plan("best_open", model, flags)
    assert (resolve(first, dict.fromkeys(opened), flags).division == "open") == ("int8" in opened)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_in_training_each_resolves_in_the_closed_division(schemas: dict[str, Schema], model: str) -> None:
    schema = schemas["sequence" if model in NEEDS_HISTORY else "pointwise"]
    first = first_pipeline(model_config(model, {}), schema, "torch", "cpu", "train")
    assert resolve(first, dict.fromkeys(best_plan("best_training", model, AMX)), AMX).division == "closed"
    with pytest.raises(PlanError, match="no best plan is known for backend=onnxruntime"):
        best_plan("best_training", model, AMX, "onnxruntime")


@pytest.mark.parametrize("backend", sorted(set(BACKENDS) - {PEER}))
@pytest.mark.parametrize("model", sorted(set(MODELS) - NEEDS_HISTORY))
def test_data_without_users_leave_out_what_samples_would_share(tmp_path: Path, backend: str, model: str) -> None:
    """The plan of a data set resolves on the columns that it really has."""
    line = "\t".join(["1", *("3",) * 13, *("68fd1e64",) * 26])
    (tmp_path / "train.txt").write_text(f"{line}\n" * 200)
    data = load_dataset("criteo", {"path": str(tmp_path / "train.txt")}, tmp_path / "cache")
    first = first_pipeline(model_config(model, {}), data.schema, backend, "cpu", "serve")
    opts = best_plan("best", model, frozenset(), backend, users=DATASETS["criteo"].users)
    assert resolve(first, dict.fromkeys(opts), frozenset()).division == "closed"
    with pytest.raises(PlanError, match="'dedup' would change nothing"):
        resolve(first, dict.fromkeys(best_plan("best", model, frozenset(), backend)), frozenset())


@pytest.mark.parametrize("shape", ["pointwise", "sequence"])
def test_data_say_whether_they_have_users(schemas: dict[str, Schema], shape: str) -> None:
    assert DATASETS["planted"].users == bool(schemas[shape].ids_of("user") or schemas[shape].history)


def test_a_model_that_nobody_measured_has_none() -> None:
    with pytest.raises(PlanError, match=r"model=deepfm; write opt=\[\.\.\.\]"):
        best_plan("best", "deepfm", AMX)


def test_a_backend_that_nobody_measured_has_none() -> None:
    with pytest.raises(PlanError, match=r"no best plan is known for backend=tensorrt; write opt=\[\.\.\.\]"):
        best_plan("best", "dien", AMX, "tensorrt")


@pytest.mark.parametrize("backend", sorted(set(BACKENDS) - {"torch", PEER}))
def test_every_other_backend_has_one_for_all_models(schemas: dict[str, Schema], backend: str) -> None:
    for model in MODELS:
        first = first_pipeline(
            model_config(model, {}),
            schemas["sequence" if model in NEEDS_HISTORY else "pointwise"],
            backend,
            "cpu",
            "serve",
        )
        plans = [best_plan(which, model, AMX, backend) for which in ("best", "best_open")]
        assert resolve(first, dict.fromkeys(plans[0]), AMX).division == "closed" and plans[0] == plans[1]
