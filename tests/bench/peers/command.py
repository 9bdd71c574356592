"""Service time of other frameworks over ours, on the same weights and queries: ``nox -s bench -- peers [MODEL ...]``.

Queries of one user and a fixed number of candidates, history 50, one at a time. Each contender has a process of its
own, which is frozen while others are timed. Scores have to agree with the eager reference before anything is timed;
what does not take part is listed with its reason. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from harness.clock import now_ns
from tests.bench.peers.contender import ENTRIES, OURS, PEERS, missing_packages
from tests.bench.peers.frozen import FrozenContender, standing_contenders
from tests.bench.peers.pairing import Rounds
from tests.bench.peers.report import ModelRun, print_run, write_json
from tests.bench.peers.workload import MOST_SAMPLES
from zoo.configs import MODELS

SIZES = (1, 10, 32, 64, 100)
BLOCKS = 12


def main(arguments: Sequence[str]) -> int:
    """Run the command line ``peers ...``; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    peers = tuple(options.only or PEERS)
    if missing := missing_packages(peers):
        parser.error(
            f"the packages {', '.join(missing)} are missing: pip install 'recarena[peers]', or choose by --only"
        )
    if options.json and not options.json.resolve().parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.resolve().parent}")
    sizes = tuple(dict.fromkeys(options.sizes))
    console, runs = Console(stderr=True, highlight=False), []
    for model in options.models or MODELS:
        runs.append(run_model(model, peers, sizes, options.threads, options.blocks, console))
        print_run(runs[-1])
        if options.json:
            write_json(runs, options.json)
    return 0


def run_model(
    model: str, peers: Sequence[str], sizes: tuple[int, ...], threads: int, blocks: int, console: Console
) -> ModelRun:
    """All peers against all of ours on one model."""
    started = now_ns()
    console.print(f"{model}: building, exporting and compiling {len(peers)} peers and {len(OURS)} of ours ...")
    with tempfile.TemporaryDirectory() as folder:
        build = {"model": model, "sizes": sizes, "threads": threads, "folder": Path(folder)}
        with standing_contenders((*OURS, *peers), build) as (ready, standings):
            rounds = Rounds([p for p in peers if p in ready], [o for o in OURS if o in ready], sizes)
            for number in range(blocks if rounds.peers and rounds.ours else 0):
                rounds.add(lambda name, size: _turn(ready[name], size))
                console.print(f"{model}: round {number + 1} of {blocks}")
            return ModelRun(
                model=model,
                sizes=sizes,
                threads=threads,
                blocks=blocks,
                seconds=(now_ns() - started) / 1e9,
                standings=standings,
                ratios=rounds.ratios() if rounds.peers and rounds.ours else [],
            )


def _turn(contender: FrozenContender, size: int) -> float:
    return contender.turn(size)


def _samples(text: str) -> int:
    count = int(text)
    if not 1 <= count <= MOST_SAMPLES:
        raise argparse.ArgumentTypeError(f"a query has 1 to {MOST_SAMPLES} samples, not {count}")
    return count


def _blocks(text: str) -> int:
    count = int(text)
    if count < 2:
        raise argparse.ArgumentTypeError(f"an interval needs at least 2 blocks, not {count}")
    return count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"{', '.join(MODELS)} (default: all)")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help=f"of every contender (default: {cores}, all cores)")
    sizes = f"candidates of a query, 1 to {MOST_SAMPLES} (default: {' '.join(map(str, SIZES))})"
    parser.add_argument("--sizes", type=_samples, nargs="+", default=SIZES, metavar="N", help=sizes)
    parser.add_argument("--blocks", type=_blocks, default=BLOCKS, help=f"of every ratio (default: {BLOCKS})")
    titles = ", ".join(f"{name} ({ENTRIES[name].title})" for name in PEERS)
    parser.add_argument("--only", action="append", choices=PEERS, metavar="PEER", help=f"one of {titles}; repeatable")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured as JSON")
    return parser
