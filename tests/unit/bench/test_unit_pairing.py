"""A B B A blocks on a clock of our own: exact ratios under drift, stalls that do not count, coverage of intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tests.bench.units.pairing import Blocks, Forms, verdict

RATIO, FUSED_NS, AMOUNT, ROOF_RATE = 3.0, 1_000.0, 500.0, 1e9
"""One call does 500 units of work in 1,000 ns; the roof does 1,000 in that time: a share of one half."""


@dataclass
class Host:
    """A machine whose clock only moves when it works."""

    now: float = 0.0
    drift: float = 0.0  # growth of all times per ns
    noise: float = 0.0  # log standard deviation of a block's ratio
    stall_every: int = 0
    calls: int = 0
    slow: float = 1.0
    rng: Any = field(default_factory=lambda: np.random.default_rng(1))

    def work(self, nominal_ns: float) -> None:
        self.calls += 1
        # d now / d work = 1 + drift now
        grown = (1 + self.drift * self.now) * math.expm1(self.drift * nominal_ns)
        self.now += grown / self.drift if self.drift else nominal_ns
        if self.stall_every and self.calls % self.stall_every == 0:
            self.now += 1e6

    def roof(self) -> float:
        """Rate of the probe; a new block begins: the unfused form gets its luck."""
        self.slow = float(np.exp(self.rng.normal(0.0, self.noise)))
        return ROOF_RATE / (1 + self.drift * self.now)

    def blocks(self, block_ms: float) -> Blocks:
        forms = Forms(
            unfused=lambda: self.work(RATIO * FUSED_NS * self.slow),
            fused=lambda: self.work(FUSED_NS),
            inputs=lambda: (),
            roof=self.roof,
            amount=AMOUNT,
            clock=lambda: self.now,
        )
        return Blocks(forms, block_ms)


def test_the_ratio_of_a_steady_host_is_exact() -> None:
    blocks = Host().blocks(block_ms=0.08)
    for _ in range(5):
        blocks.add()
    found = blocks.result()
    assert found.blocks == 5 and found.quads == 10  # a quad takes 8,000 ns
    assert found.ratio == pytest.approx(RATIO, rel=1e-9)
    assert found.ratio_ci == pytest.approx((RATIO, RATIO), rel=1e-6)
    assert found.unfused_us == pytest.approx(RATIO * found.fused_us, rel=1e-9)


def test_a_share_compares_with_the_probes_of_the_same_block() -> None:
    host = Host(drift=1e-6)  # after 1 ms everything takes twice as long
    blocks = host.blocks(block_ms=0.08)
    for _ in range(20):
        blocks.add()
    found = blocks.result()
    assert host.now > 1.5e6
    assert found.share == pytest.approx(AMOUNT / FUSED_NS, rel=0.05)
    assert found.share_ci[0] == pytest.approx(found.share_ci[1], rel=0.02)


def test_linear_drift_falls_out_of_each_quad() -> None:
    """A B alone would err by the drift within a pair, 0.4 % here."""
    host = Host(drift=1e-6)
    blocks = host.blocks(block_ms=0.08)
    for _ in range(5):
        blocks.add()
    assert blocks.result().ratio == pytest.approx(RATIO, rel=1e-4)


def test_stalls_do_not_move_the_median() -> None:
    """Every 41st call stalls for a hundred times a quad; at most one quad in ten is hit."""
    blocks = Host(stall_every=41).blocks(block_ms=0.08)
    for _ in range(6):
        blocks.add()
    assert blocks.result().ratio == pytest.approx(RATIO, rel=1e-6)


def test_intervals_cover_the_true_ratio() -> None:
    """Blocks whose log ratios scatter by 5 %: 95 % of 600 intervals hold the truth, within three standard errors."""
    rng, covered = np.random.default_rng(7), 0
    for _ in range(600):
        blocks = Host(noise=0.05, rng=rng).blocks(block_ms=0.008)
        for _ in range(6):
            blocks.add()
        low, high = blocks.result().ratio_ci
        covered += low <= RATIO <= high
    assert abs(covered / 600 - 0.95) < 3 * (0.95 * 0.05 / 600) ** 0.5


@pytest.mark.parametrize(
    ("interval", "said"),
    [((7.0, 9.0), "yes"), ((6.9, 9.0), "undecided"), ((5.0, 7.0), "undecided"), ((5.0, 6.9), "no")],
)
def test_a_verdict_needs_the_whole_interval(interval: tuple[float, float], said: str) -> None:
    assert verdict(interval, 7.0) == said
