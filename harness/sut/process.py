"""One system under test as the main process sees it: its process group, its control channel, its ring."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.clock import now_ns
from harness.errors import SutFailure
from harness.traffic.sender_link import SenderLink, spawn
from harness.transport.channel import ChannelClosedError, ChannelTimeoutError
from harness.transport.slots import RingShape, create_shared

SUT_COMMAND = (sys.executable, "-m", "harness.sut.server")
LAST_WORDS_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SideInfo:
    """A started side: what the SUT said when it was ready; process start to ready, by this process's clock."""

    report: dict[str, Any]
    start_s: float
    pid: int
    rss_bytes: int


class SutProcess:
    """A started SUT; call ``await_ready`` before anything else."""

    def __init__(
        self,
        name: str,
        spec: Mapping[str, Any],
        shape: RingShape,
        cores: tuple[int, ...],
        command: Sequence[str],
        control_group: bool = True,
    ) -> None:
        self.name, self.shape, self.frozen = name, shape, False
        self._start_ns = now_ns()
        ring = create_shared(shape.total_bytes, "recarena-ring")
        take_requests, put_requests = os.pipe()
        take_done, put_done = os.pipe()
        self._sender_end = (ring, put_requests, take_done)
        inherited = (ring, take_requests, put_done)
        environment = spec.get("environment", {})
        self.group, self.channel = spawn(command, cores, environment, inherited, control_group=control_group)
        os.close(take_requests)
        os.close(put_done)
        self._order = {
            "spec": dict(spec),
            "shape": dataclasses.asdict(shape),
            "descriptors": {"ring": ring, "requests": take_requests, "done": put_done},
        }

    def attach(self, sender: SenderLink) -> None:
        """Hand the sender its ends of ring and pipes, and let go of them here."""
        command = {"command": "attach", "side": self.name, "shape": dataclasses.asdict(self.shape)}
        try:
            sender.ask(command, descriptors=self._sender_end)
        finally:
            for descriptor in self._sender_end:
                os.close(descriptor)

    def await_ready(self, timeout_s: float) -> SideInfo:
        """Give the order and wait until the SUT is warm. Raises SutFailure with the child's traceback."""
        try:
            self.channel.send(self._order)
            header, _ = self.channel.receive(timeout_s)
        except ChannelTimeoutError:
            raise self.failure(f"was not ready within {timeout_s:.0f} s") from None
        except ChannelClosedError:
            raise self.failure("ended before it was ready") from None
        if "ready" not in header:
            raise self.failure("could not be built", str(header.get("error", "")))
        start_s = (now_ns() - self._start_ns) * 1e-9
        return SideInfo(report=header["ready"], start_s=start_s, pid=self.group.pid, rss_bytes=self.group.rss_bytes())

    def failure(self, what: str, said: str = "") -> SutFailure:
        """Kill the side; the error tells what it said last: its report of an exception, else the end of its log."""
        said = said or self._last_words()
        ended = self.group.ending()
        self.group.kill()
        said = said or self.group.log_tail() or "It left no message."
        return SutFailure(f"The system under test {self.name!r} {what}{f' ({ended})' if ended else ''}.\n{said}")

    def close(self) -> None:
        """Kill and reap everything that belongs to the side."""
        self.group.kill()
        self.channel.close()

    def _last_words(self) -> str:
        try:
            header, _ = self.channel.receive(LAST_WORDS_S)
        except ChannelClosedError:
            self.group.await_end(LAST_WORDS_S)
            return ""
        except (ChannelTimeoutError, ValueError):
            return ""
        return str(header.get("error", ""))
