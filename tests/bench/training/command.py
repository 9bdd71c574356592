"""Samples per second of other ways to train over the plain loop's: ``nox -s bench -- training [MODEL ...]``.

``dense_adam`` is the baseline that flatters every optimization of embeddings: the same model, but one Adam over whole
tables. ``deepctr_torch`` and ``fuxictr`` take the steps of their own ``fit``, with their own defaults, on the same
samples. Inputs are in memory on all sides; steps of all are taken in turn. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import numpy as np
import torch

from harness.clock import now_ns
from harness.edge.trial_builder import default_cache_dir
from harness.estimate.accuracy import auc
from harness.estimate.stats import log_t_interval
from harness.host.environment import hardware_class
from tests.bench.training.contenders import CONTENDERS, Contender, Workload, missing_package
from zoo.configs import MODELS, NEEDS_HISTORY, model_config
from zoo.datasets import load_dataset
from zoo.training_batches import Draw, TrainingBatches
from zoo.training_config import training_config

PLAIN = "plain"
WARM = 3


def main(arguments: Sequence[str]) -> int:
    """Run the command line ``training ...``; the exit code."""
    parser = argparse.ArgumentParser(prog="nox -s bench -- training", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: all; of {', '.join(MODELS)}")
    parser.add_argument("--only", nargs="+", choices=[name for name in CONTENDERS if name != PLAIN], metavar="NAME")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--blocks", type=int, default=8, help="each gives one ratio")
    parser.add_argument("--steps", type=int, default=5, help="of a block, on each side")
    parser.add_argument("--epochs", type=int, default=0, help="then train each so long, and tell the validation AUC")
    parser.add_argument("--size", default="default", help="of the planted data")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    print(
        f"{hardware_class()}, {options.threads} threads, batch {options.batch}; samples/s over the plain loop's, 95 %"
    )
    for model in options.models or MODELS:
        torch.set_num_threads(options.threads)
        _measure(model, [PLAIN, *(options.only or [name for name in CONTENDERS if name != PLAIN])], options)
    return 0


def _measure(model: str, names: list[str], options: argparse.Namespace) -> None:
    shape = "sequence" if model in NEEDS_HISTORY else "pointwise"
    workload = Workload(
        dataset=load_dataset("planted", {"shape": shape, "size": options.size}, default_cache_dir()),
        config=model_config(model, {}),
        training=training_config(model, {"batch_size": options.batch}),
        threads=options.threads,
    )
    standing = _standing(model, names, workload)
    batches, rates = workload.batches(), dict[str, list[float]]()
    _turn(standing, batches, WARM)
    order = list(standing)
    for block in range(options.blocks):
        seconds = _turn({name: standing[name] for name in order[:: 1 if block % 2 else -1]}, batches, options.steps)
        for name, took in seconds.items():
            rates.setdefault(name, []).append(options.batch * options.steps / took)
    for name, found in rates.items():
        ratio, (low, high) = log_t_interval(np.log(np.divide(found, rates[PLAIN])))
        said = "" if name == PLAIN else f"  {ratio:.2f} [{low:.2f}, {high:.2f}]"
        print(f"{model} {name}: {np.median(found):,.0f} samples/s{said}", flush=True)
    if options.epochs:
        _train(model, standing, batches, options.epochs, workload)


def _standing(model: str, names: Sequence[str], workload: Workload) -> dict[str, Contender]:
    found: dict[str, Contender] = {}
    for name in names:
        if missing := missing_package(name):
            print(f"{model} {name}: the package {missing} is not installed")
            continue
        try:
            found[name] = CONTENDERS[name](workload)
        except ValueError as error:
            print(f"{model} {name}: {error}")
    return found


def _turn(standing: dict[str, Contender], batches: TrainingBatches, steps: int) -> dict[str, float]:
    """Seconds of each for the same next steps."""
    draws: list[Draw] = [batches.draw() for _ in range(steps)]
    seconds = {}
    for name, contender in standing.items():
        contender.hold(draws)
        started = now_ns()
        contender.step()
        seconds[name] = (now_ns() - started) * 1e-9
    return seconds


def _train(
    model: str, standing: dict[str, Contender], batches: TrainingBatches, epochs: int, workload: Workload
) -> None:
    """Go on until so many epochs are over, and judge what each has learned."""
    valid = workload.dataset.valid
    while batches.steps < epochs * batches.per_epoch:
        _turn(standing, batches, 1)
    for name, contender in standing.items():
        found = auc(valid.labels, contender.scores(valid))
        print(f"{model} {name}: validation AUC {found:.4f} after {batches.steps} steps", flush=True)
