"""Every optimization on every model that it claims: scores agree with the reference within its own tolerance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from optimizations.packed_weights import lower_torch
from optimizations.packed_weights.lower_torch import bf16_can_be_packed
from tests.parity.tolerances import score_tolerance
from zoo.schema import Batch, Float32, Split

MODELS = ["wdl", "din", "dien", "dlrm"]
PLANS: dict[str, dict[str, Any]] = {
    "fusion": {"fusion": {}},
    "bf16": {"bf16": {}},
    "tf32": {"tf32": {}},
    "executor": {"executor": {"workers": 2}},
    "fusion,bf16": {"fusion": {}, "bf16": {}},
    "fusion,tf32": {"fusion": {}, "tf32": {}},
    "dedup": {"dedup": {}},
    "dedup,bf16": {"dedup": {}, "bf16": {}},
    "dedup,tf32": {"dedup": {}, "tf32": {}},
    "dedup,executor": {"dedup": {}, "executor": {"workers": 2}},
    "fusion,dedup": {"fusion": {}, "dedup": {}},
    "fusion,dedup,bf16": {"fusion": {}, "dedup": {}, "bf16": {}},
    "fusion,dedup,tf32": {"fusion": {}, "dedup": {}, "tf32": {}},
    "packed_weights": {"packed_weights": {}},
    "packed_weights,bf16": {"packed_weights": {}, "bf16": {}},
    "packed_weights,dedup": {"packed_weights": {}, "dedup": {}},
    "packed_weights,dedup,bf16": {"packed_weights": {}, "dedup": {}, "bf16": {}},
    "int8": {"int8": {}},
    "dedup,int8": {"dedup": {}, "int8": {}},
    "fusion,int8": {"fusion": {}, "int8": {}},
    "fusion,dedup,int8": {"fusion": {}, "dedup": {}, "int8": {}},
    "fusion,bf16,int8": {"fusion": {}, "bf16": {"fc": False}, "int8": {}},
}
ROLES = {
    "wdl": ["features", "embedding", "fc"],
    "dlrm": ["features", "embedding", "fc", "interaction"],
    "din": ["features", "embedding", "fc", "attention"],
    "dien": ["features", "embedding", "fc", "attention", "recurrent"],
}


def tolerance(plan: str) -> float:
    return score_tolerance(plan.split(","))


def batches(split: Split) -> Iterator[Batch]:
    """One user, all users, and one user row per sample, of 1 to 100 samples."""
    rng = np.random.default_rng(11)
    for samples in (1, 2, 7, 16, 33, 100):
        one_user = np.arange(min(samples, int(split.groups[1]))) + split.groups[2]
        anyone = np.sort(rng.integers(0, len(split), samples))
        yield split.batch(one_user)
        yield split.batch(anyone)
        yield split.training_batch(anyone)


@pytest.fixture(scope="module")
def asked(request: pytest.FixtureRequest) -> Callable[[str, str], tuple[Any, list[tuple[Batch, Float32]]]]:
    """A model on data, and each query with the reference's scores: every plan is held to the same ones."""
    made: dict[tuple[str, str], tuple[Any, list[tuple[Batch, Float32]]]] = {}

    def of(data: str, model: str) -> tuple[Any, list[tuple[Batch, Float32]]]:
        if (data, model) not in made:
            served = request.getfixturevalue(data)(model)
            reference = served.session({})
            made[data, model] = served, [(batch, reference.predict(batch)) for batch in batches(served.split)]
        return made[data, model]

    return of


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("data", ["every_column", "planted"])
def test_scores_agree(asked: Callable[[str, str], Any], data: str, model: str, plan: str) -> None:
    if {"packed_weights", "bf16"} <= PLANS[plan].keys() and not bf16_can_be_packed():
        pytest.skip("oneDNN packs bfloat16 only on processors with AVX512 or AVX-NE-CONVERT")
    served, queries = asked(data, model)
    first = served.session(PLANS[plan])
    sessions = [first] if "dedup" in plan else [first, served.session(PLANS[plan], expand="late")]
    assert all(step["matched"] and not step["fallbacks"] for step in first.report)
    spread = []
    for batch, expected in queries:
        spread.append(np.ptp(expected))
        for session in sessions:
            scores = session.predict(batch)
            assert scores.shape == (len(batch),) and scores.dtype == np.float32
            np.testing.assert_allclose(scores, expected, rtol=0, atol=tolerance(plan))
    # Scores that are all alike would agree whatever the blocks compute.
    assert max(spread) > 8 * tolerance(plan)


@pytest.mark.parametrize("asked_for", ["packed_weights,bf16", "packed_weights,dedup,bf16"])
def test_bf16_that_cannot_be_packed_is_kept_and_said(
    asked_for: str, planted: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor without the instructions the products stay in bfloat16, with their weights as they are.

    The model's outermost layer stays in fp32, and is packed.
    """
    monkeypatch.setattr(lower_torch, "bf16_can_be_packed", lambda: False)
    served = planted("wdl")
    session = served.session(PLANS[asked_for])
    steps = {step["name"]: step for step in session.report}
    assert steps["bf16"]["matched"] and not steps["bf16"]["fallbacks"]
    assert steps["packed_weights"]["matched"] == ["out"]
    assert steps["packed_weights"]["fallbacks"]
    assert all("AVX512" in fallback["reason"] for fallback in steps["packed_weights"]["fallbacks"])
    batch = next(batches(served.split))
    reference = served.session({}).predict(batch)
    np.testing.assert_allclose(session.predict(batch), reference, rtol=0, atol=tolerance(asked_for))


FUSED = [plan for name, plan in PLANS.items() if "fusion" in name]


@pytest.mark.parametrize("plan", FUSED, ids=",".join)
@pytest.mark.parametrize("model", MODELS)
def test_one_program_gives_the_scores_of_its_blocks(
    every_column: Callable[[str], Any], model: str, plan: dict[str, Any]
) -> None:
    """Same kernels, same operands; the last sigmoid and the order of the two logits' sum may round otherwise."""
    served = every_column(model)
    for expand in ("first", "late"):
        if expand == "first" and "dedup" in plan:
            continue
        whole, blocks = (
            served.session({**plan, "fusion": {"program": program}}, expand=expand) for program in (True, False)
        )
        (fusion,) = (step for step in whole.report if step["name"] == "fusion")
        assert "passes.program" in fusion["matched"]
        for batch in batches(served.split):
            np.testing.assert_allclose(whole.predict(batch), blocks.predict(batch), rtol=0, atol=3e-7)


@pytest.mark.parametrize(("model", "role"), [(model, role) for model in MODELS for role in ROLES[model]])
def test_each_role_alone_agrees(asked: Callable[[str, str], Any], model: str, role: str) -> None:
    served, queries = asked("every_column", model)
    only = {each: each == role for each in ("features", "embedding", "fc", "interaction", "attention", "recurrent")}
    fused = served.session({"fusion": only})
    for batch, expected in queries:
        np.testing.assert_allclose(fused.predict(batch), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_two_threads_give_the_scores_of_one(planted: Callable[[str], Any], model: str) -> None:
    one, two = (planted(model).session({"fusion": {}}, threads=threads) for threads in (1, 2))
    for batch in batches(planted(model).split):
        np.testing.assert_array_equal(two.predict(batch), one.predict(batch))


@pytest.mark.parametrize("model", MODELS)
def test_a_query_gets_the_scores_of_its_parts(planted: Callable[[str], Any], model: str) -> None:
    """A sample's score depends on itself only, whatever else is in the batch."""
    served = planted(model)
    session = served.session({"fusion": {}})
    index = np.arange(40, dtype=np.int64) * 7
    whole = session.predict(served.split.batch(index))
    parts = [session.predict(served.split.batch(index[k : k + 3])) for k in range(0, 40, 3)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_an_id_outside_its_table_is_refused_as_by_the_reference(every_column: Callable[[str], Any], model: str) -> None:
    served = every_column(model)
    batch = served.split.batch(np.arange(20, dtype=np.int64))
    batch.item.ids[13, 1] = 9  # category is not hashed and has 9 rows
    messages = []
    for opts in ({}, {"fusion": {}}):
        with pytest.raises(IndexError) as caught:
            served.session(opts).predict(batch)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] == "field 'category' got the raw id 9; ids of its table lie in [0, 9) (or are -1)"


@pytest.mark.parametrize("model", MODELS)
def test_cuda_agrees(planted: Callable[[str], Any], model: str) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    served = planted(model)
    reference = served.session({})
    for plan in ({"fusion": {}}, {"bf16": {}}, {"tf32": {}}, {"dedup": {}}, {"dedup": {}, "bf16": {}}):
        session = served.session(plan, device="cuda")
        for batch in batches(served.split):
            np.testing.assert_allclose(session.predict(batch), reference.predict(batch), rtol=0, atol=4e-3)
