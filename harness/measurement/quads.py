"""The ABBA quads: both sides in turn on the same traces, with outside evidence of the host around each (R9, R16)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.estimate.comparison import quads_to_repeat, void_quads
from harness.host.validity import HostSample, between, others_share, sample_host, void_reasons
from harness.measurement.bench import Bench, Quad
from harness.measurement.closed_loops import offline, paired_count, paired_service, single_stream
from harness.measurement.floor import null_probe_p99_ns
from harness.measurement.rates import prepare_quad, refine
from harness.measurement.side import Side
from harness.record.floor import PROBE_S
from harness.record.service import PAIRED_S


@dataclass(frozen=True, slots=True, kw_only=True)
class QuadLog:
    """What the host did in each quad: share of stolen time, share that other processes used, p99 of the null probes
    before and after it in ns, and all of it as the record keeps it."""

    steal: dict[int, float] = field(default_factory=dict)
    others: dict[int, float] = field(default_factory=dict)
    probes: dict[int, tuple[float, float]] = field(default_factory=dict)
    host: list[dict[str, object]] = field(default_factory=list)

    def reasons(self, quad: int, limit_ns: int) -> tuple[str, ...]:
        """Why a quad is void."""
        return void_reasons(self.steal[quad], self.probes[quad], limit_ns, self.others[quad])

    def kept(self, planned: int, limit_ns: int) -> set[int]:
        """The quads that count."""
        return set(void_quads({quad: self.reasons(quad, limit_ns) for quad in self.steal}, planned).kept)


Halves = Callable[[Bench, list[Side], Quad], None]


def quad_seconds(bench: Bench, sides: int) -> float:
    """Planned seconds of all quads with the null probes between them."""
    budget = bench.budget
    one = PAIRED_S + budget.settle_s + budget.segment_s
    return budget.quads * (2 * sides * one + PROBE_S) + PROBE_S


def run_quads(bench: Bench, sides: list[Side], halves: Halves | None = None) -> QuadLog:
    """All quads, then the void ones again, at most a quarter of all (R16).

    halves: what each consists of; by default the segments of the trial's scenario. One side alone runs its two in each.
    """
    run = halves or SCENARIOS[bench.trial.scenario]
    log, count = QuadLog(), int(bench.budget.quads)
    probe = null_probe_p99_ns(bench, 0)
    for number in range(count):
        probe = _one_quad(bench, sides, run, Quad(number=number, place=number), probe, log)
    void = quads_to_repeat({quad: log.reasons(quad, bench.limit_ns) for quad in range(count)})
    if void:
        bench.observer.stage(f"{len(void)} void quads again", total=quad_seconds(bench, len(sides)) * len(void) / count)
    for number, place in enumerate(void, start=count):
        probe = _one_quad(bench, sides, run, Quad(number=number, place=place), probe, log)
    return log


def _one_quad(bench: Bench, sides: list[Side], run: Halves, quad: Quad, probe: float, log: QuadLog) -> float:
    """Run a quad and note what the host did. probe: p99 of the null probe before it; returns that of the one after."""
    before, own_ns = _sample(bench, sides), -bench.own_cpu_ns()
    run(bench, sides, quad)
    host = between(before, _sample(bench, sides))
    others = others_share(host, own_ns + bench.own_cpu_ns())
    after = null_probe_p99_ns(bench, quad.number + 1)
    log.steal[quad.number] = float(host["steal_share"])
    log.probes[quad.number] = (probe, after)
    log.others[quad.number] = others
    log.host.append({"quad": quad.number, "null_p99_ns": [probe, after], "others_share": others, **host})
    return after


def _sample(bench: Bench, sides: list[Side]) -> HostSample:
    pids = {side.name: bench.referee.pids(side.name) for side in sides}
    return sample_host({**pids, "sender": (bench.referee.sender.group.pid,)})


def abba_order(sides: list[Side], place: int) -> list[tuple[Side, int]]:
    """(side, half) in ABBA order, BAAB in every other quad; AA for one side alone."""
    if len(sides) == 1:
        return [(sides[0], 0), (sides[0], 1)]
    first, second = sides if place % 2 == 0 else sides[::-1]
    return [(first, 0), (second, 0), (second, 1), (first, 1)]


def open_halves(bench: Bench, sides: list[Side], quad: Quad) -> None:
    """Open-loop segments of both sides at their two rates, each after a closed loop that times their service."""
    count = paired_count(bench, sides)
    prepare_quad(bench, sides, quad)
    for side, half in abba_order(sides, quad.place):
        paired_service(bench, side, quad, half, count)
        bench.observer.advance(PAIRED_S)
        if side.centre_qps > 0.0:
            refine(bench, side, quad, half)


def _single_stream_halves(bench: Bench, sides: list[Side], quad: Quad) -> None:
    count = paired_count(bench, sides)
    for side, half in abba_order(sides, quad.place):
        paired_service(bench, side, quad, half, count)
        single_stream(bench, side, quad)
        bench.observer.advance(bench.budget.settle_s + bench.budget.segment_s)


def _offline_halves(bench: Bench, sides: list[Side], quad: Quad) -> None:
    count = paired_count(bench, sides)
    for side, half in abba_order(sides, quad.place):
        paired_service(bench, side, quad, half, count)
        offline(bench, side, quad)
        bench.observer.advance(bench.budget.settle_s + bench.budget.segment_s)


SCENARIOS: Mapping[str, Halves] = {
    "server": open_halves,
    "single_stream": _single_stream_halves,
    "offline": _offline_halves,
    "mlperf_server": _single_stream_halves,
}
