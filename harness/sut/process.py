"""A system under test that serves: its process, and the ring through which it gets its queries."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from harness.sut.system_process import SideInfo, SystemProcess
from harness.traffic.sender_link import SenderLink
from harness.transport.slots import RingShape, create_shared

__all__ = ["SUT_COMMAND", "SideInfo", "SutProcess"]

SUT_COMMAND = (sys.executable, "-m", "harness.sut.server")


class SutProcess(SystemProcess):
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
        self.shape = shape
        ring = create_shared(shape.total_bytes, "recarena-ring")
        take_requests, put_requests = os.pipe()
        take_done, put_done = os.pipe()
        self._sender_end = (ring, put_requests, take_done)
        inherited = (ring, take_requests, put_done)
        super().__init__(name, command, cores, spec.get("environment", {}), inherited, control_group)
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
        return self.order_and_await(self._order, timeout_s)
