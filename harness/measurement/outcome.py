"""From what was seen to the numbers of the result. No process is touched, and the same input gives the same numbers.

``outcome`` is called twice with the same columns: by the run that measured them, and by whoever verifies its record.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from harness.backends.peers.catalogue import PEER_TOLERANCE, same_weights
from harness.estimate.comparison import quads_to_repeat, void_quads
from harness.estimate.lbt import LbtEstimate
from harness.estimate.replay import SegmentObservation
from harness.host.validity import void_reasons
from harness.measurement.evidence import Answers
from harness.measurement.gate import gate_result, unsteady
from harness.measurement.preparation import BASELINE, CANDIDATE
from harness.measurement.ratio import Estimates, ratio_result
from harness.record.certificate import PURPOSE, certify, claimed_qps
from harness.record.floor import NULL_PROBES, find_floor, floor_latency, holds, null_p99_ns
from harness.record.result import Certificate, Floor, GateResult, Ratio, SegmentInfo, Validity
from harness.record.segments import SegmentRows, of_purpose
from harness.record.service import queue_twin, service_samples
from harness.record.side_numbers import lbt_of, with_accuracy, with_columns, with_lbt
from harness.record.side_result import SideResult
from harness.trial import Trial
from zoo.schema import Float32

LATENCY_LOAD = 0.7
"""Share of a side's own LBT at which its latencies are reported."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a trial has seen.

    rows: its segments in the order in which they ran. answers, facts: by side; of ``facts`` only what no column tells
    is read (memory, faults, start, and the workers, dispatch and dtypes of the plan). steal: share of core time that
    the hypervisor took in each quad; others: that other processes used, nothing where a record does not say. remarks:
    what else was said of the host. allowed: see ``gate_result``.
    """

    trial: Trial
    rows: Sequence[SegmentRows]
    labels: Float32
    answers: Mapping[str, Answers]
    facts: Mapping[str, SideResult]
    steal: Mapping[int, float]
    others: Mapping[int, float]
    remarks: Sequence[str]
    allowed: float | None

    @property
    def limit_ns(self) -> int:
        """The SLA's latency limit."""
        return int(self.trial.sla.limit_ms * 1e6)

    @property
    def quads(self) -> tuple[int, ...]:
        """All quads that ran."""
        return tuple(sorted(self.steal))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The numbers of a result. ``sides``: by name; ratio and gate are None for ``opt=[]``.

    latency_qps: by side, the rate at which its latencies had to be reported; None where it has no LBT of its own.
    """

    sides: Mapping[str, SideResult]
    ratio: Ratio | None
    gate: GateResult | None
    floor: Floor
    validity: Validity
    segments: tuple[SegmentInfo, ...]
    certificate: Certificate | None
    latency_qps: Mapping[str, float | None]


def outcome(seen: Seen) -> Outcome:
    """All numbers of a trial. ValueError where the columns do not hold what a number needs."""
    evidence = _void_reasons(seen)
    again = _ran_again(seen, evidence)
    answers = unsteady(seen.answers[BASELINE], seen.facts[BASELINE].dtypes)
    remarks = dict.fromkeys([*seen.remarks, *answers])  # whoever verifies has found the second in the first
    validity, kept = validity_of(evidence, len(evidence) - again, list(remarks))
    estimates = _estimates(seen, kept)
    sides = {name: _side(seen, name, estimates.kept[name], kept) for name in seen.facts}
    fastest = max((estimate.lbt_qps or 0.0 for estimate in estimates.everything.values() if estimate), default=0.0)
    paired = CANDIDATE in sides
    return Outcome(
        sides=sides,
        ratio=ratio_result(seen.rows, estimates, seen.quads, kept, sides) if paired else None,
        gate=_gate(seen) if paired else None,
        floor=_floor(seen, fastest),
        validity=validity,
        latency_qps={name: latency_qps(estimate, 0.0) or None for name, estimate in estimates.everything.items()},
        certificate=_certificate(seen, CANDIDATE if paired else BASELINE, estimates.kept),
        segments=tuple(_segment(row, seen.limit_ns, set(seen.quads) - set(kept)) for row in seen.rows),
    )


def latency_qps(everything: LbtEstimate | None, centre_qps: float) -> float:
    """Rate at which a side's latencies are reported: 70 % of its LBT over all quads, or of where its segments lay."""
    return LATENCY_LOAD * ((everything.lbt_qps if everything else None) or centre_qps)


def _gate(seen: Seen) -> GateResult:
    return gate_result(
        seen.labels,
        seen.answers,
        seen.facts[CANDIDATE].dtypes,
        _allowed(seen),
        same_weights=same_weights(seen.trial.peer),
        exact_baseline=_exact(seen.facts[BASELINE]),
    )


def _exact(side: SideResult) -> bool:
    """Whether a side rounds nothing that the reference does not."""
    return set(side.dtypes) <= {"fp32"}


def _allowed(seen: Seen) -> float | None:
    """How far a score may be from the baseline's. A peer there has moved them, too: by rounding, or (with a model or a
    precision of its own) by what nobody declares."""
    if seen.trial.peer_side != BASELINE or seen.allowed is None:
        return seen.allowed
    alike = same_weights(seen.trial.peer) and _exact(seen.facts[BASELINE])
    return seen.allowed + PEER_TOLERANCE if alike else None


def _side(seen: Seen, name: str, estimate: LbtEstimate | None, kept: tuple[int, ...]) -> SideResult:
    """``kept``: the quads that count, in every scenario."""
    rows = [row for row in seen.rows if row.info.side == name and (row.info.quad < 0 or row.info.quad in kept)]
    side = with_columns(seen.facts[name], rows, seen.limit_ns)
    side = with_lbt(side, estimate, searched=seen.trial.scenario == "server")
    return with_accuracy(side, seen.labels, seen.answers[name].accuracy)


def _estimates(seen: Seen, kept: tuple[int, ...]) -> Estimates:
    """Without void quads the two are one. Each is minutes of simulated load: they are worked out side by side."""

    def estimate(task: tuple[str, tuple[int, ...] | None]) -> LbtEstimate | None:
        name, quads = task
        rows = [row for row in seen.rows if row.info.side == name]
        probes, refined = ([row.observation() for row in of_purpose(rows, p)] for p in ("search", "quad"))
        table, facts = service_samples(of_purpose(rows, "service")).table(), seen.facts[name]
        twin = queue_twin(table, seen.trial.query_sizes, facts.workers, facts.dispatch)
        return lbt_of(probes, refined, twin, seen.trial.sla, quads)

    tasks: list[tuple[str, tuple[int, ...] | None]] = [(name, None) for name in seen.facts]
    if kept != seen.quads:
        tasks += [(name, kept) for name in seen.facts]
    with ThreadPoolExecutor(len(tasks)) as pool:
        found = dict(zip(tasks, pool.map(estimate, tasks), strict=True))
    everything = {name: found[name, None] for name in seen.facts}
    some = {name: found.get((name, kept), everything[name]) for name in seen.facts}
    return Estimates(kept=some, everything=everything)


def _segment(row: SegmentRows, limit_ns: int, voided: set[int]) -> SegmentInfo:
    return dataclasses.replace(row.recounted(limit_ns), voided=row.info.quad in voided)


def _void_reasons(seen: Seen) -> dict[int, tuple[str, ...]]:
    """Outside evidence against each quad: stolen time, what others used, and the null probes before and after it."""
    floor = {row.info.trace: row for row in of_purpose(seen.rows, "floor")}
    reasons = {}
    for quad in seen.quads:
        beside = [floor.get(NULL_PROBES + index) for index in (quad, quad + 1)]
        probes = [null_p99_ns(row.observation()) for row in beside if row is not None]
        if len(probes) < len(beside):
            raise ValueError(f"a null probe beside quad {quad} is missing")
        reasons[quad] = void_reasons(seen.steal[quad], probes, seen.limit_ns, seen.others.get(quad, 0.0))
    return reasons


def _ran_again(seen: Seen, evidence: Mapping[int, tuple[str, ...]]) -> int:
    """How many quads ran again; ValueError unless they are the first void ones, in order, each on its own traces."""
    traces = {row.info.quad: row.info.trace // 2 for row in of_purpose(seen.rows, "paired")}
    again = [traces[quad] for quad in seen.quads if traces.get(quad, quad) != quad]
    planned = seen.quads[: len(seen.quads) - len(again)]
    void = [quad for quad in planned if evidence[quad]]
    if again != quads_to_repeat({quad: evidence[quad] for quad in planned}):
        raise ValueError(f"quads {again} ran again, and quads {void} were void")
    return len(again)


def _floor(seen: Seen, reported_qps: float) -> Floor:
    """The floor again, from the probes that were offered; ValueError where one is missing."""
    probes = {row.info.trace: row.observation() for row in of_purpose(seen.rows, "floor")}

    def probe(rate_qps: float, index: int) -> bool:
        if index not in probes or not math.isclose(probes[index].offered_qps, rate_qps, rel_tol=1e-9):
            raise ValueError(f"the floor was not offered {rate_qps:g} queries/s under trace {index}")
        return holds(probes[index], seen.trial.sla)

    if 0 not in probes:
        raise ValueError("the floor at 1,000 queries/s is missing")
    return find_floor(floor_latency(probes[0]), reported_qps, probe)


def _certificate(seen: Seen, name: str, estimates: Mapping[str, LbtEstimate | None]) -> Certificate | None:
    """The certificate again, from the attempts that were made; ValueError where one is missing or at another rate."""
    attempts = {row.info.trace: row.observation() for row in of_purpose(seen.rows, PURPOSE, name)}
    estimate = estimates[name]
    if not attempts or estimate is None or estimate.ci is None or not estimate.lbt_qps:
        return None

    def offered(rate_qps: float, number: int) -> SegmentObservation:
        if number not in attempts or not math.isclose(attempts[number].offered_qps, rate_qps, rel_tol=1e-6):
            raise ValueError(f"the {name} was not offered {rate_qps:g} queries/s under held-out trace {number}")
        return attempts[number]

    return certify(claimed_qps(estimate.lbt_qps, estimate.ci), offered, seen.trial.sla)


def validity_of(
    evidence: Mapping[int, tuple[str, ...]], planned: int, remarks: Sequence[str]
) -> tuple[Validity, tuple[int, ...]]:
    """Verdict on the host, and the quads that count. ``remarks`` (a frozen side that ran) void the whole result."""
    verdict = void_quads(evidence, planned)
    reasons = [f"quad {quad}: {reason}" for quad in sorted(evidence) for reason in evidence[quad]]
    state = "void" if remarks else "noisy_host" if verdict.noisy_host else "valid"
    return (
        Validity(verdict=state, reasons=(*reasons, *remarks), voided_quads=len(verdict.voided)),  # type: ignore[arg-type]
        verdict.kept,
    )
