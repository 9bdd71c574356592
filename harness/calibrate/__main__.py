"""``python -m harness.calibrate``: the whole estimator against systems of known truth, as a table and as JSON.

Repeats are kept as they end (``--results``), so that a long run that is stopped goes on where it stood.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.calibrate.cells import CELLS, Cell
from harness.calibrate.study import Row, compare_once, summarise

COLUMNS = (
    ("cell", "{0.cell}"),
    ("truth", "{0.truth_qps:.1f}"),
    ("mean", "{0.mean_qps:.1f}"),
    ("error", "{0.error:+.2%}"),
    ("sd", "{0.sd:.2%}"),
    ("interval holds the truth", "{0.covered:.1%} of {0.sides}"),
    ("half width", "{0.half_width:.1%}"),
    ("> 2 % too high", "{0.overstated:.1%}"),
    ("correlation", "{0.correlation:.2f}"),
    ("clumps", "{0.clumps:.0f}"),
    ("measured / few clumps / by regression", "{0.ok:.0%} / {0.few_clumps:.0%} / {0.regression:.0%}"),
    ("ratio", "{0.truth_ratio:.3g}"),
    ("its interval holds the truth", "{0.ratio_covered:.1%} of {0.ratios}"),
    ("its half width", "{0.ratio_half_width:.1%}"),
    ("s", "{0.seconds:.2f}"),
)
_STEADY_ONLY = ("truth", "mean", "error", "sd", "interval holds the truth", "> 2 % too high")


def main(arguments: Sequence[str]) -> None:
    """Run the cells that were asked for and print the table."""
    parser = argparse.ArgumentParser(prog="python -m harness.calibrate", description=__doc__)
    parser.add_argument("--budget", choices=("quick", "standard"), default="standard")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--cells", nargs="*", metavar="NAME", default=[cell.name for cell in CELLS])
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--results", type=Path, help="JSON lines, one per repeat; read first if it exists")
    parser.add_argument("--out", type=Path, help="the rows as JSON")
    given = parser.parse_args(arguments)
    known = {cell.name: cell for cell in CELLS}
    if unknown := [name for name in given.cells if name not in known]:
        parser.error(f"unknown cell {unknown[0]!r}; choose of {', '.join(known)}")
    cells = [known[name] for name in given.cells]
    results = _all_repeats(cells, given)
    rows = [summarise(cell, [r for r in results if r["cell"] == cell.name]) for cell in cells]
    sys.stdout.write(markdown(rows))
    if given.out:
        given.out.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1), "utf-8")


def _all_repeats(cells: Sequence[Cell], given: argparse.Namespace) -> list[Mapping[str, Any]]:
    done = _read(given.results) if given.results and given.results.exists() else []
    wanted = {(cell.name, given.budget, seed) for cell in cells for seed in range(given.repeats)}
    results = [r for r in done if (r["cell"], r["budget"], r["seed"]) in wanted]
    missing = wanted - {(r["cell"], r["budget"], r["seed"]) for r in results}
    jobs = [(cell, given.budget, seed) for cell in cells for seed in range(given.repeats)]
    jobs = [job for job in jobs if (job[0].name, job[1], job[2]) in missing]
    for number, result in enumerate(_run(jobs, given.workers), start=1):
        results.append(result)
        if given.results:
            with given.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
        if number % 20 == 0 or number == len(jobs):
            sys.stderr.write(f"{number} of {len(jobs)}: {result['cell']}\n")
    return results


def _read(path: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.endswith("}")]


def _run(jobs: Sequence[tuple[Cell, str, int]], workers: int) -> Iterable[Mapping[str, Any]]:
    if workers == 1:
        yield from map(_one, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(_one, jobs)


def _one(job: tuple[Cell, str, int]) -> Mapping[str, Any]:
    return compare_once(*job)


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table; a wavering host has no one LBT, so its sides' columns stay empty."""
    lines = [" | ".join(name for name, _ in COLUMNS), " | ".join("---" for _ in COLUMNS)]
    for row in rows:
        lines.append(
            " | ".join("" if name in _STEADY_ONLY and not row.steady else form.format(row) for name, form in COLUMNS)
        )
    return "".join(f"| {line} |\n" for line in lines)


if __name__ == "__main__":
    main(sys.argv[1:])
