"""The ABBA quads: both sides in turn on the same traces, with outside evidence of the host around each (R9, R16)."""

from __future__ import annotations

from dataclasses import dataclass

from harness.host.validity import HostSample, between, sample_host
from harness.measurement.bench import Bench
from harness.measurement.floor import PROBE_S, null_probe_p99_ns
from harness.measurement.side import (
    PAIRED_S,
    Side,
    aim,
    offline,
    paired_count,
    paired_service,
    refine,
    single_stream,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuadLog:
    """What the host did in each quad: share of stolen time, and all of it as the record keeps it."""

    steal: dict[int, float]
    host: list[dict[str, object]]


def quad_seconds(bench: Bench, sides: int) -> float:
    """Planned seconds of all quads with the null probes between them."""
    budget = bench.budget
    one = PAIRED_S + budget.settle_s + budget.segment_s
    return budget.quads * (2 * sides * one + PROBE_S) + PROBE_S


def run_quads(bench: Bench, sides: list[Side]) -> QuadLog:
    """All quads of the trial's scenario. One side alone runs its two segments in each."""
    scenario = {
        "server": _open_halves,
        "single_stream": _single_stream_halves,
        "offline": _offline_halves,
        "mlperf_server": _single_stream_halves,
    }
    run = scenario[bench.trial.scenario]
    log = QuadLog(steal={}, host=[])
    probe = null_probe_p99_ns(bench, 0)
    for quad in range(bench.budget.quads):
        before = _sample(bench, sides)
        run(bench, sides, quad)
        host = between(before, _sample(bench, sides))
        probe, previous = null_probe_p99_ns(bench, quad + 1), probe
        log.steal[quad] = float(host["steal_share"])
        log.host.append({"quad": quad, "null_p99_ns": [previous, probe], **host})
    return log


def _sample(bench: Bench, sides: list[Side]) -> HostSample:
    pids = {side.name: bench.referee.pids(side.name) for side in sides}
    return sample_host({**pids, "sender": (bench.referee.sender.group.pid,)})


def abba_order(sides: list[Side], quad: int) -> list[tuple[Side, int]]:
    """(side, half) in ABBA order, BAAB in every other quad; AA for one side alone."""
    if len(sides) == 1:
        return [(sides[0], 0), (sides[0], 1)]
    first, second = sides if quad % 2 == 0 else sides[::-1]
    return [(first, 0), (second, 0), (second, 1), (first, 1)]


def _open_halves(bench: Bench, sides: list[Side], quad: int) -> None:
    count = _common_count(bench, sides)
    for side in sides:
        if side.centre_qps > 0.0:
            aim(bench, side)
    for side, half in abba_order(sides, quad):
        paired_service(bench, side, quad, half, count)
        bench.observer.advance(PAIRED_S)
        if side.centre_qps > 0.0:
            refine(bench, side, quad, half)


def _single_stream_halves(bench: Bench, sides: list[Side], quad: int) -> None:
    count = _common_count(bench, sides)
    for side, half in abba_order(sides, quad):
        paired_service(bench, side, quad, half, count)
        single_stream(bench, side, quad)
        bench.observer.advance(bench.budget.settle_s + bench.budget.segment_s)


def _offline_halves(bench: Bench, sides: list[Side], quad: int) -> None:
    count = _common_count(bench, sides)
    for side, half in abba_order(sides, quad):
        paired_service(bench, side, quad, half, count)
        offline(bench, side, quad)
        bench.observer.advance(bench.budget.settle_s + bench.budget.segment_s)


def _common_count(bench: Bench, sides: list[Side]) -> int:
    return min(paired_count(bench, side) for side in sides)
