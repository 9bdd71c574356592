"""async_embedding: which rows a step has, by hand and in the models, and what becomes of an error beside it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.training.mathematics import other_mathematics
from optimizations.async_embedding.lookups import Lookups
from optimizations.contract import PlanError, Training
from tests.parity.test_training_steps import CONFIGS, plan_of, training_of
from zoo.layers.tensors import Embedded, Features, SideFeatures, TrainingInput
from zoo.learning import Given, Learner
from zoo.models.ctr_model import CtrModel
from zoo.training_config import training_config

STAGED: dict[str, Any] = {"stage": {}, "async_embedding": {}}
NONE = torch.zeros(1, 0)


class OneWeight(CtrModel):
    """A table of one row with one column, which is the logit."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1, 1, sparse=True, _weight=torch.zeros(1, 1))

    def embedded(self, features: Features) -> Embedded:
        """The row."""
        return Embedded(NONE, self.table(features.item.rows[:, 0]), NONE, NONE)

    def logit(self, features: Features, embedded: Embedded) -> Tensor:
        """Its column."""
        return embedded.item[:, 0]


def click() -> Sequence[Given]:
    """One sample of that row, clicked."""
    rows = torch.zeros(1, 1, dtype=torch.int64)
    side = SideFeatures(NONE, rows, rows[0, :0], torch.zeros(1, dtype=torch.int64))
    return [Given(TrainingInput(Features(side, side, NONE, torch.zeros(1), NONE, None)), torch.ones(1))]


def one_weight() -> tuple[OneWeight, Learner]:
    model = OneWeight()
    descent = torch.optim.SGD(model.parameters(), lr=1.0)
    return model, Learner(model, training_config("dlrm", {"final_lr_share": 1.0}), 100, [descent])


def test_a_step_has_the_row_of_two_updates_before_by_hand() -> None:
    """With log loss of a click, rate 1 and logit w, an update is w += 1 - sigmoid(row): the row's own if it is fresh.

    w0 = 0. Step 1 has w0, with nothing before it: w1 = 0.5. Step 2 has w0: w2 = 1. Step 3 has w1: w3 = 1 + 1 -
    sigmoid(0.5) = 1.3775407. Step 4 has w2: w4 = 1.3775407 + 1 - sigmoid(1) = 1.6464821. A new stretch: step 5 has w4,
    w5 = 1.6464821 + 1 - sigmoid(1.6464821) = 1.8080671; step 6 has w4, w6 = 1.9696520.
    """
    model, learner = one_weight()
    lookups, seen = Lookups(learner, 1, lambda: None), []
    for stretch in (4, 2):
        for _ in lookups.learn(iter([click()] * stretch)):
            seen.append(model.table.weight.item())
    np.testing.assert_allclose(seen, [0.5, 1.0, 1.3775407, 1.6464821, 1.8080671, 1.9696520], atol=2e-6)
    assert lookups.stalest == 1 and learner.steps == 6


def test_without_a_lag_every_row_is_fresh_by_hand() -> None:
    model, learner = one_weight()
    lookups = Lookups(learner, 0, lambda: None)
    seen = [model.table.weight.item() for _ in lookups.learn(iter([click()] * 3))]
    np.testing.assert_allclose(seen, [0.5, 0.8775407, 1.1712283], atol=2e-6)
    assert lookups.stalest == 0


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_without_a_lag_no_bit_changes(name: str, fused: bool) -> None:
    opts: dict[str, Any] = {"fusion": {}, "stage": {}} if fused else {"stage": {}}
    plain, fresh = training_of(name, opts), training_of(name, {**opts, "async_embedding": {}})
    assert fresh._stream is not None
    fresh._stream = Lookups(fresh._stream._learner, 0, lambda: None)
    for session in (plain, fresh):
        assert session.train(4) == 160
        assert session.hold(3) == session.compute() == 100
    for (path, mine), theirs in zip(fresh.state().items(), plain.state().values(), strict=True):
        assert np.array_equal(mine, theirs), path


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_the_vectors_of_a_step_are_those_of_the_tables_one_update_ago(name: str, fused: bool) -> None:
    """To the last bit, looked up again by the reference in tables that were kept after every update."""
    session = training_of(name, {**STAGED, **({"fusion": {}} if fused else {})})
    lookups, reference = session._stream, training_of(name, {})._learner.model
    assert lookups is not None
    states, used = [{path: array.copy() for path, array in session.state().items()}], []
    step = lookups._step

    def watched(current: Any, coming: Any) -> Any:
        used.append((current.given.input.features, [each.detach().clone() for each in current.embedded[:4]]))
        following = step(current, coming)
        states.append({path: array.copy() for path, array in session.state().items()})
        return following

    lookups._step = watched  # type: ignore[method-assign]
    session.train(4)
    session.train(3)
    fresh = [0, 4]  # the first steps of both stretches
    for number, (features, vectors) in enumerate(used):
        reference.load_state_dict(
            {path: torch.from_numpy(array) for path, array in states[number if number in fresh else number - 1].items()}
        )
        expected = reference.embedded(features)
        real = (torch.arange(features.history.shape[1]) < features.lengths.unsqueeze(1)).unsqueeze(-1)
        vectors[3], history = vectors[3] * real, expected.history * real  # a fused lookup leaves padding at zero
        for mine, theirs in zip(vectors, (*expected[:3], history), strict=True):
            assert torch.equal(mine, theirs), number
    assert lookups.stalest == 1


def test_the_plan_says_how_stale_rows_may_be() -> None:
    report = {line["name"]: line for line in training_of("wdl", STAGED).report}
    assert report["async_embedding"]["built"]["staleness_steps"] == 1
    assert report["async_embedding"]["matched"] == ["train.lookup_lag"]


def test_a_lookup_that_fails_ends_the_training_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    session = training_of("dlrm", STAGED)
    session.train(1)
    model = session._learner.model

    def breaks(features: Features) -> Embedded:
        raise MemoryError("no room for the vectors")

    monkeypatch.setattr(model, "embedded", breaks)
    with pytest.raises(MemoryError, match="no room for the vectors") as caught:
        session.train(3)
    assert "breaks" in [frame.name for frame in caught.traceback]


def test_an_input_that_fails_ends_it_too_and_so_does_a_step() -> None:
    _, learner = one_weight()
    lookups = Lookups(learner, 1, lambda: None)

    def inputs() -> Iterator[Sequence[Given]]:
        yield click()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(lookups.learn(inputs()))
    assert learner.steps == 0  # the input of the second step was waited for beside the first
    (good,) = click()
    bad = good._replace(labels=torch.ones(2))
    with pytest.raises(ValueError, match="size"):
        list(lookups.learn(iter([[bad], [good]])))
    assert len(list(lookups.learn(iter([[good], [good]])))) == 2  # the thread is there for the next stretch


def test_its_thread_has_begun_before_the_first_step() -> None:
    """What it sets of the framework, as the number of threads, is set before whoever computes sets it for itself."""
    begun: list[int] = []
    _, learner = one_weight()
    lookups = Lookups(learner, 1, lambda: begun.append(threading.get_ident()))
    assert len(begun) == 1 and begun[0] != threading.get_ident()
    assert len(list(lookups.learn(iter([click()] * 3)))) == 3 and len(begun) == 1


def test_more_than_one_update_is_refused() -> None:
    _, learner = one_weight()
    with pytest.raises(ValueError, match="rows may miss 0 to 1 updates, not 2"):
        Lookups(learner, 2, lambda: None)


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        ({"async_embedding": {}}, r"'async_embedding' requires stage: write opt=\[async_embedding,stage\]"),
        ({**STAGED, "smart_stage": {}}, r"'async_embedding' and 'smart_stage' exclude each other"),
        ({**STAGED, "micro_batch": {}}, r"'async_embedding' and 'micro_batch' exclude each other"),
        ({"stage": {}, "smart_stage": {}}, r"'smart_stage' and 'stage' exclude each other"),
    ],
)
def test_plans_that_do_not_go_together_are_named(opts: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        plan_of("wdl", opts)


def test_they_write_how_a_step_is_taken_and_their_division() -> None:
    stale, smart = plan_of("wdl", STAGED), plan_of("wdl", {"smart_stage": {"depth": 3}})
    assert stale.pipeline.train == Training(prefetch=2, prefetch_threads=1, lookup_lag=1)
    assert smart.pipeline.train == Training(prefetch=3, prefetch_threads=1, derived=True)
    assert (stale.division, smart.division) == ("open", "closed")
    assert other_mathematics(stale.steps, 0.0) == "'async_embedding' trains with other mathematics than the baseline"
    assert other_mathematics(smart.steps, 0.0) == ""
