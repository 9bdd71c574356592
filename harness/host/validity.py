"""Evidence about the host, sampled from outside the systems under test, and what it is worth (R13, R16)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.clock import now_ns
from harness.host.processes import read_stat

PRESSURE = ("cpu", "memory", "io")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSample:
    """Counters of one side's processes, summed over processes and threads."""

    voluntary_switches: int
    involuntary_switches: int
    minor_faults: int
    major_faults: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSample:
    """Counters since boot. Shares follow from two samples; see ``between``.

    total_ticks, steal_ticks, busy_ticks (neither idle nor stolen): /proc/stat, all cores. pressure_us: "some" stall
    time by resource (/proc/pressure), missing where the kernel has none. frequency_mhz: mean over cores, None where it
    cannot be read.
    """

    at_ns: int
    total_ticks: int
    steal_ticks: int
    pressure_us: Mapping[str, int]
    frequency_mhz: float | None
    sides: Mapping[str, ProcessSample]
    busy_ticks: int = 0


def sample_host(sides: Mapping[str, Sequence[int]]) -> HostSample:
    """Sample now; ``sides`` maps a name to its process ids."""
    total, steal, busy = _ticks()
    return HostSample(
        at_ns=now_ns(),
        total_ticks=total,
        steal_ticks=steal,
        pressure_us=_pressure(),
        frequency_mhz=_frequency_mhz(),
        sides={name: _processes(pids) for name, pids in sides.items()},
        busy_ticks=busy,
    )


def between(first: HostSample, last: HostSample) -> dict[str, Any]:
    """What happened from ``first`` to ``last``, for the record: JSON-able.

    steal_share: share of all core time that the hypervisor took; busy_share: that any process used. pressure_share:
    share of the time in which some task waited for the resource. sides: differences of the counters.
    """
    elapsed_us = max(1, (last.at_ns - first.at_ns) // 1000)
    ticks = max(1, last.total_ticks - first.total_ticks)
    pressure = {
        name: (last.pressure_us[name] - first.pressure_us[name]) / elapsed_us
        for name in last.pressure_us
        if name in first.pressure_us
    }
    return {
        "seconds": elapsed_us * 1e-6,
        "steal_share": (last.steal_ticks - first.steal_ticks) / ticks,
        "busy_share": (last.busy_ticks - first.busy_ticks) / ticks,
        "pressure_share": pressure,
        "frequency_mhz": [first.frequency_mhz, last.frequency_mhz],
        "sides": {name: _difference(first.sides[name], last.sides[name]) for name in last.sides if name in first.sides},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRules:
    """When a quad is void: above ``steal_share``; when the null SUT's p99 beside it is above ``null_share`` of the
    latency limit; when processes that are no part of the measurement used more than ``others_share`` of core time."""

    steal_share: float = 0.02
    null_share: float = 0.10
    others_share: float = 0.05


def others_share(host: Mapping[str, Any], own_ns: int) -> float:
    """Share of all core time that was used, and not by those whose CPU time between the two samples is ``own_ns``.

    host: what ``between`` returned. Used time is counted in ticks and own time exactly, so that the two differ by a
    little either way; below 0 is 0.
    """
    cores_s = float(host["seconds"]) * (os.cpu_count() or 1)
    return max(0.0, float(host["busy_share"]) - own_ns * 1e-9 / cores_s)


def void_reasons(
    steal_share: float,
    null_p99_ns: Sequence[float],
    limit_ns: int,
    others_share: float = 0.0,
    rules: HostRules | None = None,
) -> tuple[str, ...]:
    """Why a quad does not count; () when it does. Only evidence from outside the SUT is looked at.

    null_p99_ns: p99 of the null probes before and after the quad, which do not see what goes on between them.
    others_share: see ``others_share``.
    """
    rules = rules or HostRules()
    reasons = []
    if steal_share > rules.steal_share:
        reasons.append(f"steal {steal_share:.1%} of core time, above {rules.steal_share:.1%}")
    bound_ns = rules.null_share * limit_ns
    worst = max(null_p99_ns, default=0.0)
    if worst > bound_ns:
        reasons.append(f"null probe p99 {worst / 1e6:.2f} ms, above {bound_ns / 1e6:.2f} ms")
    if others_share > rules.others_share:
        reasons.append(f"other processes used {others_share:.1%} of core time, above {rules.others_share:.1%}")
    return tuple(reasons)


def void_reasons_of_training(
    steal_share: float, others_share: float, rules: HostRules | None = None
) -> tuple[str, ...]:
    """The same for a quad of training, which has no null probes."""
    return void_reasons(steal_share, (), 0, others_share, rules)


def _difference(first: ProcessSample, last: ProcessSample) -> dict[str, int]:
    return {name: getattr(last, name) - getattr(first, name) for name in ProcessSample.__dataclass_fields__}


def _ticks() -> tuple[int, int, int]:
    """(all, stolen, busy) ticks; guest time is already part of user time (proc_stat(5))."""
    text = _read(Path("/proc/stat"))
    if not text:
        return 0, 0, 0
    fields = [int(value) for value in text.splitlines()[0].split()[1:]]
    total, waiting, steal = sum(fields[:8]), fields[3] + fields[4], fields[7]
    return total, steal, total - waiting - steal


def _pressure() -> dict[str, int]:
    found = {}
    for name in PRESSURE:
        text = _read(Path("/proc/pressure") / name)
        if text:
            found[name] = int(text.splitlines()[0].rpartition("total=")[2])
    return found


def _frequency_mhz() -> float | None:
    files = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    values = [float(text) / 1000.0 for text in map(_read, files) if text]
    if not values:
        lines = _read(Path("/proc/cpuinfo")).splitlines()
        values = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return sum(values) / len(values) if values else None


def _processes(pids: Sequence[int]) -> ProcessSample:
    stats = [stat for stat in map(read_stat, pids) if stat is not None]
    switches = [_switches(stat.pid) for stat in stats]
    return ProcessSample(
        voluntary_switches=sum(voluntary for voluntary, _ in switches),
        involuntary_switches=sum(involuntary for _, involuntary in switches),
        minor_faults=sum(stat.minor_faults for stat in stats),
        major_faults=sum(stat.major_faults for stat in stats),
    )


def _switches(pid: int) -> tuple[int, int]:
    voluntary = involuntary = 0
    for path in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in _read(path).splitlines():
            name, _, value = line.partition(":")
            if name == "voluntary_ctxt_switches":
                voluntary += int(value)
            elif name == "nonvoluntary_ctxt_switches":
                involuntary += int(value)
    return voluntary, involuntary


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
