"""The slot ring: what the sender accepts, what it refuses, and what it makes of it. Both ends in this process."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest

from harness.sut.ring_server import Request, RingServer
from harness.traffic.ring_client import QueryLog, RingClient
from harness.traffic.segment import Status
from harness.transport.flight import Flight
from harness.transport.slots import ANSWER, GOOD, RingShape, create_shared
from harness.transport.wire import decode, encode
from zoo.schema import Split

SHAPE = RingShape(slots=4, request_bytes=65_536, max_samples=100)


@pytest.fixture
def ring() -> tuple[RingClient, RingServer]:
    memory = create_shared(SHAPE.total_bytes, "test-ring")
    take_requests, put_requests = os.pipe()
    take_done, put_done = os.pipe()
    server = RingServer(SHAPE, os.dup(memory), take_requests, put_done)
    return RingClient(SHAPE, memory, put_requests, take_done, Flight()), server


def _ask(client: RingClient, server: RingServer, sizes: list[int]) -> list[Request]:
    client.begin(QueryLog(sizes))
    for index in range(len(sizes)):
        client.send(index, memoryview(bytes([index]) * 24))
    return server.take(0) or []


def test_payloads_arrive_in_order_and_answers_return(ring: tuple[RingClient, RingServer], split: Split) -> None:
    client, server = ring
    payload = encode(split.batch(np.arange(5)))
    client.begin(QueryLog([5]))
    client.send(0, memoryview(payload))
    (request,) = server.take() or []
    np.testing.assert_array_equal(decode(request.payload).item.ids, split.item.ids[:5])
    scores = np.arange(5, dtype=np.float32) / 7
    server.answer(request, scores, GOOD, 123, 2)
    assert client.receive() == 1
    columns = client.log.arrays()
    np.testing.assert_array_equal(columns["scores"], scores)
    assert columns["status"].tolist() == [Status.ANSWERED]
    assert (columns["started"][0], columns["worker"][0]) == (123, 2)
    assert columns["sent"][0] <= columns["dequeued"][0] <= columns["done"][0]


def test_out_of_order_answers_are_fine(ring: tuple[RingClient, RingServer]) -> None:
    client, server = ring
    requests = _ask(client, server, [1, 2, 3])
    for request, size in zip(reversed(requests), (3, 2, 1), strict=True):
        server.answer(request, np.full(size, size, np.float32), GOOD, 1, 0)
    client.receive()
    assert client.log.status == [Status.ANSWERED] * 3
    np.testing.assert_array_equal(client.log.arrays()["scores"], [1, 2, 2, 3, 3, 3])


def test_others_are_told_how_many_queries_are_in_flight(ring: tuple[RingClient, RingServer]) -> None:
    client, server = ring
    other = Flight(os.dup(client.flight.descriptor))
    seen = [other.get()]
    requests = _ask(client, server, [1] * 6)
    seen.append(other.get())
    for request in requests[:3]:
        server.answer(request, np.zeros(1, np.float32), GOOD, 1, 0)
    client.receive()
    seen.append(other.get())
    client.close()
    assert [*seen, other.get()] == [0, 4, 1, 0]


def test_no_free_slot_drops_the_query(ring: tuple[RingClient, RingServer]) -> None:
    client, server = ring
    requests = _ask(client, server, [1] * 6)
    assert len(requests) == 4
    assert client.log.status[4:] == [Status.DROPPED] * 2
    assert client.log.sent[4:] == [-1, -1]


def test_a_full_pipe_drops_the_query(ring: tuple[RingClient, RingServer]) -> None:
    client, _ = ring
    while True:
        try:
            os.write(client.requests, bytes(8))
        except BlockingIOError:
            break
    client.begin(QueryLog([1]))
    client.send(0, memoryview(b"payload."))
    assert client.log.status == [Status.DROPPED]
    assert (client.log.sent, client.in_flight, len(client.free), client.dead) == ([-1], 0, 4, False)


@pytest.mark.parametrize("count", [0, 1, 3, 99])
def test_wrong_length(ring: tuple[RingClient, RingServer], count: int) -> None:
    client, server = ring
    (request,) = _ask(client, server, [2])
    server.answer(request, np.zeros(count, np.float32), GOOD, 1, 0)
    client.receive()
    assert client.log.status == [Status.WRONG_LENGTH]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite(ring: tuple[RingClient, RingServer], bad: float) -> None:
    client, server = ring
    requests = _ask(client, server, [2, 2])
    server.answer(requests[0], np.array([0.5, bad], np.float32), GOOD, 1, 0)
    server.answer(requests[1], np.array([0.5, 0.25], np.float32), GOOD, 1, 0)
    client.receive()
    columns = client.log.arrays()
    assert columns["status"].tolist() == [Status.NOT_FINITE, Status.ANSWERED]
    np.testing.assert_array_equal(columns["scores"], [np.nan, np.nan, 0.5, 0.25])


def test_error_status_is_a_failed_query(ring: tuple[RingClient, RingServer]) -> None:
    client, server = ring
    (request,) = _ask(client, server, [2])
    server.answer(request, np.zeros(2, np.float32), 1, 1, 0)
    client.receive()
    assert client.log.status == [Status.FAILED]


def test_answering_twice_counts_once(ring: tuple[RingClient, RingServer]) -> None:
    client, server = ring
    (request,) = _ask(client, server, [1])
    server.answer(request, np.ones(1, np.float32), GOOD, 1, 0)
    server.answer(request, np.zeros(1, np.float32), GOOD, 1, 0)
    client.receive()
    assert client.log.status == [Status.ANSWERED]
    assert client.duplicates == 1
    assert sorted(client.free) == [0, 1, 2, 3]


def test_an_old_answer_does_not_settle_the_next_query_of_its_slot(ring: tuple[RingClient, RingServer]) -> None:
    client, server = ring
    (first,) = _ask(client, server, [1])
    server.answer(first, np.ones(1, np.float32), GOOD, 1, 0)
    client.receive()
    (second,) = _ask(client, server, [1])
    assert second.slot == first.slot
    os.write(server.done, struct.pack("<q", first.slot))
    assert client.receive() == 0
    assert (client.duplicates, client.in_flight) == (1, 1)
    server.answer(second, np.ones(1, np.float32), GOOD, 1, 0)
    client.receive()
    assert client.log.status == [Status.ANSWERED]


def test_an_answer_to_a_question_never_asked(ring: tuple[RingClient, RingServer]) -> None:
    client, server = ring
    (request,) = _ask(client, server, [1])
    request.sequence += 1
    server.answer(request, np.ones(1, np.float32), GOOD, 1, 0)
    client.receive()
    assert client.log.status == [Status.WRONG_SEQUENCE]


@pytest.mark.parametrize("slot", [-1, 4, 2**62, 3])  # slot 0 is in flight; 1 to 3 are free
def test_slots_that_are_not_in_flight(ring: tuple[RingClient, RingServer], slot: int) -> None:
    client, server = ring
    _ask(client, server, [1])
    assert client.owner.index(0) == 0
    os.write(server.done, struct.pack("<q", slot))
    assert client.receive() == 0
    assert client.duplicates == 1
    assert client.in_flight == 1


def test_slot_numbers_in_pieces(ring: tuple[RingClient, RingServer]) -> None:
    client, server = ring
    (request,) = _ask(client, server, [1])
    base = SHAPE.slot_offset(request.slot) + SHAPE.answer_offset
    ANSWER.pack_into(server.memory, base, request.sequence, 1, GOOD, 1, 1, 0)
    number = struct.pack("<q", request.slot)
    os.write(server.done, number[:3])
    assert client.receive() == 0
    os.write(server.done, number[3:])
    assert client.receive() == 1
    assert client.log.status == [Status.ANSWERED]


def test_abandoned_queries_keep_their_slot_until_they_are_answered(ring: tuple[RingClient, RingServer]) -> None:
    client, server = ring
    (request,) = _ask(client, server, [1])
    client.abandon()
    assert server.cancelled_before() == request.sequence + 1
    assert len(client.free) == 3
    server.answer(request, np.zeros(0, np.float32), 2, -1, -1)
    assert client.receive() == 1
    assert len(client.free) == 4
    assert client.duplicates == 0
    client.log.close(Status.UNFINISHED)
    assert client.log.status == [Status.UNFINISHED]
    assert client.log.done == [-1]


def test_a_closed_pipe_is_a_dead_sut(ring: tuple[RingClient, RingServer]) -> None:
    client, server = ring
    _ask(client, server, [1])
    os.close(server.done)
    client.receive()
    assert client.dead


def test_the_end_of_input_reaches_the_sut(ring: tuple[RingClient, RingServer]) -> None:
    client, server = ring
    client.close()
    assert server.take() is None


def test_a_slot_has_its_payloads_and_its_scores_where_the_client_puts_and_takes_them(
    ring: tuple[RingClient, RingServer], split: Split
) -> None:
    client, server = ring
    payloads = [encode(split.batch(np.arange(n))) for n in (5, 2)]
    client.begin(QueryLog([5, 2]))
    for index, payload in enumerate(payloads):
        client.send(index, memoryview(payload))
    for request, payload, count in zip(server.take() or [], payloads, (5, 2), strict=True):
        lies, scores = server.areas(request.slot)
        assert lies.nbytes == SHAPE.request_bytes and bytes(lies[: len(payload)]) == payload
        assert scores.nbytes == 4 * SHAPE.max_samples
        scores[: 4 * count] = np.full(count, count, np.float32).tobytes()
        server.announce(request, count, GOOD, 77, 3)
    assert client.receive() == 2
    np.testing.assert_array_equal(client.log.arrays()["scores"], [5.0] * 5 + [2.0] * 2)
    assert (client.log.started, client.log.worker) == ([77, 77], [3, 3])


def test_areas_of_a_ring_do_not_overlap() -> None:
    shape = RingShape(slots=3, request_bytes=1001, max_samples=7)
    assert shape.answer_offset >= 16 + 1001
    assert shape.stride >= shape.answer_offset + ANSWER.size + 4 * 7
    assert shape.slot_offset(2) + shape.stride == shape.total_bytes
    assert shape.slot_offset(1) % 64 == shape.answer_offset % 64 == 0
