"""micro_batch and stage: whatever overlaps, the scores are those of queries served whole, one after another."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.clock import sleep_s
from harness.sut.dispatch import Dispatcher
from harness.sut.model_session import steps_of
from harness.sut.ring_server import RingServer
from harness.traffic.ring_client import QueryLog, RingClient
from harness.transport.flight import Flight
from harness.transport.slots import RingShape, create_shared
from harness.transport.wire import encode, payload_bound
from optimizations.plan import first_pipeline, resolve
from tests.parity.tolerances import score_tolerance
from zoo.schema import Batch, Float32, Split

MODELS = ["wdl", "din", "dien", "dlrm"]
BLOCKS = {"program": False}
"""What overlaps has two steps; a program has one, and its last sigmoid rounds otherwise."""
TOGETHER: dict[str, dict[str, Any]] = {
    "": {},
    "fusion": {"fusion": BLOCKS},
    "dedup": {"dedup": {}},
    "fusion,dedup": {"fusion": BLOCKS, "dedup": {}},
    "fusion,bf16": {"fusion": BLOCKS, "bf16": {}},
    "fusion,dedup,executor": {"fusion": BLOCKS, "dedup": {}, "executor": {"workers": 2}},
}
OVERLAPPED: dict[str, dict[str, Any]] = {
    "micro_batch": {"micro_batch": {}},
    "stage": {"stage": {}},
    "micro_batch,stage": {"micro_batch": {"parts": 5}, "stage": {}},
}


def queries(split: Split) -> list[Batch]:
    """One sample, fewer samples than parts, one user, many users, one user row per sample; 27 queries in all."""
    rng = np.random.default_rng(7)
    found = []
    for samples in (1, 2, 3, 4, 7, 16, 33, 64, 100):
        anyone = np.sort(rng.integers(0, len(split), samples))
        found.append(split.batch(np.arange(min(samples, int(split.groups[1]))) + split.groups[2]))
        found += [split.batch(anyone), split.training_batch(anyone)]
    return found


def answers(plan: Any, session: Any, split: Split, asked: list[Batch]) -> tuple[list[Float32], list[BaseException]]:
    """Scores of queries that wait in the ring of a dispatcher all at once, and what it reported."""
    shape = RingShape(slots=64, request_bytes=payload_bound([split], 100) + 8 * split.history.size, max_samples=100)
    memory = create_shared(shape.total_bytes, "test-ring")
    (take_requests, put_requests), (take_done, put_done) = os.pipe(), os.pipe()
    server = RingServer(shape, os.dup(memory), take_requests, put_done)
    client = RingClient(shape, memory, put_requests, take_done, Flight())
    client.begin(QueryLog([len(batch) for batch in asked]))
    for index, batch in enumerate(asked):
        client.send(index, memoryview(encode(batch)))
    dispatch, errors = plan.pipeline.dispatch, list[BaseException]()
    dispatcher = Dispatcher(server, steps_of(session, dispatch), dispatch, plan.pipeline.runtime.workers)
    threading.Thread(target=dispatcher.run, args=(errors.append,), daemon=True).start()
    while client.in_flight and not errors:
        client.receive()
        sleep_s(0.001)
    columns = client.log.arrays()
    bounds = columns["score_offsets"]
    if not errors:
        client.close()
    return [columns["scores"][a:b] for a, b in itertools.pairwise(bounds)], errors


def planned(served: Any, opts: dict[str, Any]) -> Any:
    context = served.context
    return resolve(first_pipeline(context.config, context.schema, "torch", "cpu", "serve"), opts, frozenset())


@pytest.mark.parametrize("overlapped", OVERLAPPED)
def test_no_program_where_there_are_two_steps(planted: Callable[[str], Any], overlapped: str) -> None:
    session = planted("din").session({"fusion": {}, **OVERLAPPED[overlapped]})
    fusion = next(step for step in session.report if step["name"] == "fusion")
    assert [each["path"] for each in fusion["fallbacks"]] == ["passes.program"]
    assert "in two steps" in fusion["fallbacks"][0]["reason"] and "passes.program" not in fusion["matched"]
    assert isinstance(session.look_up(planted("din").split.batch(np.arange(3))), tuple)


@pytest.fixture(scope="module")
def whole(every_column: Callable[[str], Any]) -> Callable[[str, str], list[Float32]]:
    """Scores of a model under a plan whose queries are served whole; each way to overlap is held to the same ones."""
    made: dict[tuple[str, str], list[Float32]] = {}

    def of(model: str, together: str) -> list[Float32]:
        if (model, together) not in made:
            served = every_column(model)
            session = served.session(TOGETHER[together])
            made[model, together] = [session.predict(batch) for batch in queries(served.split)]
        return made[model, together]

    return of


@pytest.mark.parametrize("overlapped", OVERLAPPED)
@pytest.mark.parametrize("together", TOGETHER)
@pytest.mark.parametrize("model", MODELS)
def test_scores_agree(
    every_column: Callable[[str], Any],
    whole: Callable[[str, str], list[Float32]],
    model: str,
    together: str,
    overlapped: str,
) -> None:
    served = every_column(model)
    opts = {**TOGETHER[together], **OVERLAPPED[overlapped]}
    session, asked = served.session(opts), queries(served.split)
    assert all(step["matched"] and not step["fallbacks"] for step in session.report)
    scores, errors = answers(planned(served, opts), session, served.split, asked)
    assert errors == []
    parts = "micro_batch" in opts
    tolerance = score_tolerance(opts) if parts else 0.0
    for got, expected in zip(scores, whole(model, together), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("opts", [{"micro_batch": {}}, {"stage": {}}, {"micro_batch": {}, "stage": {}}])
def test_a_bad_id_is_reported_whichever_thread_meets_it(
    every_column: Callable[[str], Any], opts: dict[str, Any]
) -> None:
    served = every_column("din")
    asked = queries(served.split)
    asked[10].item.ids[-1, 1] = 9  # category is not hashed and has 9 rows
    _, errors = answers(planned(served, opts), served.session(opts), served.split, asked)
    assert "field 'category' got the raw id 9" in str(errors[0])


@pytest.mark.parametrize("model", MODELS)
def test_the_boundary_lies_between_the_roles(planted: Callable[[str], Any], model: str) -> None:
    """Blocks of the roles features and embedding run in ``look_up`` only, all others in ``compute`` only."""
    served = planted(model)
    session, step, ran = served.session({}), "", dict[str, set[str]]()
    blocks = first_pipeline(served.context.config, served.context.schema, "torch", "cpu", "serve").blocks
    for block in blocks:

        def note(*_: object, path: str = block.path) -> None:
            ran.setdefault(path, set()).add(step)

        session._model.get_submodule(block.path).register_forward_pre_hook(note)
    step = "look up"
    found = session.look_up(served.split.batch(np.arange(20)))
    step = "compute"
    session.compute(found)
    ahead = ("features", "embedding")
    assert ran == {block.path: {"look up" if block.role in ahead else "compute"} for block in blocks}
