"""The processes of a training on several ranks: started the way ``torchrun`` does, and ordered about over channels.

This process is their parent and no rank: its agent thread is PyTorch's elastic launcher, with a rendezvous of fixed
members, since one with heartbeats would take a side that was frozen for dead. They end with this process, however it
ends.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from harness.transport.channel import Arrays, Channel, ChannelClosedError

HERE = "127.0.0.1"
WATCH_S, LAST_WORDS_S = 0.5, 3.0
Hear = Callable[[Mapping[str, Any], Arrays], None]
"""Called with every message of a rank that is not its answer."""


class Ranks:
    """``count`` processes ``python -m harness.sut.rank_server``, one group of PyTorch's distributed package."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._end: BaseException | None = None
        name = f"recarena-{uuid.uuid4().hex}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(f"\0{name}")  # no file: nothing is left, whoever is killed when
            listener.listen(count)
            listener.settimeout(WATCH_S)
            self._agent = threading.Thread(target=self._launch, args=(name,), daemon=True)
            self._agent.start()
            found = dict(self._accepted(listener) for _ in range(count))
        self._channels = [found[rank] for rank in range(count)]

    def ask(self, header: Mapping[str, Any], hear: Hear | None = None) -> list[dict[str, Any]]:
        """Give all ranks an order and wait for their answers: by rank, messages with "ready" or "samples".

        Raises RuntimeError with what a rank said, or with how it ended, as soon as one fails.
        """
        answers: dict[int, dict[str, Any]] = {}
        try:
            for channel in self._channels:
                channel.send(header)
            while len(answers) < self._count:
                waiting = [rank for rank in range(self._count) if rank not in answers]
                ready, _, _ = select.select([self._channels[rank] for rank in waiting], [], [])
                for rank in waiting:
                    if self._channels[rank] in ready:
                        self._take(rank, answers, hear)
        except ChannelClosedError:
            raise self._failure("a rank ended without a word") from None
        return [answers[rank] for rank in range(self._count)]

    def close(self) -> None:
        """Let the ranks end, and wait for it."""
        for channel in self._channels:
            channel.close()
        self._agent.join()

    def _take(self, rank: int, answers: dict[int, dict[str, Any]], hear: Hear | None) -> None:
        message, arrays = self._channels[rank].receive()
        if "error" in message:
            raise self._failure(f"rank {rank} failed:\n{message['error']}")
        if "ready" in message or "samples" in message:
            answers[rank] = message
        elif hear is not None:
            hear(message, arrays)

    def _launch(self, name: str) -> None:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=self._count,
            run_id=name,
            rdzv_backend="static",
            rdzv_endpoint=f"{HERE}:{_free_port()}",
            rdzv_configs={"rank": 0},
            max_restarts=0,
            monitor_interval=WATCH_S,
            logs_specs=NoLogs(),
            local_addr=HERE,
        )
        arguments = ("-m", "harness.sut.rank_server", "--address", name, "--parent", str(os.getpid()))
        try:
            elastic_launch(config, sys.executable)(*arguments)
        except BaseException as error:  # of its thread: whoever waits for the ranks tells of it
            self._end = error

    def _accepted(self, listener: socket.socket) -> tuple[int, Channel]:
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                if not self._agent.is_alive():
                    raise self._failure("the ranks ended before they were ready") from None
                continue
            channel = Channel(connection)
            return int(channel.receive()[0]["rank"]), channel

    def _failure(self, what: str) -> RuntimeError:
        """What happened, and how the ranks ended, as far as they have."""
        self._agent.join(LAST_WORDS_S)
        ended = ""
        if isinstance(self._end, ChildFailedError):
            codes = [f"rank {rank} with code {each.exitcode}" for rank, each in sorted(self._end.failures.items())]
            ended = f" (ended: {', '.join(codes)})"
        elif self._end is not None:
            ended = f" ({type(self._end).__name__}: {self._end})"
        return RuntimeError(what + ended)


class NoLogs(LogsSpecs):
    """Ranks write where their parent does, and leave no file: what fails is said over the channel."""

    @property
    def root_log_dir(self) -> str:
        """None."""
        return os.devnull

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Nothing is redirected."""
        for environment in envs.values():
            environment["TORCHELASTIC_ERROR_FILE"] = ""
        same, no_file = dict.fromkeys(envs, ""), dict.fromkeys(envs, os.devnull)
        return LogsDest(stdouts=same, stderrs=dict(same), error_files=no_file)


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HERE, 0))
        port: int = probe.getsockname()[1]
    return port
