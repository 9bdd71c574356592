"""Contenders in processes of their own: only the one whose turn it is runs, all others are frozen.

Thread pools of frameworks go on spinning for a while after a query. In one process, or in processes that run at the
same time, one framework's pool would take the cores from the next one's query; frozen ones take nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.host.processes import ProcessGroup
from harness.transport.channel import Channel, ChannelClosedError
from tests.bench.peers.workload import QUERIES

BUILD_TIMEOUT_S = 1800.0
TURN_TIMEOUT_S = 120.0
TURN_NS = 20e6
"""About the time of a turn; at least one answer to every query."""
MOST_CYCLES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What became of building a contender. error: largest difference from eager's scores (None: own weights).

    reason: why it is not timed; "" where it is. build_s: from the reference to the first answer at every size.
    """

    name: str
    build_s: float | None = None
    error: float | None = None
    note: str = ""
    reason: str = ""


class FrozenContender:
    """One contender's process; frozen, except while it builds or answers."""

    def __init__(self, name: str, group: ProcessGroup, channel: Channel) -> None:
        self.name, self._group, self._channel = name, group, channel
        self._cycles: dict[int, int] = {}

    @staticmethod
    def start(name: str) -> FrozenContender:
        """A process that waits for its order."""
        channel, theirs = Channel.pair()
        with theirs, tempfile.TemporaryFile() as log:
            group = ProcessGroup.start(
                [
                    *(sys.executable, "-m", "tests.bench.peers.contender_process"),
                    *("--control", str(theirs.fileno()), "--parent", str(os.getpid())),
                ],
                cores=tuple(sorted(os.sched_getaffinity(0))),
                descriptors=[theirs.fileno()],
                environment={},
                log=os.fdopen(os.dup(log.fileno()), "rb"),
            )
        return FrozenContender(name, group, channel)

    def build(self, model: str, sizes: Sequence[int], threads: int, folder: Path) -> Standing:
        """Build and check it; afterwards it is frozen, or ended where it cannot take part."""
        order = {"model": model, "contender": self.name, "sizes": list(sizes), "threads": threads}
        self._channel.send({"kind": "build", **order, "folder": str(folder)})
        try:
            answer, _ = self._channel.receive(BUILD_TIMEOUT_S)
        except (ChannelClosedError, TimeoutError) as failure:
            tail = self._group.log_tail().splitlines()[-1:]
            return Standing(name=self.name, reason=f"its process ended while building: {' '.join(tail) or failure}")
        if answer["kind"] == "unfit":
            return Standing(name=self.name, reason=answer["reason"])
        self._cycles = {size: cycles_of(ns) for size, ns in zip(sizes, answer["service_ns"], strict=True)}
        self._group.freeze()
        return Standing(name=self.name, build_s=answer["build_s"], error=answer["error"], note=answer["note"])

    def turn(self, size: int) -> float:
        """Median ns of a query in one turn."""
        self._group.thaw()
        self._channel.send({"kind": "turn", "size": size, "cycles": self._cycles[size]})
        _, arrays = self._channel.receive(TURN_TIMEOUT_S)
        self._group.freeze()
        return float(np.median(arrays["times_ns"]))

    def end(self) -> None:
        """Kill it."""
        self._group.kill()
        self._channel.close()


def cycles_of(service_ns: float) -> int:
    """How often a turn answers all queries."""
    return int(np.clip(TURN_NS / (QUERIES * service_ns), 1, MOST_CYCLES))


@contextlib.contextmanager
def standing_contenders(
    names: Sequence[str], build: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], list[Standing]]]:
    """(contenders that can be timed by name, what became of each) for ``build``'s arguments; all end with the block."""
    ready: dict[str, Any] = {}
    found: list[Standing] = []
    started: list[FrozenContender] = []
    try:
        for name in names:
            one = FrozenContender.start(name)
            started.append(one)
            found.append(one.build(**build))
            if found[-1].reason:
                one.end()
            else:
                ready[name] = one
        yield ready, found
    finally:
        for one in started:
            one.end()
