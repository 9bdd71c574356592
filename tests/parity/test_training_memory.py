"""What a training keeps: nothing of the steps behind it, and nothing at all once another one stands in its place."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from tests.parity.test_training_steps import training_of


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What dies here dies of itself, and not because the collector of cycles came by."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["din", "dien"])
def test_a_fused_step_keeps_nothing_of_the_attention_once_it_is_taken(name: str, no_collector: None) -> None:
    session, made = training_of(name, {"fusion": {}}), list[StorageWeakRef]()

    def note(module: torch.nn.Module, inputs: object, out: torch.Tensor) -> None:
        made.append(StorageWeakRef(out.untyped_storage()))

    session._learner.model.attention.register_forward_hook(note)
    session.train(5)
    assert len(made) == 5
    assert [each.expired() for each in made] == [True] * 5


PLANS: dict[str, dict[str, dict[str, int]]] = {
    "plain": {},
    "fusion": {"fusion": {}},
    "bf16": {"bf16": {}},
    "tf32": {"tf32": {}},
    "stage": {"stage": {"depth": 3, "threads": 2}},
    "smart_stage": {"smart_stage": {}},
    "micro_batch": {"micro_batch": {"parts": 3}},
    "stage,async_embedding": {"stage": {}, "async_embedding": {}},
    "fusion,stage,micro_batch": {"fusion": {}, "stage": {}, "micro_batch": {}},
}


@pytest.mark.parametrize(("name", "plan"), [*(("din", plan) for plan in PLANS), ("dien", "fusion,stage,micro_batch")])
def test_a_replaced_training_is_gone_with_its_threads(name: str, plan: str) -> None:
    """As a side replaces it: frozen while it trains, and collected once before the next one is opened."""
    before, replaced = set(threading.enumerate()), list[weakref.ref[torch.nn.Module]]()
    for _ in range(2):
        session = training_of(name, PLANS[plan])
        gc.freeze()
        session.train(3)
        session.read(2)
        session.hold(2)
        session.compute()
        replaced.append(weakref.ref(session._learner.model))
        del session
        gc.unfreeze()
        gc.collect()
        assert [model() for model in replaced] == [None] * len(replaced)
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=20)
        assert not thread.is_alive(), thread
