"""What a query costs around its model, in its slot and through a batch: ``nox -s bench -- slots [MODEL ...]``.

Forty queries lie in a ring; one worker on this thread answers all of them, one way and the other, in alternating
order. Counted is the thread's processor time from the first number read to the last answer announced.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.clock import thread_cpu_ns
from harness.estimate.stats import log_t_interval
from harness.host.environment import hardware_class
from harness.sut.dispatch import Dispatcher
from harness.sut.in_place import InPlace
from harness.sut.model_session import steps_of, warm_up
from harness.sut.ring_server import RingServer
from harness.sut.server import Served, loop_of
from harness.sut.steps import Steps
from harness.traffic.ring_client import QueryLog, RingClient
from harness.transport.flight import Flight
from harness.transport.slots import RingShape, create_shared
from harness.transport.wire import encode, payload_bound
from optimizations.contract import Dispatch
from tests.bench.sessions import context_of, planted_of, session_of
from zoo.configs import MODELS
from zoo.schema import Dataset

PLAN = ("fusion", "dedup", "bf16")
SIZES = (1, 10, 100)
QUERIES, BLOCKS, PAIRS = 40, 8, 5
Loop = Callable[[RingServer], Dispatcher | InPlace]


def main(arguments: list[str]) -> int:
    """Print one line per model and query size."""
    parser = argparse.ArgumentParser(prog="tests.bench slots", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all")
    print(f"{hardware_class()}, one worker, one thread; processor time of a query through a batch over in its slot")
    for model in parser.parse_args(arguments).models or MODELS:
        bench_model(model)
    return 0


def bench_model(model: str) -> None:
    """Both ways of one model with random weights on planted data."""
    data = planted_of(model)
    context = context_of(model, data, threads=1)
    session = session_of(context, {name: {} for name in PLAN})
    steps = steps_of(session, Dispatch())
    warm_up(steps.predict, context.calibration, merged=1)
    ways: tuple[Loop, Loop] = (_through_batches(steps), lambda server: loop_of(server, Served(steps=steps)))
    for size in SIZES:
        logs, least = np.zeros((BLOCKS, PAIRS)), [np.inf, np.inf]
        for block, pair in np.ndindex(BLOCKS, PAIRS):
            taken = [0.0, 0.0]
            for way in (0, 1) if pair % 2 else (1, 0):
                taken[way] = served_us(ways[way], data, size)
                least[way] = min(least[way], taken[way])
            logs[block, pair] = np.log(taken[0] / taken[1])
        ratio, (low, high) = log_t_interval(np.median(logs, axis=1))
        times = f"at least {least[0]:.0f} / {least[1]:.0f} us"
        print(f"{model:<5} [{','.join(PLAN)}] n={size:<4} {ratio:5.2f}x [{low:.2f}, {high:.2f}]  ({times})")


def served_us(way: Loop, data: Dataset, size: int) -> float:
    """Processor time per query, in us, of ``QUERIES`` queries of ``size`` candidates that wait in a ring."""
    shape = RingShape(slots=QUERIES, request_bytes=payload_bound([data.test], size), max_samples=size)
    ring = create_shared(shape.total_bytes, "bench-slots")
    take_requests, put_requests = os.pipe()
    take_done, put_done = os.pipe()
    loop = way(RingServer(shape, os.dup(ring), take_requests, put_done))
    client = RingClient(shape, ring, put_requests, take_done, Flight())
    client.begin(QueryLog([size] * QUERIES))
    for query in range(QUERIES):
        user = query % (len(data.test.groups) - 1)
        client.send(query, memoryview(encode(data.test.batch(data.test.groups[user] + np.arange(size)))))
    os.close(put_requests)  # the loop ends with the last of them
    started = thread_cpu_ns()
    loop.run(_raise)
    taken = thread_cpu_ns() - started
    client.receive()
    if client.in_flight or not np.isfinite(client.log.arrays()["scores"]).all():
        raise RuntimeError("a query was not answered")
    for descriptor in (take_requests, put_done, take_done):
        os.close(descriptor)
    return taken / QUERIES / 1e3


def _through_batches(steps: Steps) -> Loop:
    return lambda server: Dispatcher(server, steps, Dispatch(), 1)


def _raise(error: BaseException) -> Any:
    raise error
