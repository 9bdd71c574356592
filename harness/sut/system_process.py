"""A system under test as the main process sees it: its process group and its control channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.clock import now_ns
from harness.errors import SutFailure
from harness.traffic.sender_link import spawn
from harness.transport.channel import ChannelClosedError, ChannelTimeoutError

LAST_WORDS_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SideInfo:
    """A started side: what the SUT said when it was ready; process start to ready, by this process's clock."""

    report: dict[str, Any]
    start_s: float
    pid: int
    rss_bytes: int


class SystemProcess:
    """A started process of ``command``. Whoever starts it gives the order, by ``await_ready``, before anything else."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        cores: tuple[int, ...],
        environment: Mapping[str, str],
        descriptors: Sequence[int] = (),
        control_group: bool = True,
    ) -> None:
        self.name, self.frozen = name, False
        self._start_ns = now_ns()
        self.group, self.channel = spawn(command, cores, environment, descriptors, control_group=control_group)

    def order_and_await(self, order: Mapping[str, Any], timeout_s: float) -> SideInfo:
        """Give the order and wait until the SUT is warm. Raises SutFailure with the child's traceback."""
        header = self.ask(order, timeout_s, f"was not ready within {timeout_s:.0f} s", "ended before it was ready")
        if "ready" not in header:
            raise self.failure("could not be built", str(header.get("error", "")))
        start_s = (now_ns() - self._start_ns) * 1e-9
        return SideInfo(report=header["ready"], start_s=start_s, pid=self.group.pid, rss_bytes=self.group.rss_bytes())

    def ask(self, command: Mapping[str, Any], timeout_s: float, late: str, ended: str) -> dict[str, Any]:
        """Send one message and wait for the answer. Raises SutFailure, with ``late`` or ``ended`` as what happened."""
        try:
            self.channel.send(command)
            header, _ = self.channel.receive(timeout_s)
        except ChannelTimeoutError:
            raise self.failure(late) from None
        except ChannelClosedError:
            raise self.failure(ended) from None
        return header

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
