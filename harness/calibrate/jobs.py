"""Repeats of cells: which are missing, and running them, several at a time where they are simulated."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.calibrate.cells import Cell
from harness.calibrate.processes import ProcessCell, compare_processes
from harness.calibrate.study import compare_once
from harness.console.observer import observer_for
from harness.host.environment import source_sha256

Job = tuple[Cell | ProcessCell, str, int]
"""Cell, name of the budget, seed."""
Results = list[Mapping[str, Any]]


def all_repeats(jobs: Sequence[Job], kept: Path | None, workers: int, say: Callable[[str], None]) -> Results:
    """Results of all jobs. Those that the JSON lines of ``kept`` hold, by this very source, are not run again; every
    other one is added there as it ends."""
    text, source = kept.read_text("utf-8") if kept and kept.exists() else "", source_sha256()
    done = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    known = {(cell.name, budget, seed) for cell, budget, seed in jobs}
    results = [r for r in done if (r["cell"], r["budget"], r["seed"]) in known and r.get("source") == source]
    have = {(r["cell"], r["budget"], r["seed"]) for r in results}
    separator = "" if not text or text.endswith("\n") else "\n"  # the last one was cut off by the end of its run
    missing = [job for job in jobs if (job[0].name, job[1], job[2]) not in have]
    for number, found in enumerate(_run(missing, workers), start=1):
        result = {**found, "source": source}
        results.append(result)
        if kept:
            with kept.open("a", encoding="utf-8") as file:
                file.write(separator + json.dumps(result) + "\n")
            separator = ""
        if number % 20 == 0 or number == len(missing) or isinstance(missing[0][0], ProcessCell):
            say(f"{number} of {len(missing)}: {result['cell']}")
    return results


def _run(jobs: Sequence[Job], workers: int) -> Iterator[Mapping[str, Any]]:
    if workers == 1:
        yield from map(run_job, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(run_job, job) for job in jobs]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()


def run_job(job: Job) -> Mapping[str, Any]:
    """One repeat."""
    cell, budget, seed = job
    if isinstance(cell, ProcessCell):
        cache_dir = Path.home() / ".cache" / "recarena"
        return compare_processes(cell, budget, seed, cache_dir, observer_for(sys.stderr))
    return compare_once(cell, budget, seed)
