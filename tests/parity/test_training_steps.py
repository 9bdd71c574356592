"""Ways to take steps against the plain ones: batches in parts, and inputs that are prepared ahead."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backends.protocol import TrainingContext
from harness.backends.torch_training import TorchTraining, lower_training
from optimizations.contract import Plan
from optimizations.lowering import LoweringError
from optimizations.micro_batch.pipelines import Pipelines, replica
from optimizations.plan import first_pipeline, resolve
from zoo.configs import DienConfig, DinConfig, DlrmConfig, ModelConfig, WdlConfig
from zoo.datasets import load_dataset
from zoo.learning import Learner, PlainSteps
from zoo.models import build_model
from zoo.schema import Dataset
from zoo.training_batches import TrainingBatches
from zoo.training_config import TrainingConfig, training_config

CONFIGS: dict[str, ModelConfig] = {
    "wdl": WdlConfig(embedding_dim=4, large_dim=6, deep_units=(16, 8)),
    "din": DinConfig(embedding_dim=4, attention_units=(8, 4), top_units=(12, 6)),
    "dien": DienConfig(
        embedding_dim=4, hidden_units=5, attention_units=(8, 4), auxiliary_units=(6, 4), top_units=(12, 6)
    ),
    "dlrm": DlrmConfig(embedding_dim=4, bottom_units=(8, 4), top_units=(12, 6)),
}
NO_GRADIENT = ("attention.score.linear.bias",)
"""DIEN's: a softmax does not see it, and what moves it is rounding."""
SETTINGS = {"batch_size": 40, "threads": 2, "average": 0.9}


def data(name: str) -> Dataset:
    shape = "sequence" if name in ("din", "dien") else "pointwise"
    counts = {"train_users": 60, "valid_users": 2, "test_users": 2, "train_candidates": 3, "max_history": 8}
    return load_dataset("planted", {"shape": shape, "size": "tiny", **counts}, Path("unused"))


DATA = {name: data(name) for name in CONFIGS}


def learner_of(name: str, training: TrainingConfig, precision: torch.dtype) -> tuple[TrainingBatches, Learner]:
    torch.manual_seed(3)
    model = build_model(CONFIGS[name], DATA[name].schema).to(precision)
    batches = TrainingBatches(DATA[name].train, training.batch_size, 5, model.needs_negatives)
    return batches, Learner(model, training, 50)


@pytest.mark.parametrize("name", list(CONFIGS))
@settings(max_examples=4)
@given(parts=st.integers(2, 9), size=st.integers(1, 60))
def test_parts_learn_what_the_batch_does(name: str, parts: int, size: int) -> None:
    """In double precision, where the order of a sum is nothing: parameters, averages and buffers after three steps."""
    training = training_config(name, {**SETTINGS, "batch_size": size})
    batches, plain = learner_of(name, training, torch.float64)
    others, learner = learner_of(name, training, torch.float64)
    one, other = PlainSteps(batches, plain), Pipelines(others, learner, parts, 2)
    for step in range(3):
        one.step(batches.draw())
        other.step(others.draw()) if step % 2 else other.learn(other.prepare(others.draw()))
    for (path, mine), theirs in zip(learner.model.state_dict().items(), plain.model.state_dict().values(), strict=True):
        if path not in NO_GRADIENT:
            torch.testing.assert_close(
                mine, theirs, rtol=1e-8, atol=1e-9, msg=lambda text, path=path: f"{path}: {text}"
            )


def test_parts_of_users_without_a_history_do_not_keep_the_others_waiting() -> None:
    """DIN's attention has no row to normalise in such a part, and still has to meet the other parts on the way back."""
    dataset = DATA["din"]
    split = dataset.train
    lengths = np.diff(split.history_offsets)
    lengths[: len(lengths) // 2] = 0
    empty = dataclasses.replace(
        split,
        history=split.history[: int(lengths.sum())],
        history_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )
    states = []
    for parts in (1, 4):
        torch.manual_seed(3)
        model = build_model(CONFIGS["din"], dataset.schema).double()
        batches, learner = TrainingBatches(empty, 60, 5, False), Learner(model, training_config("din", SETTINGS), 50)
        draw = batches.draw()
        draw = draw._replace(samples=np.sort(draw.samples))  # those without a history come first
        steps = PlainSteps(batches, learner) if parts == 1 else Pipelines(batches, learner, parts, 2)
        steps.step(draw)
        states.append(model.state_dict())
    for mine, theirs in zip(states[1].values(), states[0].values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-9)


def test_an_error_in_one_part_ends_the_step() -> None:
    batches, learner = learner_of("din", training_config("din", SETTINGS), torch.float32)
    steps = Pipelines(batches, learner, 3, 2)
    given_parts = steps.prepare(batches.draw())
    broken = given_parts[1].input.features._replace(lengths=given_parts[1].input.features.lengths[:-1])
    given_parts[1] = given_parts[1]._replace(input=given_parts[1].input._replace(features=broken))
    with pytest.raises((RuntimeError, IndexError), match=r"."):
        steps.learn(given_parts)
    steps.step(batches.draw())  # the threads are there for the next one


def test_layers_that_know_their_batch_otherwise_are_refused() -> None:
    model = build_model(CONFIGS["dlrm"], DATA["dlrm"].schema)
    model.top[0].activation = torch.nn.BatchNorm1d(12)
    with pytest.raises(LoweringError, match=r"top.0.activation normalises by its batch \(BatchNorm1d\)"):
        replica(model, lambda: None, 0)  # type: ignore[arg-type, return-value]


def test_a_replica_shares_memory_and_keeps_its_gradients() -> None:
    model = build_model(CONFIGS["dien"], DATA["dien"].schema)
    other = replica(model, lambda: None, 0)  # type: ignore[arg-type, return-value]
    assert [name for name, _ in other.named_parameters()] == [name for name, _ in model.named_parameters()]
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert mine is not theirs and mine.data_ptr() == theirs.data_ptr()
    assert [b.data_ptr() for b in model.buffers()] == [b.data_ptr() for b in other.buffers()]


def plan_of(name: str, opts: dict[str, dict[str, int]]) -> Plan:
    return resolve(first_pipeline(CONFIGS[name], DATA[name].schema, "torch", "cpu", "train"), opts, frozenset())


def training_of(name: str, opts: dict[str, dict[str, int]], **changes: object) -> TorchTraining:
    return lower_training(
        plan_of(name, opts),
        TrainingContext(
            schema=DATA[name].schema,
            config=CONFIGS[name],
            training=training_config(name, {**SETTINGS, **changes}),
            split=DATA[name].train,
            start=None,
            cache_dir=Path("unused"),
            device="cpu",
            threads=1,
        ),
    )


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("options", [{}, {"depth": 3, "threads": 2}])
def test_a_stage_changes_no_bit(name: str, options: dict[str, int]) -> None:
    sessions = []
    for opts in ({}, {"stage": options}):
        session = training_of(name, opts, dropout=0.2)
        assert session.train(4) == 160
        assert session.read(4) == 140  # 180 samples: the fifth batch has 20
        assert session.hold(3) == session.compute() == 100
        assert session.train(2) == 80
        sessions.append(session)
    plain, staged = sessions
    for (path, mine), theirs in zip(staged.state().items(), plain.state().values(), strict=True):
        assert np.array_equal(mine, theirs), path
    assert staged.report == [
        {
            "name": "stage",
            "matched": ["train.prefetch", "train.prefetch_threads"],
            "fallbacks": [],
            "build_s": 0.0,
        }
    ]


@pytest.mark.parametrize("name", ["wdl", "dien"])
def test_parts_and_a_stage_compose(name: str) -> None:
    opts = {"micro_batch": {"parts": 3}, "stage": {}}
    both, parts = training_of(name, opts), training_of(name, {"micro_batch": {"parts": 3}})
    for session in (both, parts):
        assert session.train(5) == 180
    for (path, mine), theirs in zip(both.state().items(), parts.state().values(), strict=True):
        assert np.array_equal(mine, theirs), path


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_the_fit_loop_ends_where_the_steps_do(average: float) -> None:
    """What is measured is what trains: the fit loop of the zoo and the session take the same steps."""
    from zoo.fitting import fit
    from zoo.training import weights_of

    settings_ = {**SETTINGS, "average": average, "max_epochs": 2, "evaluations": 1, "patience": 2, "seed": 4}
    fitted = fit(CONFIGS["dien"], DATA["dien"], training_config("dien", settings_), lambda progress: None)
    session = training_of("dien", {}, **settings_)
    session.train(fitted.best_step)
    before = {path: array.copy() for path, array in session.state().items()}
    kept = session.kept()
    for path, mine in weights_of(fitted.model).items():
        # The fit loop has looked at its averages before, which brings them up to date, and rounds.
        np.testing.assert_allclose(kept[path], mine, rtol=0, atol=1e-6 if average else 0, err_msg=path)
        assert np.array_equal(session.state()[path], before[path]), path
        assert average or np.array_equal(before[path], mine), path


def test_sides_start_from_given_weights_that_cannot_be_written() -> None:
    start = {name: np.array(array) for name, array in training_of("wdl", {}).state().items()}
    start["out.linear.bias"] += 1
    for array in start.values():
        array.flags.writeable = False
    context = TrainingContext(
        schema=DATA["wdl"].schema,
        config=CONFIGS["wdl"],
        training=training_config("wdl", SETTINGS),
        split=DATA["wdl"].train,
        start=start,
        cache_dir=Path("unused"),
        device="cpu",
        threads=1,
    )
    session = lower_training(plan_of("wdl", {}), context)
    assert all(np.array_equal(array, session.state()[name]) for name, array in start.items())
    session.train(1)
    moved = [name for name, array in start.items() if not np.array_equal(array, session.state()[name])]
    assert any(name.startswith("embedding.") for name in moved) and "out.linear.bias" in moved
