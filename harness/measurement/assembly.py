"""From what a serving trial has seen to its result and its evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.host.environment import describe_environment
from harness.measurement.bench import Bench
from harness.measurement.gate import allowed_deviation
from harness.measurement.identity import identity
from harness.measurement.outcome import Seen, outcome
from harness.measurement.peer_models import training_facts
from harness.measurement.preparation import BASELINE, CANDIDATE, Prepared
from harness.measurement.quads import QuadLog
from harness.measurement.side import Side
from harness.measurement.sut_spec import plan_lines
from harness.measurement.weights import file_sha256
from harness.record.peer_result import PeerResult
from harness.record.result import Measurement, PlanLine, Result
from harness.record.side_result import SideResult
from optimizations.registry import third_party_packages


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the hops of a trial hand on. facts: by side, what no column of the record tells; logs: of MLPerf LoadGen;
    awake: whether idle cores were kept from halting."""

    log: QuadLog
    facts: dict[str, SideResult]
    logs: dict[str, bytes]
    awake: bool


def lines_of(prepared: Prepared, sides: list[Side]) -> tuple[PlanLine, ...]:
    """The measured plan as it was lowered."""
    measured = sides[-1]
    return plan_lines(prepared.plans[measured.name], measured.info.report)


def _peer(prepared: Prepared, sides: list[Side]) -> PeerResult | None:
    """What is said of the side that is a peer, if there is one."""
    trial = prepared.trial
    side = next((side for side in sides if side.name == trial.peer_side), None)
    if side is None:
        return None
    (line,) = plan_lines(prepared.plans[side.name], side.info.report)
    served = prepared.served_by(side.name)
    return PeerResult(
        name=trial.peer["name"],
        settings=trial.peer["settings"],
        side=side.name,  # type: ignore[arg-type]
        weights="own" if side.name in prepared.own else "ours",
        weights_sha256=file_sha256(served),
        options={name: value for name, value in line.options.items() if name != "settings"},
        built=line.built,
        trained=training_facts(served) if side.name in prepared.own else {},
    )


def assemble(bench: Bench, prepared: Prepared, sides: list[Side], kept: Kept) -> Measurement:
    """The result with its evidence."""
    trial, labels = bench.trial, bench.split.labels
    numbers = outcome(
        Seen(
            trial=trial,
            rows=bench.evidence.rows,
            labels=labels,
            answers=bench.evidence.answers,
            facts=kept.facts,
            steal=kept.log.steal,
            others=kept.log.others,
            remarks=bench.remarks,
            allowed=allowed_deviation(lines_of(prepared, sides)),
        )
    )
    environment = describe_environment(kept.awake, third_party_packages(trial.opts))
    result = Result(
        **identity(trial, prepared.dataset, environment),
        plan=lines_of(prepared, sides),
        baseline=numbers.sides[BASELINE],
        candidate=numbers.sides.get(CANDIDATE),
        ratio=numbers.ratio,
        gate=numbers.gate,
        floor=numbers.floor,
        validity=numbers.validity,
        weights_sha256=file_sha256(prepared.weights),
        peer=_peer(prepared, sides),
        segments=numbers.segments,
        certificate=numbers.certificate,
    )
    bench.observer.done(result)
    return Measurement(
        result=result,
        queries=bench.evidence.queries(),
        predictions=bench.evidence.predictions(labels),
        environment={**environment, "run": _run_facts(bench, kept.log)},
        weights_path=prepared.trained,
        logs=kept.logs,
    )


def _run_facts(bench: Bench, log: QuadLog) -> Mapping[str, Any]:
    """How the referee itself fared: priority, cores, CPU per query, send lateness, host counters per quad."""
    lateness = np.concatenate([*bench.evidence.lateness_ns, np.zeros(0, np.int64)])
    cpus = bench.referee.cpus
    return {
        "sender_priority": bench.referee.sender.priority,
        "frozen_by": bench.referee.frozen_by,
        "collections": {name: dataclasses.asdict(seen) for name, seen in bench.referee.collections.items()},
        "cores": {"sender": list(cpus.sender), "sut": list(cpus.sut)},
        "sender_cpu_us_per_query": bench.evidence.sender_cpu_ns / 1e3 / max(1, bench.evidence.sends),
        "send_lateness_us": {
            f"p{p:g}": float(np.quantile(lateness, p / 100)) / 1e3 for p in (50, 99, 99.9) if len(lateness)
        },
        "quads": log.host,
    }
