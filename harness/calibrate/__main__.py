"""``python -m harness.calibrate``: the whole estimator against systems of known truth, as a table and as JSON.

Simulated by default; with ``--processes`` the whole referee against real processes, on an otherwise idle machine.
Repeats are kept as they end (``--results``), so that a study of days may be run in parts: ``--minutes 20`` goes on
where the last part stood, for so long, and then prints what there is; ``--minutes 0`` only prints.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.calibrate.bars import verdicts
from harness.calibrate.cells import Cell
from harness.calibrate.crew import WorkerLost
from harness.calibrate.jobs import all_repeats
from harness.calibrate.process_table import process_table
from harness.calibrate.processes import PROCESS_CELLS, ProcessCell
from harness.calibrate.summary import Row, summarise
from harness.calibrate.table import CELLS

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
    parser.add_argument("--cells", nargs="*", metavar="NAME", help="all by default")
    parser.add_argument("--processes", action="store_true", help="real systems under test instead of simulated ones")
    parser.add_argument("--workers", type=int, default=1, help="simulations at a time")
    parser.add_argument("--results", type=Path, help="JSON lines, one per repeat; read first if it exists")
    parser.add_argument("--minutes", type=float, help="begin no repeat after so long; by default until all are done")
    parser.add_argument("--out", type=Path, help="the rows as JSON")
    given = parser.parse_args(arguments)
    everything: Sequence[Cell | ProcessCell] = PROCESS_CELLS if given.processes else CELLS
    names = given.cells or [cell.name for cell in everything]
    if unknown := [name for name in names if name not in {cell.name for cell in everything}]:
        parser.error(f"unknown cell {unknown[0]!r}; choose of {', '.join(cell.name for cell in everything)}")
    # One repeat of every cell after the other: whenever it is stopped, the cells are equally far.
    jobs = [(cell, given.budget, seed) for seed in range(given.repeats) for cell in everything if cell.name in names]
    workers = 1 if given.processes else given.workers
    try:
        results = all_repeats(jobs, given.results, workers, _say, given.minutes)
    except WorkerLost as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    if given.processes:
        sys.stdout.write(process_table(results))
        rows: list[Any] = list(results)
    else:
        of_cell = {cell: [r for r in results if r["cell"] == cell.name] for cell in CELLS}
        found = [summarise(cell, repeats) for cell, repeats in of_cell.items() if repeats]
        sys.stdout.write(f"{markdown(found)}\n{verdicts(found)}")
        rows = [dataclasses.asdict(row) for row in found]
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1), "utf-8")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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
