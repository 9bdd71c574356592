"""Fused native kernels against the framework, block by block, beside the machine's measured roofline.

Every unit is one block of a model in two forms: as the framework runs it in fp32, and as one native kernel. Their
results are compared, then both are timed in turn (A B B A) on one thread. The table shows the ratio of their times
and the share of the roofline that the kernel reaches, both with 95 % intervals. Run it on a machine that does nothing
else. Exit code 1: two forms do not agree.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from harness.clock import now_ns
from harness.host.environment import capabilities
from tests.bench.units.default_sizes import MOST_SAMPLES
from tests.bench.units.dense_units import fc_units, feature_units, interaction_units
from tests.bench.units.embedding_units import bag_units, big_table_units, one_hot_units
from tests.bench.units.pairing import Effort, collector_off
from tests.bench.units.report import Run, print_run, write_json
from tests.bench.units.roofline import Roofline
from tests.bench.units.sequence_units import attention_units, recurrent_units
from tests.bench.units.tier_units import tier_units
from tests.bench.units.unit import Measurable, Unit, UnitResult, prepared

GROUPS: dict[str, Callable[[int, Tensor], Iterator[Unit]]] = {
    "embedding": one_hot_units,
    "bags": bag_units,
    "big_tables": big_table_units,
    "tiers": tier_units,
    "features": feature_units,
    "fc": fc_units,
    "interaction": interaction_units,
    "attention": attention_units,
    "recurrent": recurrent_units,
}
FULL, QUICK = Effort(blocks=20, block_ms=120.0), Effort(blocks=6, block_ms=40.0)
MULTIPLIERS = {"bf16": {"amx_bf16", "avx512_bf16"}, "int8": {"amx_int8", "avx512_vnni", "avx_vnni"}}
"""Processor flags that make products of a shorter type native."""
PATTERN_NUMBERS = 1_000_003
TABLE_MB = 1_500
FAR_BEYOND_CACHES = 256_000_000


def main(arguments: Sequence[str]) -> int:
    """Run the command line ``units ...``; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.json and not options.json.resolve().parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.resolve().parent}")
    torch.set_num_threads(1)
    torch.manual_seed(1)
    console = Console(stderr=True, highlight=False)
    started = now_ns()
    with torch.inference_mode():
        console.print("building the kernels, filling the large table, measuring the roofline ...")
        table = large_table(options.table_mb * 1_000_000)
        native = frozenset(dtype for dtype, flags in MULTIPLIERS.items() if flags & capabilities())
        roofline = Roofline(table, native)
        roofs = [roofline.compute(dtype) for dtype in ("fp32", *sorted(native))]
        roofs += [roofline.sequential(FAR_BEYOND_CACHES), *(roofline.random(row, table) for row in (64, 72))]
        units = [unit for name in options.only or GROUPS for unit in GROUPS[name](options.samples, table)]
        effort = QUICK if options.quick else FULL
        results = _measured(units, roofline, effort, console)
    run = Run(
        samples=options.samples,
        table_bytes=table.numel() * table.element_size(),
        seconds=(now_ns() - started) / 1e9,
        effort=effort,
        roofs=roofs,
        results=results,
    )
    print_run(run)
    if options.json:
        write_json(run, options.json)
    return int(any(result.wrong for result in results))


def large_table(wanted_bytes: int) -> Tensor:
    """Flat fp32 memory of ``wanted_bytes``, or of half of the free memory if that is less; every page written."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    table = torch.empty(max(PATTERN_NUMBERS, min(wanted_bytes, free // 2) // 4))
    # Copies of one stretch of random numbers, which no power of two divides: drawing all of them would take longer
    # than all measuring, and pages that nobody wrote to are one and the same page.
    pattern = torch.randn(PATTERN_NUMBERS)
    for part in table.split(PATTERN_NUMBERS):
        part.copy_(pattern[: len(part)])
    return table


def _measured(units: Sequence[Unit], roofline: Roofline, effort: Effort, console: Console) -> list[UnitResult]:
    """Results in the order of ``units``; every round adds one block to each of them."""
    ready = []
    with _progress(console) as progress:
        task = progress.add_task("checking the results", total=len(units))
        for unit in units:
            ready.append(prepared(unit, roofline, effort.block_ms))
            progress.advance(task)
        timed = [one for one in ready if isinstance(one, Measurable)]
        task = progress.add_task("timing, round by round", total=effort.blocks * len(timed))
        with collector_off():
            for number in range(effort.blocks):
                for one in timed:
                    one.blocks.add()
                    progress.advance(task)
                if not console.is_terminal:
                    console.print(f"round {number + 1} of {effort.blocks}")
    return [one.result() if isinstance(one, Measurable) else one for one in ready]


def _progress(console: Console) -> Progress:
    """Bars on a terminal; nothing in a pipe, which gets plain lines."""
    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*parts, console=console, disable=not console.is_terminal)


def _samples(text: str) -> int:
    count = int(text)
    if not 1 <= count <= MOST_SAMPLES:
        raise argparse.ArgumentTypeError(f"a query has 1 to {MOST_SAMPLES} samples, not {count}")
    return count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench units", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    only = f"measure this group; may be given several times (default: all of {', '.join(GROUPS)})"
    parser.add_argument("--only", action="append", choices=tuple(GROUPS), metavar="NAME", help=only)
    seconds = (f"{effort.blocks} blocks of {effort.block_ms:.0f} ms" for effort in (QUICK, FULL))
    parser.add_argument("--quick", action="store_true", help="{} per unit in place of {}".format(*seconds))
    parser.add_argument("--samples", type=_samples, default=64, help="samples of one call, 1 to 100 (default: 64)")
    table = f"size of the large table in MB (default: {TABLE_MB:,}; never more than half of the free memory)"
    parser.add_argument("--table-mb", type=int, default=TABLE_MB, metavar="MB", help=table)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured as JSON")
    return parser
