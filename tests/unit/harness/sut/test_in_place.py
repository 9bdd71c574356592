"""Queries that are scored in their slots: order, workers, cancelling, what is refused, the end. Both ends are here."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.clock import now_ns, sleep_s
from harness.sut.dispatch import Dispatcher
from harness.sut.in_place import InPlace
from harness.sut.server import build_null, loop_of
from harness.traffic.ring_client import QueryLog
from harness.traffic.segment import Status
from harness.transport.wire import HEADER, encode
from optimizations.contract import Dispatch
from zoo.schema import Batch, Split

Serve = Callable[..., Any]
SIZES = [10, 30, 100, 1, 20]
"""Of the queries that ``ask_all`` asks."""


def nothing(batch: Batch) -> bool:
    return False


def serving(served: Any) -> threading.Thread:
    """A thread that runs the loop."""
    thread = threading.Thread(target=served.dispatcher.run, args=(served.errors.append,), daemon=True)
    thread.start()
    return thread


def receive_all(client: Any) -> None:
    for _ in range(2000):
        client.receive()
        if not client.in_flight:
            return
        sleep_s(0.002)
    pytest.fail(f"{client.in_flight} queries are in flight")


@pytest.mark.parametrize("workers", [1, 3])
def test_scores_lie_in_the_slot_of_their_query(serve: Serve, workers: int) -> None:
    served = serve(Dispatch(), workers, refuse=nothing)
    assert isinstance(served.dispatcher, InPlace)
    served.ask_all()
    assert served.client.log.status == [Status.ANSWERED] * 5
    assert sorted(served.calls) == sorted(SIZES)
    assert set(served.client.log.worker) <= set(range(workers))


def test_one_worker_serves_in_the_order_of_arrival_with_stamps_of_the_one_clock(serve: Serve) -> None:
    served = serve(Dispatch(), refuse=nothing, pause=lambda batch: sleep_s(0.002))
    before = now_ns()
    served.ask_all()
    log = served.client.log
    assert served.calls == SIZES and log.worker == [0] * 5
    for sent, dequeued, started, done in zip(log.sent, log.dequeued, log.started, log.done, strict=True):
        assert before <= sent <= dequeued <= started <= done
    assert np.all(np.diff(log.started) >= 2_000_000)


def test_a_slot_is_told_the_size_of_its_payload(serve: Serve, split: Split) -> None:
    served = serve(Dispatch(), refuse=nothing)
    queries = [np.arange(100), np.arange(3)]
    served.ask(queries)
    assert served.sizes == [len(encode(split.batch(samples))) for samples in queries]


def test_several_workers_overlap(serve: Serve) -> None:
    together = threading.Barrier(3, timeout=10.0)
    served = serve(Dispatch(), 3, lambda batch: together.wait() and None, nothing)
    served.ask([np.arange(10), np.arange(130, 160), np.arange(200, 300)])
    assert not served.errors
    assert sorted(served.client.log.worker) == [0, 1, 2] and len(served.threads) == 3


def test_what_a_slot_refuses_is_answered_by_the_steps(serve: Serve) -> None:
    served = serve(Dispatch(), refuse=lambda batch: len(batch) == 30)
    served.ask_all()
    assert served.client.log.status == [Status.ANSWERED] * 5 and served.calls == SIZES


def test_a_malformed_payload_ends_the_loop_with_what_is_wrong(serve: Serve) -> None:
    served = serve(Dispatch(), refuse=nothing)
    client = served.client
    client.begin(QueryLog([10]))
    fields = list(HEADER.unpack_from(encode(served.split.batch(np.arange(10)))))
    client.send(0, memoryview(HEADER.pack(*fields[:5], -1, *fields[6:]) + bytes(4096)))
    serving(served).join(10.0)
    (error,) = served.errors
    assert isinstance(error, ValueError) and str(error) == "malformed payload: a count is out of range"


def test_offsets_are_checked_where_a_slot_has_refused(serve: Serve) -> None:
    """The steps of a refused query may read by them."""
    served = serve(Dispatch(), refuse=nothing)
    batch = served.split.batch(np.arange(10))
    client = served.client
    client.begin(QueryLog([10]))
    client.send(0, memoryview(encode(dataclasses.replace(batch, history_offsets=batch.history_offsets + 1))))
    serving(served).join(10.0)
    assert "offsets do not ascend" in str(served.errors[0]) and served.calls == []


def test_a_wrong_number_of_scores_of_the_steps_is_an_error_that_names_it(serve: Serve) -> None:
    served = serve(Dispatch(), refuse=lambda batch: True)
    served.dispatcher.steps = dataclasses.replace(served.dispatcher.steps, compute=lambda _: np.zeros(3, np.float32))
    served.ask([np.arange(10)])
    assert "answered (3,) for a batch of 10 samples" in str(served.errors[0])


def test_cancelled_queries_are_not_scored(serve: Serve) -> None:
    served = serve(Dispatch(), refuse=nothing)
    client = served.client
    client.begin(QueryLog([20, 4]))
    client.send(0, memoryview(encode(served.split.batch(np.arange(20)))))
    client.abandon()
    client.send(1, memoryview(encode(served.split.batch(np.arange(4)))))
    serving(served)
    receive_all(client)
    assert served.calls == [4]
    assert client.log.status[1] == Status.ANSWERED and len(client.free) == 64


def test_an_error_in_one_of_several_threads_is_reported(serve: Serve) -> None:
    def pause(batch: Batch) -> None:
        if len(batch) == 30:
            raise IndexError("no such row")

    served = serve(Dispatch(), 2, pause, nothing)
    served.ask([np.arange(10), np.arange(130, 160)])
    assert [str(error) for error in served.errors] == ["no such row"]


def test_the_end_of_input_ends_every_worker(serve: Serve) -> None:
    served = serve(Dispatch(), 3, refuse=nothing)
    runner = serving(served)
    served.client.close()
    runner.join(10.0)
    assert not runner.is_alive() and not served.errors


@pytest.mark.parametrize("dispatch", [Dispatch(split=16), Dispatch(batch=2), Dispatch(stage=True), Dispatch(parts=2)])
def test_what_is_split_merged_or_overlapped_goes_through_batches(serve: Serve, dispatch: Dispatch) -> None:
    assert isinstance(serve(dispatch, refuse=nothing).dispatcher, Dispatcher)


def test_without_a_bind_queries_go_through_batches(serve: Serve) -> None:
    assert isinstance(serve(Dispatch()).dispatcher, Dispatcher)


def test_the_null_system_answers_zeros_and_nothing_behind_them(serve: Serve) -> None:
    served = serve(Dispatch())
    served.dispatcher = loop_of(served.server, build_null({}))
    for slot in range(64):
        _, area = served.server.areas(slot)
        area[:] = b"\xff" * len(area)
    scores = served.ask([np.arange(3), np.arange(100)])
    assert [answer.tolist() for answer in scores] == [[0.0] * 3, [0.0] * 100]
    areas = [bytes(served.server.areas(slot)[1]) for slot in range(64)]
    assert sorted(len(area.rstrip(b"\xff")) for area in areas) == [0] * 62 + [12, 400]
