"""Spells that a queue outlasts: the late fraction among them, their length and their memory."""

import dataclasses

import numpy as np
import pytest

from harness.estimate.longrun import QueueTwin
from harness.estimate.simulated_tails import LOAD_STEP, on_grid
from harness.estimate.spells import Residuals, SpellProcess, find_spells, spell_process
from harness.estimate.twin import ServiceTable
from harness.trial import Sla

MS, NS = 1e6, 1e9


def _twin(spells: SpellProcess, traces: int = 128) -> QueueTwin:
    table = ServiceTable(sizes=np.array([1.0]), mean_ns=np.array([1.0 * MS]), spread=np.ones(1))
    return QueueTwin(table=table, sizes=np.array([1]), probability=np.ones(1), spells=spells, traces=traces)


def _levels(rng: np.random.Generator, count: int, sd: float, keep: float) -> list[float]:
    level, levels = float(rng.normal(0.0, sd)), []
    for shock in rng.normal(0.0, sd * np.sqrt(1.0 - keep**2), count).tolist():
        levels.append(level)
        level = keep * level + shock
    return levels


def _late_by_hand(rate: float, spells: SpellProcess, limit_ns: float, seconds: float, seed: int) -> float:
    """A query at a time: each starts when the one before it is done, and takes 1 ms at the speed of its arrival."""
    rng = np.random.default_rng(seed)
    levels = np.exp(_levels(rng, int(seconds * NS / spells.length_ns) + 2, spells.log_sd, spells.keep)).tolist()
    now = free = late = 0.0
    gaps = rng.exponential(NS / rate, int(rate * seconds)).tolist()
    for gap in gaps:
        now += gap
        free = max(free, now) + MS * levels[min(int(now / spells.length_ns), len(levels) - 1)]
        late += free - now > limit_ns
    return late / len(gaps)


@pytest.mark.parametrize(("keep", "rate"), [(0.0, 870.0), (0.6, 800.0)])
def test_the_late_fraction_among_short_spells_is_that_of_a_queue_followed_by_hand(keep: float, rate: float) -> None:
    spells = SpellProcess(log_sd=0.1, length_ns=0.3 * NS, keep=keep)
    by_hand = np.array([_late_by_hand(rate, spells, 100 * MS, 800.0, seed) for seed in range(4)])
    error = by_hand.std(ddof=1) / 2.0
    assert _twin(spells).late_fraction(rate, 100 * MS) == pytest.approx(by_hand.mean(), abs=3 * error + 1e-3)


def test_the_shorter_the_spells_the_higher_the_lbt_up_to_that_without_any() -> None:
    """A queue of 100 ms takes 0.4 s to grow at 1.25 times the capacity: spells of a tenth of that hardly count."""
    sla = Sla(limit_ms=100.0)
    lasting, long, short, none = (
        _twin(SpellProcess(log_sd=sd, length_ns=length * NS), traces=32).lbt_qps(sla)
        for sd, length in ((0.1, np.inf), (0.1, 5.0), (0.1, 0.04), (0.0, np.inf))
    )
    assert lasting < long < short < none
    assert lasting < 0.8 * none and short > 0.95 * none


def test_spells_that_fill_a_trace_are_lasting_ones() -> None:
    """M/D/1 at slack 5, whose queue lives for some 10 ms."""
    short = Sla(limit_ms=5.0)
    simulated = _twin(SpellProcess(log_sd=0.08, length_ns=2.0 * NS), traces=512).lbt_qps(short)
    assert simulated == pytest.approx(_twin(SpellProcess(log_sd=0.08)).lbt_qps(short), rel=0.02)


def test_a_scale_moves_the_lbt_of_a_twin_with_spells_against_it() -> None:
    twin, sla = _twin(SpellProcess(log_sd=0.06, length_ns=0.2 * NS)), Sla(limit_ms=40.0)
    rate = twin.lbt_qps(sla)
    assert twin.late_fraction(rate, 40 * MS) == pytest.approx(0.01, rel=0.03)
    assert twin.lbt_qps(Sla(limit_ms=48.0), scale=1.2) == pytest.approx(rate / 1.2, rel=2e-3)


def test_the_grid_holds_each_load_once_in_ascending_order() -> None:
    found = on_grid(np.array([0.5, 0.501, 0.9, 1.0]))
    assert len(found) == 3 and (np.diff(found) > 0).all() and found[-1] == 1.0
    assert np.abs(np.log(found[0] / 0.5)) <= LOAD_STEP / 2


def test_what_was_asked_before_does_not_change_a_tail() -> None:
    """Latencies are told apart around the times asked for: far ones first, near ones first, and by ``late_table``."""
    sla, times = Sla(limit_ms=20.0), [0.5, 19.0, 20.0, 400.0, 4e7]
    spells = SpellProcess(log_sd=0.06, length_ns=0.2 * NS)

    def found(order: list[float]) -> dict[float, list[float]]:
        twin = _twin(spells, traces=16)
        return {ms: [twin.late_fraction(rate, ms * MS) for rate in (300.0, 900.0, 990.0)] for ms in order}

    assert found(times) == found(times[::-1]) == {ms: found([ms])[ms] for ms in times}
    loads, scales = on_grid(np.array([0.5, 0.9])), np.array([0.4, 1.0, 2.5])
    table = _twin(spells, traces=16).late_table(loads, 20 * MS, scales)
    for row, scale in zip(table, scales, strict=True):
        one = [_twin(spells, traces=16).late_fraction(load * 1000.0, 20 * MS / scale) for load in loads]
        assert row.tolist() == one
    twin = _twin(spells, traces=16)
    assert twin.late_fraction(500.0, 1.0) == 1.0 and twin.lbt_qps(sla) == _twin(spells, traces=16).lbt_qps(sla)


def _segments(memory_s: float, seed: int, sd: float = 0.08, noise: float = 0.2) -> list[Residuals]:
    """Twelve segments of 20 s, 4,000 queries in each; the speed wavers in steps of 50 ms."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(12):
        at = np.sort(rng.random(4000)) * 20 * NS
        keep = float(np.exp(-0.05 / memory_s)) if memory_s else 0.0
        level = np.array(_levels(rng, 400, sd, keep))[(at / NS / 0.05).astype(int)]
        kind = np.zeros(at.size, np.int64)
        found.append(Residuals(planned_ns=at, log_ratio=level + rng.normal(0.0, noise, at.size), kind=kind))
    return found


@pytest.mark.parametrize("memory_s", [0.25, 0.5, 1.0])
def test_what_wavers_within_blocks_is_found_behind_their_means(memory_s: float) -> None:
    """Blocks of half a second; on average over ten hosts. A segment's own mean takes part of a long memory along."""
    found = [spell_process(find_spells(_segments(memory_s, seed), 0.499 * NS)) for seed in range(10)]
    quarter = 0.125 / memory_s
    shown = 2.0 * (quarter - 1.0 + np.exp(-quarter)) / quarter**2
    left = 1.0 - 2.0 * memory_s / 20.0
    assert np.mean([f.length_ns for f in found]) == pytest.approx(0.125 * NS, rel=0.01)
    assert np.mean([f.log_sd for f in found]) == pytest.approx(0.08 * np.sqrt(left * shown), rel=0.06)
    kept = (1.0 - np.exp(-quarter)) ** 2 / (2.0 * (quarter - 1.0 + np.exp(-quarter)))
    assert np.mean([f.keep for f in found]) == pytest.approx(kept, abs=0.06)


def test_blocks_without_memory_keep_their_length_and_spread() -> None:
    """Ten independent steps in a block of half a second: its mean scatters by 0.3 / sqrt(10)."""
    found = [spell_process(find_spells(_segments(0.0, seed, 0.3), 0.499 * NS)) for seed in range(10)]
    assert np.median([f.keep for f in found]) < 0.05
    assert np.median([f.length_ns for f in found]) == pytest.approx(0.5 * NS, rel=0.01)
    assert np.median([f.log_sd for f in found]) == pytest.approx(0.3 / np.sqrt(10.0), rel=0.05)


def test_small_spells_are_solved_as_lasting_ones() -> None:
    """At slack 20, where the length of a spell matters most, the LBTs of both differ by less than 1 %."""
    found = spell_process(find_spells(_segments(0.25, 1, 0.01, noise=0.05), 0.499 * NS))
    assert 0.0 < found.log_sd <= 0.01 and found.lasting and _twin(found).exact
    sla = Sla(limit_ms=20.0)
    ended = _twin(SpellProcess(log_sd=0.01, length_ns=0.1 * NS)).lbt_qps(sla)
    assert _twin(SpellProcess(log_sd=0.01)).lbt_qps(sla) == pytest.approx(ended, rel=0.01)


def test_without_spells_there_is_no_process() -> None:
    none = spell_process([])
    assert none == SpellProcess() and none.lasting
    assert dataclasses.replace(_twin(none)).exact and not _twin(SpellProcess(log_sd=0.1, length_ns=NS)).exact
