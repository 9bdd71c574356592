"""Spells within a segment: their variance, their own speeds, and the late fraction among them."""

import math

import numpy as np
import pytest
from scipy import integrate, signal

from harness.estimate.lbt import estimate_lbt
from harness.estimate.longrun import QueueTwin
from harness.estimate.replay import SegmentObservation
from harness.estimate.spells import Residuals, SegmentSpells, SpellProcess, find_spells, spell_log_sd
from harness.estimate.twin import ServiceTable, simulate
from harness.trial import Sla

MS, NS = 1e6, 1e9


def _ornstein_uhlenbeck(rng: np.random.Generator, at_ns: np.ndarray, sd: float, memory_s: float) -> np.ndarray:
    """Log speeds at these moments."""
    step = 0.02
    keep = math.exp(-step / memory_s)
    shocks = rng.normal(0.0, sd * math.sqrt(1.0 - keep**2), int(at_ns[-1] / NS / step) + 2)
    shocks[0] /= math.sqrt(1.0 - keep**2)
    found: np.ndarray = signal.lfilter([1.0], [1.0, -keep], shocks)[(at_ns / NS / step).astype(int)]
    return found


def _segments(sd: float, seed: int, noise: float = 0.2, stalls: float = 0.0) -> list[tuple[Residuals, np.ndarray]]:
    """Twelve segments of 10 s at 200 queries/s; spells last half a second. With the true spell of each query."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(12):
        at = np.sort(rng.random(2000)) * 10 * NS
        spell = rng.normal(0.0, sd, 20)[(at / NS / 0.5).astype(int)]
        kind = rng.integers(0, 2, at.size)
        log_ratio = spell + rng.normal(0.0, noise, at.size) * (1.0 + kind) + 2.0 * (rng.random(at.size) < stalls)
        found.append((Residuals(planned_ns=at, log_ratio=log_ratio, kind=kind), spell))
    return found


def test_the_spread_of_spells_is_found() -> None:
    found = [spell_log_sd(find_spells([s for s, _ in _segments(0.08, seed)], 0.248 * NS)) for seed in range(5)]
    # A 40th of a segment lies within one spell. The segment's mean takes a twentieth of the variance along.
    assert np.mean(found) == pytest.approx(0.08 * math.sqrt(19 / 20), rel=0.08)


@pytest.mark.parametrize("stalls", [0.0, 0.01])
def test_noise_of_single_queries_and_stalls_are_no_spells(stalls: float) -> None:
    found = [spell_log_sd(find_spells([s for s, _ in _segments(0.0, s, stalls=stalls)], 0.25 * NS)) for s in range(10)]
    # Means of 50 queries scatter by 4 %: a tenth of that passes for spells.
    assert np.median(found) < 0.008


def test_each_spell_is_found_as_far_as_its_queries_tell() -> None:
    """The squared error is the posterior variance that is stated, and less than that of the plain mean."""
    segments = _segments(0.08, 3)
    spells = find_spells([s for s, _ in segments], 0.499 * NS)
    errors, stated = [], []
    for (residuals, truth), of in zip(segments, spells, strict=True):
        block = of.block_of(residuals.planned_ns)
        centred = truth - truth.mean()
        errors.append(np.mean((of.log_factor[block] - centred) ** 2))
        stated.append(np.mean(of.left_sd[block] ** 2))
    assert np.mean(errors) == pytest.approx(np.mean(stated), rel=0.35)
    assert np.mean(errors) < 0.5 * 0.08**2


def test_without_a_segment_only_the_others_count() -> None:
    def said(excess: float, weight: float, degrees: int = 0) -> SegmentSpells:
        none = np.zeros(1)
        return SegmentSpells(
            first_ns=none, log_factor=none, left_sd=none, excess=excess, weight=weight, degrees=degrees
        )

    assert spell_log_sd([said(4.0, 100.0), said(2.0, 50.0)]) == pytest.approx(0.2)
    assert spell_log_sd([said(-4.0, 100.0), said(2.0, 50.0)]) == 0.0
    assert spell_log_sd([]) == 0.0
    # An excess of one standard deviation of chance counts for nothing, one of two for three quarters.
    assert spell_log_sd([said(4.0, 100.0, 8)]) == 0.0
    assert spell_log_sd([said(8.0, 100.0, 8)]) == pytest.approx(math.sqrt(0.06))


def test_the_late_fraction_among_spells_is_the_mean_of_closed_forms() -> None:
    """M/M/1 with a service rate mu e^-x, x normal: the integral of exp(-(mu e^-x - rate) t)."""
    points, mean, sd, limit = 60_000, 5.0 * MS, 0.06, 60.0
    left = 1.0 - np.arange(points) / points
    spread = np.diff(np.append(left * np.log(left) + 1.0 - left, 1.0)) * points
    table = ServiceTable(sizes=np.array([1.0]), mean_ns=np.array([mean]), spread=spread)
    twin = QueueTwin(table=table, sizes=np.array([1]), probability=np.array([1.0]), spells=SpellProcess(log_sd=sd))

    def late(rate: float) -> float:
        def density(x: float) -> float:
            tail = math.exp(min(-(200.0 * math.exp(-x) - rate) * limit / 1000.0, 0.0))
            return tail * math.exp(-((x / sd) ** 2) / 2.0) / (sd * math.sqrt(2.0 * math.pi))

        return float(integrate.quad(density, -8 * sd, 8 * sd, limit=200)[0])

    for rate in (80.0, 110.0, 125.0):
        assert twin.late_fraction(rate, limit * MS) == pytest.approx(late(rate), rel=0.02)
        assert twin.late_table(np.array([rate / 200.0]), limit * MS, np.ones(1))[0, 0] == pytest.approx(
            late(rate), rel=0.02
        )
    found = twin.lbt_qps(Sla(limit_ms=limit))
    assert late(found) == pytest.approx(0.01, rel=0.02)
    assert twin.lbt_qps(Sla(limit_ms=limit), scale=1.25) < found / 1.25


def test_the_lbt_of_a_system_that_wavers_within_segments_is_that_of_a_long_simulation() -> None:
    """Spells of 8 % that last 0.4 s; a twin without them is 6 % too high."""
    service, noise, limit = 4.0 * MS, 0.1, 40.0

    def system(rate: float, seconds: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        at = np.cumsum(rng.exponential(NS / rate, int(rate * seconds)))
        factor = np.exp(rng.normal(0.0, noise, at.size) + _ornstein_uhlenbeck(rng, at, 0.08, 0.4))
        return at, simulate(at, service * factor)

    rates = np.array([165.0, 175.0, 185.0])
    late = [np.mean(system(rate, 12_000.0, 7)[1] > limit * MS) for rate in rates]
    truth = float(np.exp(np.interp(math.log(0.01), np.log(late), np.log(rates))))
    assert late[0] < 0.01 < late[-1]
    table = ServiceTable(sizes=np.array([1.0]), mean_ns=np.array([service]), spread=np.ones(1))
    twin = QueueTwin(table=table, sizes=np.array([1]), probability=np.array([1.0]))
    found = []
    for seed in range(4):
        segments = []
        for i in range(16):
            rate = truth * (0.97 if i % 2 else 1.03)
            at, latency = system(rate, 12.0, 100 * seed + i)
            segments.append(
                SegmentObservation(
                    offered_qps=rate,
                    trace_id=str(i),
                    quad=i // 2,
                    planned_ns=at,
                    sizes=np.ones(at.size),
                    latency_ns=latency,
                    duration_s=12.0,
                )
            )
        estimate = estimate_lbt(segments, twin, Sla(limit_ms=limit))
        assert estimate.lbt_qps
        found.append(math.log(estimate.lbt_qps / truth))
    assert np.mean(found) == pytest.approx(0.0, abs=0.02)
