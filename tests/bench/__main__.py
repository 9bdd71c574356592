"""Service time of every plan over ``opt=[]``, in one process: ``nox -s bench -- [MODEL ...]``.

``nox -s bench -- units`` measures block by block instead (``tests/bench/units``), ``nox -s bench -- peers`` other
frameworks against ours (``tests/bench/peers``).

Both sessions answer the same query one after the other, in alternating order; the ratio is that of each pair, and its
interval is Student's t on the log ratios of blocks of pairs. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.backends.protocol import Session
from harness.backends.torch_backend import lower
from harness.clock import now_ns
from harness.edge.trial_builder import default_cache_dir
from harness.estimate.stats import log_t_interval
from harness.host.environment import capabilities, hardware_class
from optimizations.lowering import LoweringContext
from optimizations.plan import first_pipeline, resolve
from tests.bench.peers.command import main as peers
from tests.bench.units.command import main as units
from zoo.configs import MODELS, NEEDS_HISTORY, model_config
from zoo.datasets import load_dataset
from zoo.models import build_model
from zoo.schema import Dataset, Split
from zoo.training import weights_of

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
COMMANDS = {"peers": peers, "units": units}


def main() -> None:
    """Print one line per model, plan and query size; or what ``units`` or ``peers`` measures."""
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
    shape = "sequence" if model in NEEDS_HISTORY else "pointwise"
    dataset = load_dataset("planted", {"shape": shape, "size": "tiny", "table_rows": 10_000}, default_cache_dir())
    torch.manual_seed(1)
    context = _context(model, dataset, threads)
    baseline = _session(model, context, {})
    for plan in PLANS:
        candidate = _session(model, context, {name: {} for name in plan})
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


def _context(model: str, dataset: Dataset, threads: int) -> LoweringContext:
    config = model_config(model, {})
    return LoweringContext(
        schema=dataset.schema,
        config=config,
        weights=weights_of(build_model(config, dataset.schema)),
        calibration=dataset.train.batch(np.arange(64)),
        cache_dir=Path(default_cache_dir()),
        device="cpu",
        threads=threads,
    )


def _session(model: str, context: LoweringContext, opts: Mapping[str, Any]) -> Session:
    pipeline = first_pipeline(context.config, context.schema, "torch", "cpu", "serve")
    return lower(resolve(pipeline, opts, capabilities()), context)


if __name__ == "__main__":
    main()
