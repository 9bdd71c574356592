"""One side awake at a time: the others are frozen (R9). What a side took of the machine beyond its turn, its cores and
its priority is remarked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

FROZEN_CPU_NS = 20_000_000
"""CPU time that a frozen side may show: stopping takes a moment, and the kernel counts in ticks."""


class Freezable(Protocol):
    """Whoever holds the processes of the sides."""

    def freeze(self, name: str) -> None:
        """Stop every process of a side."""

    def thaw(self, name: str) -> None:
        """Let a side run again."""

    def cpu_ns(self, name: str) -> int:
        """CPU time of a side so far."""

    def liberties(self, name: str) -> Sequence[str]:
        """Cores and priority that a side gave itself (``harness.host.liberties``)."""


class Awake:
    """Which side is awake. ``remarks`` gets a sentence for every frozen side that ran, and for every liberty."""

    def __init__(self, sides: Freezable, remarks: list[str]) -> None:
        self._sides, self._remarks = sides, remarks
        self._awake = ""
        self._frozen_cpu_ns: dict[str, int] = {}

    def joined(self, side: str) -> None:
        """A side has been started, and is awake; every other one is asleep."""
        self.sleep()
        self._awake = side

    def wake(self, side: str) -> None:
        """Freeze the side that is awake and thaw ``side``."""
        if self._awake == side:
            return
        self.sleep()
        used = self._sides.cpu_ns(side) - self._frozen_cpu_ns[side]
        if used > FROZEN_CPU_NS:
            self._remarks.append(f"{side} used {used / 1e6:.0f} ms of CPU time while it was frozen")
        self._sides.thaw(side)
        self._awake = side

    def sleep(self) -> None:
        """Freeze the side that is awake, if any."""
        if self._awake:
            self._sides.freeze(self._awake)
            self._frozen_cpu_ns[self._awake] = self._sides.cpu_ns(self._awake)
            found = [f"{self._awake} {liberty}" for liberty in self._sides.liberties(self._awake)]
            self._remarks += [remark for remark in found if remark not in self._remarks]
        self._awake = ""
