"""Start child processes with a control channel, and talk to the sender."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import SutFailure
from harness.host.processes import ProcessGroup
from harness.transport.channel import Arrays, Channel, ChannelClosedError, ChannelTimeoutError

SENDER_COMMAND = (sys.executable, "-m", "harness.traffic.sender")
SENDER_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""The sender is one thread; numpy would start more."""
START_S = 60.0
REPLY_S = 10.0


def spawn(
    command: Sequence[str],
    cores: tuple[int, ...],
    environment: Mapping[str, str],
    descriptors: Sequence[int],
    *,
    control_group: bool = True,
) -> tuple[ProcessGroup, Channel]:
    """Start ``command --control FD --parent PID`` with a control channel and the open ``descriptors``."""
    channel, theirs = Channel.pair()
    with theirs:
        argv = [*command, "--control", str(theirs.fileno()), "--parent", str(os.getpid())]
        group = ProcessGroup.start(
            argv,
            cores=cores,
            descriptors=[theirs.fileno(), *descriptors],
            environment=environment,
            log=tempfile.TemporaryFile(),  # noqa: SIM115 (it lives as long as the group)
            control_group=control_group,
        )
    return group, channel


class SenderLink:
    """The sender process. Every failure of it is raised as SutFailure, with what it left behind.

    priority: what the sender got, "fifo", "nice" or "normal".
    """

    def __init__(self, cores: tuple[int, ...]) -> None:
        self.group, self._channel = spawn(SENDER_COMMAND, cores, SENDER_ENVIRONMENT, ())
        try:
            self.priority: str = self._hear(START_S)[0]["priority"]
        except BaseException:
            self.close()
            raise

    def ask(
        self,
        header: Mapping[str, Any],
        arrays: Arrays | None = None,
        *,
        timeout_s: float = REPLY_S,
        descriptors: Sequence[int] = (),
    ) -> tuple[dict[str, Any], Arrays]:
        """Give one command and wait for its reply. Raises SutFailure when the sender is gone or does not answer."""
        try:
            self._channel.send(header, arrays)
            if descriptors:
                self._channel.send_descriptors(list(descriptors))
        except ChannelClosedError:
            raise self._failure("is gone") from None
        return self._hear(timeout_s)

    def close(self) -> None:
        """Kill and reap the sender."""
        self.group.kill()
        self._channel.close()

    def _hear(self, timeout_s: float) -> tuple[dict[str, Any], Arrays]:
        try:
            return self._channel.receive(timeout_s)
        except ChannelClosedError:
            self.group.await_end(1.0)
            raise self._failure("ended") from None
        except ChannelTimeoutError:
            raise self._failure(f"did not answer within {timeout_s:.0f} s") from None

    def _failure(self, what: str) -> SutFailure:
        self.group.kill()
        return SutFailure(f"The sender process {what} ({self.group.ending()}).\n{self.group.log_tail()}".strip())
