"""One rank of a training: ``python -m harness.sut.rank_server --address NAME --parent PID``, with the environment that
``torchrun`` gives to its workers.

It connects to the Unix socket of that (abstract) name and says which rank it is: ``{"rank": r}``. Then it obeys.

* ``spec``: open that training (``harness.sut.training_server.open_training``) in place of the one before it. Answer:
  ``{"ready": {"plan": report, "threads": N, "samples": N}}``.
* ``train``, ``read``, ``hold``, ``compute``, ``resume``: as in ``harness.sut.training_server``; samples are this
  rank's.
* ``state``, ``kept``: send this rank's part of the weights, as messages ``{"parts": [[name, rows, first], ...]}`` with
  the arrays "0", "1", ...: of a table of so many rows in all, those from the first on; of any other array rank 0 sends
  all, and its rows are None. Answer: ``{"samples": 0}``.

Any exception is sent as ``{"error": traceback}`` and ends the process with code 1.
"""

from __future__ import annotations

import argparse
import gc
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch.distributed as dist

from harness.backends.protocol import TrainSession
from harness.host.scheduling import die_with_parent, sharpen_timers
from harness.sut.error_report import ErrorReport
from harness.sut.training_server import open_training
from harness.transport.channel import Channel, ChannelClosedError
from optimizations.sharded_embedding.row_plan import own_rows, table_rows
from zoo.schema import Schema

PART_BYTES = 4 * 2**20
"""Of the weights, at a time."""
Part = tuple[str, int | None, int, npt.NDArray[Any]]
"""Name, rows of the table in all, the first one that is here, rows."""


class RankServer:
    """A rank at the orders of the other end of ``control``."""

    def __init__(self, control: Channel, rank: int, ranks: int) -> None:
        self._control, self._rank, self._ranks = control, rank, ranks
        self._session: TrainSession | None = None
        self._rows: Mapping[str, int] = {}

    def serve(self) -> None:
        """Obey until the other end is closed."""
        while True:
            try:
                order, _ = self._control.receive()
            except ChannelClosedError:
                return
            self._control.send(self._opened(order["spec"]) if "spec" in order else {"samples": self._obeyed(order)})

    def _opened(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        self._session = None
        gc.unfreeze()
        gc.collect()  # the tables of the training before it are gone before the new ones come
        session = open_training(spec)
        gc.collect()
        gc.freeze()
        self._session, self._rows = session, table_rows(Schema.from_json(spec["schema"]))
        return {"ready": {"plan": session.report, "threads": session.threads, "samples": session.samples}}

    def _obeyed(self, order: Mapping[str, Any]) -> int:
        session = self._session
        assert session is not None, "a training is opened before it is ordered about"
        commands: dict[str, Callable[[], int]] = {
            "train": lambda: session.train(order["steps"], order["at"]),
            "read": lambda: session.read(order["steps"]),
            "hold": lambda: session.hold(order["steps"]),
            "compute": session.compute,
            "resume": lambda: self._resumed(session, order),
            "state": lambda: self._sent(session.state()),
            "kept": lambda: self._sent(session.kept()),
        }
        return commands[order["command"]]()

    @staticmethod
    def _resumed(session: TrainSession, order: Mapping[str, Any]) -> int:
        session.resume(Path(order["path"]))
        return 0

    def _sent(self, weights: Mapping[str, npt.NDArray[Any]]) -> int:
        waiting: list[Part] = []
        for part in self._parts(weights):
            waiting.append(part)
            if sum(array.nbytes for *_, array in waiting) >= PART_BYTES:
                self._send(waiting)
                waiting = []
        self._send(waiting)
        return 0

    def _send(self, parts: list[Part]) -> None:
        listed = [[name, rows, first] for name, rows, first, _ in parts]
        self._control.send({"parts": listed}, {str(number): array for number, (*_, array) in enumerate(parts)})

    def _parts(self, weights: Mapping[str, npt.NDArray[Any]]) -> Iterator[Part]:
        for name, array in weights.items():
            rows = self._rows.get(name)
            if rows is not None:
                own = own_rows(rows, self._rank, self._ranks)
                some = max(1, PART_BYTES // max(1, array[:1].nbytes))
                for first in range(0, len(own), some):
                    yield name, rows, own.start + first, array[first : min(first + some, len(own))]
            elif self._rank == 0:
                yield name, None, 0, array


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="harness.sut.rank_server")
    parser.add_argument("--address", required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    die_with_parent(options.parent)
    sharpen_timers()
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(f"\0{options.address}")
    control = Channel(connection)
    control.send({"rank": rank})
    failed = ErrorReport(control)
    try:
        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all ranks are on this machine
        dist.init_process_group("gloo")
        RankServer(control, rank, ranks).serve()
        dist.destroy_process_group()
    except Exception as error:
        failed(error)


if __name__ == "__main__":
    main()
