"""Repeats of cells: which are missing, and running them, several at a time where they are simulated."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.calibrate.cells import Cell
from harness.calibrate.crew import run_all
from harness.calibrate.processes import ProcessCell, compare_processes
from harness.calibrate.source import shaping_sha256
from harness.calibrate.study import compare_once
from harness.clock import now_ns
from harness.console.observer import observer_for
from harness.host.environment import source_sha256

Job = tuple[Cell | ProcessCell, str, int]
"""Cell, name of the budget, seed."""
Results = list[Mapping[str, Any]]
SAY_EVERY_S = 30.0


def all_repeats(
    jobs: Sequence[Job], kept: Path | None, workers: int, say: Callable[[str], None], minutes: float | None = None
) -> Results:
    """Results of all jobs, or of those that are done when the minutes are over (None: all).

    Those that the JSON lines of ``kept`` hold, by the code as it is, are not run again; every other one is added there
    as it ends. Repeats that are under way when the time is over are waited for.
    """
    sources = {cell.name: source_of(cell) for cell, _, _ in jobs}
    text = kept.read_text("utf-8") if kept and kept.exists() else ""
    wanted = {(cell.name, budget, seed) for cell, budget, seed in jobs}
    known = (r for r in _lines(text) if r.get("source") == sources.get(r["cell"]))
    results = {key: r for r in known if (key := (r["cell"], r["budget"], r["seed"])) in wanted}
    missing = [job for job in jobs if (job[0].name, job[1], job[2]) not in results]
    separator = "" if not text or text.endswith("\n") else "\n"  # the last one was cut off by the end of its run
    start, said = now_ns(), 0.0
    for number, new in enumerate(_run(_until(missing, start, minutes), workers), start=1):
        result = {**new, "source": sources[new["cell"]]}
        results[result["cell"], result["budget"], result["seed"]] = result
        if kept:
            with kept.open("a", encoding="utf-8") as file:
                file.write(separator + json.dumps(result) + "\n")
            separator = ""
        passed = (now_ns() - start) / 1e9
        if passed - said >= SAY_EVERY_S or number == len(missing) or isinstance(missing[0][0], ProcessCell):
            say(f"{number} of {len(missing)} in {passed / 60:.1f} min: {result['cell']}")
            said = passed
    if len(results) < len(wanted):
        say(f"the time is over: {len(results)} of {len(wanted)} repeats are done")
    return list(results.values())


def source_of(cell: Cell | ProcessCell) -> str:
    """Hash of all that shapes a repeat of this cell."""
    if isinstance(cell, ProcessCell):
        return source_sha256()
    return hashlib.sha256(f"{shaping_sha256()}\0{cell}".encode()).hexdigest()


def _lines(text: str) -> Iterator[Mapping[str, Any]]:
    return (json.loads(line) for line in text.splitlines() if line.endswith("}"))


def _until(jobs: Iterable[Job], start_ns: int, minutes: float | None) -> Iterator[Job]:
    """The jobs that begin before the minutes are over."""
    for job in jobs:
        if minutes is not None and now_ns() - start_ns >= minutes * 60e9:
            return
        yield job


def _run(jobs: Iterable[Job], workers: int) -> Iterator[Mapping[str, Any]]:
    return map(run_job, jobs) if workers == 1 else run_all(run_job, jobs, workers)


def run_job(job: Job) -> Mapping[str, Any]:
    """One repeat."""
    cell, budget, seed = job
    if isinstance(cell, ProcessCell):
        cache_dir = Path.home() / ".cache" / "recarena"
        return compare_processes(cell, budget, seed, cache_dir, observer_for(sys.stderr))
    return compare_once(cell, budget, seed)
