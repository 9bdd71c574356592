"""Service time of every plan over ``opt=[]``, in one process: ``nox -s bench -- [MODEL ...]``.

``nox -s bench -- units`` measures block by block instead (``tests/bench/units``), ``nox -s bench -- peers`` other
frameworks against ours (``tests/bench/peers``), ``nox -s bench -- training`` other ways to train against the plain
loop (``tests/bench/training``), ``nox -s bench -- slots`` what a query costs around its model.

Both sessions answer the same query one after the other, in alternating order; the ratio is that of each pair, and its
interval is Student's t on the log ratios of blocks of pairs. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import numpy as np

from harness.backends.protocol import Session
from harness.clock import now_ns
from harness.estimate.stats import log_t_interval
from harness.host.environment import hardware_class
from tests.bench.peers.command import main as peers
from tests.bench.sessions import context_of, planted_of, session_of
from tests.bench.slots import main as slots
from tests.bench.training.command import main as training
from tests.bench.units.command import main as units
from zoo.configs import MODELS
from zoo.schema import Split

PLANS: tuple[tuple[str, ...], ...] = (
    ("fusion",),
    ("bf16",),
    ("tf32",),
    ("dedup",),
    ("fusion", "bf16"),
    ("fusion", "dedup"),
    ("fusion", "bf16", "dedup"),
    ("fusion", "dedup", "int8"),
)
SIZES = (1, 10, 32, 100)
BLOCKS, PAIRS = 12, 5
COMMANDS = {"peers": peers, "slots": slots, "training": training, "units": units}


def main() -> None:
    """Print one line per model, plan and query size; or what one of ``COMMANDS`` measures."""
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        sys.exit(COMMANDS[sys.argv[1]](sys.argv[2:]))
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    print(f"{hardware_class()}, {arguments.threads} threads; service time of opt=[] over the plan's, 95 % interval")
    for model in arguments.models or MODELS:
        bench_model(model, arguments.threads)


def bench_model(model: str, threads: int) -> None:
    """All plans of one model with random weights on planted data."""
    dataset = planted_of(model)
    context = context_of(model, dataset, threads)
    baseline = session_of(context, {})
    for plan in PLANS:
        candidate = session_of(context, {name: {} for name in plan})
        for size in SIZES:
            ratio, (low, high), base_ms = paired(baseline, candidate, dataset.test, size)
            name = f"opt=[{','.join(plan)}]"
            print(f"{model:<5} {name:<24} n={size:<4} {ratio:6.2f}x [{low:.2f}, {high:.2f}]  ({base_ms:.2f} ms)")


def paired(baseline: Session, candidate: Session, split: Split, size: int) -> tuple[float, tuple[float, float], float]:
    """(ratio, its interval, baseline's median ms) over ``BLOCKS`` blocks of ``PAIRS`` pairs."""
    for session in (baseline, candidate):
        session.predict(split.batch(np.arange(size)))
    logs, times = np.zeros((BLOCKS, PAIRS)), []
    for block, pair in np.ndindex(BLOCKS, PAIRS):
        group = (block * PAIRS + pair) % (len(split.groups) - 1)
        batch = split.batch(split.groups[group] + np.arange(size))
        order = (baseline, candidate) if pair % 2 else (candidate, baseline)
        taken = {id(session): _timed_ns(session, batch) for session in order}
        times.append(taken[id(baseline)])
        logs[block, pair] = np.log(taken[id(baseline)] / taken[id(candidate)])
    ratio, interval = log_t_interval(np.median(logs, axis=1))
    return ratio, interval, float(np.median(times)) / 1e6


def _timed_ns(session: Session, batch: Any) -> int:
    started = now_ns()
    session.predict(batch)
    return now_ns() - started


if __name__ == "__main__":
    main()
