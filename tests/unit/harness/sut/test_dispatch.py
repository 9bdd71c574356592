"""The SUT's queue: order, splitting, merging, waiting, workers, cancelling. The ring's both ends in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.clock import sleep_s
from harness.sut.steps import one_step
from harness.traffic.ring_client import QueryLog
from harness.traffic.segment import Status
from harness.transport.wire import encode
from optimizations.contract import Dispatch

Serve = Callable[..., Any]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "dispatch",
    [
        Dispatch(),
        Dispatch(split=16),
        Dispatch(batch=3),
        Dispatch(split=7, batch=4, wait_ms=2.0),
        Dispatch(split=1, batch=64, wait_ms=1.0),
    ],
)
def test_scores_do_not_depend_on_splitting_merging_or_workers(serve: Serve, dispatch: Dispatch, workers: int) -> None:
    served = serve(dispatch, workers)
    served.ask_all()
    assert served.client.log.status == [Status.ANSWERED] * 5
    assert sum(served.calls) == 161


def test_without_options_queries_are_served_whole_and_in_order(serve: Serve) -> None:
    served = serve(Dispatch())
    served.ask_all()
    assert served.calls == [10, 30, 100, 1, 20]
    assert served.client.log.started == sorted(served.client.log.started)
    assert served.client.log.worker == [0] * 5


def test_splitting_cuts_at_the_limit(serve: Serve) -> None:
    served = serve(Dispatch(split=32))
    served.ask_all()
    assert served.calls == [10, 30, 32, 32, 32, 4, 1, 20]


def test_merging_takes_what_has_arrived_up_to_the_limit(serve: Serve) -> None:
    served = serve(Dispatch(batch=3))
    served.ask_all()
    assert served.calls == [10 + 30 + 100, 1 + 20]


@pytest.mark.parametrize("refuse", [None, lambda batch: False, lambda batch: True])
@pytest.mark.parametrize("dispatch", [Dispatch(), Dispatch(split=10), Dispatch(batch=3), Dispatch(split=4, batch=2)])
def test_a_query_of_no_samples_gets_no_scores_and_the_next_one_its_own(
    serve: Serve, dispatch: Dispatch, refuse: Callable[[Any], bool] | None
) -> None:
    """In both loops: what is split or merged is dispatched, what is scored in its slot is not."""
    served = serve(dispatch, refuse=refuse)
    queries = [np.arange(0), np.arange(20), np.arange(0), np.arange(0)]
    scores = served.ask(queries)
    assert not served.errors
    assert [len(each) for each in scores] == [0, 20, 0, 0]
    assert served.client.log.status == [Status.ANSWERED] * 4


def test_waiting_for_company_merges_later_arrivals(serve: Serve) -> None:
    served = serve(Dispatch(batch=2, wait_ms=2000.0))
    client = served.client
    client.begin(QueryLog([3, 4]))
    client.send(0, memoryview(encode(served.split.batch(np.arange(3)))))
    threading.Thread(target=served.dispatcher.run, args=(served.errors.append,), daemon=True).start()
    sleep_s(0.1)
    assert served.calls == []
    client.send(1, memoryview(encode(served.split.batch(np.arange(4)))))
    while client.in_flight:
        client.receive()
        sleep_s(0.001)
    assert served.calls == [7]


def test_several_workers_overlap(serve: Serve) -> None:
    together = threading.Barrier(3, timeout=10.0)
    served = serve(Dispatch(), 3, lambda batch: together.wait() and None)
    served.ask([np.arange(10), np.arange(130, 160), np.arange(200, 300)])
    assert not served.errors
    assert sorted(served.client.log.worker) == [0, 1, 2]
    assert len(served.threads) == 3


def test_cancelled_queries_are_not_computed(serve: Serve) -> None:
    served = serve(Dispatch(split=8))
    client = served.client
    client.begin(QueryLog([20, 20]))
    client.send(0, memoryview(encode(served.split.batch(np.arange(20)))))
    client.abandon()
    client.send(1, memoryview(encode(served.split.batch(np.arange(20)))))
    threading.Thread(target=served.dispatcher.run, args=(served.errors.append,), daemon=True).start()
    while client.in_flight:
        client.receive()
        sleep_s(0.001)
    assert served.calls == [8, 8, 4]
    assert client.log.status[1] == Status.ANSWERED
    assert len(client.free) == 64


def test_a_wrong_number_of_scores_is_an_error_that_names_it(serve: Serve) -> None:
    served = serve(Dispatch())
    served.dispatcher.steps = one_step(lambda batch: np.zeros(3, np.float32))
    served.ask([np.arange(10)])
    assert "answered (3,) for a batch of 10 samples" in str(served.errors[0])


def test_the_end_of_input_ends_every_worker(serve: Serve) -> None:
    served = serve(Dispatch(batch=4, wait_ms=1.0), 3)
    served.ask_all()
    before = threading.active_count()
    served.client.close()
    for _ in range(1000):
        if threading.active_count() <= before - 3:
            break
        sleep_s(0.002)
    assert threading.active_count() <= before - 3
    assert not served.errors
