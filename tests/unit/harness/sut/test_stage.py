"""Staged workers: what overlaps, what does not, in which order; errors and the end. The ring's both ends are here."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.clock import sleep_s
from harness.sut.steps import Steps
from harness.traffic.ring_client import QueryLog
from harness.traffic.segment import Status
from harness.transport.wire import encode
from optimizations.contract import Dispatch
from zoo.schema import Batch, Float32

Serve = Callable[..., Any]
SIZES = [10, 30, 100, 1, 20]
"""Of the queries that ``ask_all`` asks."""


class Overlapping:
    """Steps of which the lookup of 30 samples and the compute of 10 each wait for the other."""

    def __init__(self, predict: Callable[[Batch], Float32]) -> None:
        self.predict, self.overlap, self.order = predict, threading.Barrier(2, timeout=10.0), list[str]()
        self.steps = Steps(look_up=self.look_up, compute=self.compute)

    def look_up(self, batch: Batch) -> Batch:
        self.order.append(f"look up {len(batch)}")
        if len(batch) == 30:
            self.overlap.wait()
        return batch

    def compute(self, batch: Batch) -> Float32:
        if len(batch) == 10:
            self.overlap.wait()
        self.order.append(f"compute {len(batch)}")
        return self.predict(batch)


def test_the_next_query_is_looked_up_while_this_one_is_computed(serve: Serve) -> None:
    served = serve(Dispatch(stage=True))
    overlapping = Overlapping(served.dispatcher.steps.compute)
    served.dispatcher.steps = overlapping.steps
    served.ask_all()
    order = overlapping.order
    assert [step for step in order if step.startswith("compute")] == [f"compute {size}" for size in SIZES]
    assert order.index("look up 30") < order.index("compute 10")
    assert served.client.log.worker == [0] * 5


def test_one_query_is_taken_ahead_and_no_more(serve: Serve) -> None:
    """While the first query is computed for long, the second is looked up and the third stays in the pipe."""
    served = serve(Dispatch(stage=True))
    predict, go_on, seen = served.dispatcher.steps.compute, threading.Event(), list[int]()

    def look_up(batch: Batch) -> Batch:
        seen.append(len(batch))
        return batch

    def compute(batch: Batch) -> Float32:
        assert go_on.wait(10.0)
        scores: Float32 = predict(batch)
        return scores

    served.dispatcher.steps = Steps(look_up=look_up, compute=compute)
    asking = threading.Thread(target=served.ask_all, daemon=True)
    asking.start()
    for _ in range(1000):
        if len(seen) == 2:
            break
        sleep_s(0.002)
    sleep_s(0.05)
    assert sorted(seen) == SIZES[:2]
    go_on.set()
    asking.join(10.0)
    assert served.client.log.status == [Status.ANSWERED] * 5 and sorted(seen) == sorted(SIZES)


@pytest.mark.parametrize("samples", [1, 7])
def test_a_query_alone_waits_for_no_other(serve: Serve, samples: int) -> None:
    served = serve(Dispatch(stage=True))
    served.ask([np.arange(samples)])
    assert served.client.log.status == [Status.ANSWERED] and served.calls == [samples]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_answers_of_each_worker_keep_the_order_of_arrival(serve: Serve, workers: int) -> None:
    served = serve(Dispatch(stage=True), workers)
    sizes = [1 + 13 * k % 97 for k in range(60)]
    served.ask([np.arange(size) + 120 * (k % 7) for k, size in enumerate(sizes)])
    log = served.client.log
    assert not served.errors and log.status == [Status.ANSWERED] * 60 and set(log.worker) <= set(range(workers))
    for worker in range(workers):
        assert np.all(np.diff(np.array(log.done)[np.array(log.worker) == worker]) >= 0)
    if workers == 1:
        assert served.calls == sizes


@pytest.mark.parametrize("step", ["look_up", "compute"])
def test_an_error_beside_a_running_query_is_reported(serve: Serve, step: str) -> None:
    served = serve(Dispatch(stage=True))
    whole = Overlapping(served.dispatcher.steps.compute).steps

    def broken(batch: Batch) -> Any:
        found = getattr(whole, step)(batch)
        if len(batch) == 30:
            raise IndexError(f"in {step}: no such row")
        return found

    served.dispatcher.steps = dataclasses.replace(whole, **{step: broken})
    served.ask([np.arange(10), np.arange(30), np.arange(20)])
    assert [str(error) for error in served.errors] == [f"in {step}: no such row"]


def test_cancelled_queries_are_neither_looked_up_nor_computed(serve: Serve) -> None:
    served = serve(Dispatch(stage=True))
    client = served.client
    client.begin(QueryLog([20, 30]))
    client.send(0, memoryview(encode(served.split.batch(np.arange(20)))))
    client.abandon()
    client.send(1, memoryview(encode(served.split.batch(np.arange(30)))))
    threading.Thread(target=served.dispatcher.run, args=(served.errors.append,), daemon=True).start()
    while client.in_flight:
        client.receive()
        sleep_s(0.001)
    assert served.calls == [30] and client.log.status[1] == Status.ANSWERED


def test_the_end_of_input_comes_after_the_last_answer(serve: Serve) -> None:
    served = serve(Dispatch(stage=True), 2)
    client = served.client
    client.begin(QueryLog(SIZES))
    for index, size in enumerate(SIZES):
        client.send(index, memoryview(encode(served.split.batch(np.arange(size)))))
    os.close(client.requests)
    served.dispatcher.run(served.errors.append)
    client.receive()
    assert not served.errors and client.log.status == [Status.ANSWERED] * 5
