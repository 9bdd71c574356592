"""SUTs that misbehave, by ``spec["fault"]``, after ``spec["after"]`` good answers. Run as a program by the tests."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable

import numpy as np

from harness.clock import sleep_s
from harness.host.garbage import watch_collections
from harness.sut.ring_server import Request, RingServer
from harness.transport.channel import Channel
from harness.transport.slots import GOOD, RingShape
from harness.transport.wire import SAMPLES, SAMPLES_OFFSET

Fault = Callable[[RingServer, Request, np.ndarray], None]


def good(server: RingServer, request: Request, scores: np.ndarray) -> None:
    server.answer(request, scores, GOOD, request.dequeued_ns, 0)


def killed(server: RingServer, request: Request, scores: np.ndarray) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exits(server: RingServer, request: Request, scores: np.ndarray) -> None:
    print("a last line in the log", flush=True)
    os._exit(5)


def hangs(server: RingServer, request: Request, scores: np.ndarray) -> None:
    sleep_s(1000)


def silent(server: RingServer, request: Request, scores: np.ndarray) -> None:
    """Reads on, answers nothing."""


def twice(server: RingServer, request: Request, scores: np.ndarray) -> None:
    good(server, request, scores)
    good(server, request, scores)


def wrong_length(server: RingServer, request: Request, scores: np.ndarray) -> None:
    good(server, request, scores[:-1])


def nan(server: RingServer, request: Request, scores: np.ndarray) -> None:
    scores[-1] = np.nan
    good(server, request, scores)


def wrong_sequence(server: RingServer, request: Request, scores: np.ndarray) -> None:
    request.sequence += 7
    good(server, request, scores)


def error_status(server: RingServer, request: Request, scores: np.ndarray) -> None:
    server.answer(request, scores, 1, request.dequeued_ns, 0)


def collects(server: RingServer, request: Request, scores: np.ndarray) -> None:
    gc.collect()
    good(server, request, scores)


def unknown_slot(server: RingServer, request: Request, scores: np.ndarray) -> None:
    os.write(server.done, struct.pack("<q", 10**9))
    good(server, request, scores)


def flood(server: RingServer, request: Request, scores: np.ndarray) -> None:
    while True:
        os.write(server.done, struct.pack("<q", request.slot) * 512)


FAULTS: dict[str, Fault] = {
    function.__name__: function
    for function in (
        *(good, killed, exits, hangs, silent, twice, wrong_length, nan, wrong_sequence, error_status),
        *(unknown_slot, flood, collects),
    )
}


def burn_in_another_session() -> None:
    if os.fork() == 0:
        os.setsid()
        while True:
            pass


def burn_without_a_trace() -> None:
    """A grandchild of another session, whose parent has ended and whose environment is empty."""
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve(sys.executable, [sys.executable, "-c", "while True: pass"], {})
        os._exit(0)
    os.waitpid(child, 0)


def take_every_core() -> None:
    """One thread alone does, after it was started as it should be."""

    def everywhere() -> None:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        sleep_s(1000)

    threading.Thread(target=everywhere, daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--control", type=int)
    parser.add_argument("--parent", type=int)
    control = Channel(socket.socket(fileno=parser.parse_args().control))
    order, _ = control.receive()
    spec = order["spec"]
    server = RingServer(RingShape(**order["shape"]), **order["descriptors"])
    if spec["fault"] == "never_ready":
        sleep_s(1000)
    if spec["fault"] == "burns_beside":
        burn_in_another_session()
    if spec["fault"] == "burns_hidden":
        burn_without_a_trace()
    if spec["fault"] == "takes_cores":
        take_every_core()
    if spec["fault"] == "takes_precedence":
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) - 1)
    gc.disable()
    watch_collections(server.collected)
    fault = FAULTS.get(spec["fault"], good)
    control.send({"ready": {}})
    served, held = 0, list[Request]()
    while (requests := server.take()) is not None:
        for request in requests:
            (samples,) = SAMPLES.unpack_from(request.payload, SAMPLES_OFFSET)
            scores = np.full(samples, 0.5, np.float32)
            if spec["fault"] == "out_of_order":
                held.append(request)
                if len(held) == 2:
                    for waiting in reversed(held):
                        (size,) = SAMPLES.unpack_from(waiting.payload, SAMPLES_OFFSET)
                        good(server, waiting, np.full(size, waiting.sequence, np.float32))
                    held.clear()
                continue
            (good if served < spec["after"] else fault)(server, request, scores)
            served += 1


if __name__ == "__main__":
    main()
