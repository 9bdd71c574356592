"""Who is timed when, and what the times say: mirrored turns, blocks, Student's t on the blocks' log ratios.

A block of one peer and one size is a turn of the peer, one of each of ours, then the same in reverse: A B C C B A. A
linear drift of the host's speed falls out of both ratios. A turn is some answers to the same queries in a row; its
time is their median, which a stall does not move. Blocks of all peers and sizes follow each other round by round, so
that the blocks of one ratio lie spread over the whole run and stand for independent measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.estimate.stats import Interval, log_t_interval

Turn = Callable[[str, int], float]
"""(contender, size) -> median ns of a query in one turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """The peer's service time over ours: above 1 we are faster. Interval: two-sided 95 %. Times in microseconds."""

    peer: str
    ours: str
    size: int | None
    ratio: float
    interval: Interval
    peer_us: float | None
    ours_us: float | None
    blocks: int


class Rounds:
    """Times of all blocks so far, by (peer, ours, size)."""

    def __init__(self, peers: Sequence[str], ours: Sequence[str], sizes: Sequence[int]) -> None:
        self.peers, self.ours, self.sizes = tuple(peers), tuple(ours), tuple(sizes)
        self._logs: dict[tuple[str, str, int], list[tuple[float, float]]] = {
            (peer, mine, size): [] for peer in self.peers for mine in self.ours for size in self.sizes
        }

    def add(self, turn: Turn) -> None:
        """One more block of every peer and size."""
        for size in self.sizes:
            for peer in self.peers:
                for mine, logs in mirrored(turn, peer, self.ours, size).items():
                    self._logs[peer, mine, size].append(logs)

    def ratios(self) -> list[Ratio]:
        """Every peer against each of ours: by size, then over all sizes (``size`` None), each weighing the same.

        Needs two blocks; raises ValueError otherwise.
        """
        return [ratio for peer in self.peers for mine in self.ours for ratio in self._of(peer, mine)]

    def _of(self, peer: str, mine: str) -> list[Ratio]:
        found, logs = [], []
        for size in self.sizes:
            times = np.array(self._logs[peer, mine, size])
            logs.append(times[:, 0] - times[:, 1])
            peer_us, ours_us = np.exp(np.median(times, axis=0)) / 1e3
            found.append(_ratio(peer, mine, size, logs[-1], float(peer_us), float(ours_us)))
        return [*found, _ratio(peer, mine, None, np.mean(logs, axis=0), None, None)]


def mirrored(turn: Turn, peer: str, ours: Sequence[str], size: int) -> dict[str, tuple[float, float]]:
    """One block: for each of ours (mean log ns of the peer, of ours)."""
    order = [peer, *ours]
    logs: Mapping[str, list[float]] = {name: [] for name in order}
    for name in (*order, *reversed(order)):
        logs[name].append(float(np.log(turn(name, size))))
    means = {name: float(np.mean(two)) for name, two in logs.items()}
    return {mine: (means[peer], means[mine]) for mine in ours}


def _ratio(
    peer: str, ours: str, size: int | None, logs: np.ndarray, peer_us: float | None, ours_us: float | None
) -> Ratio:
    ratio, interval = log_t_interval(logs)
    return Ratio(
        peer=peer,
        ours=ours,
        size=size,
        ratio=ratio,
        interval=interval,
        peer_us=peer_us,
        ours_us=ours_us,
        blocks=len(logs),
    )
