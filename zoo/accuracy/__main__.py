"""``python -m zoo.accuracy``: hold the contests, print the table. Trainings come from the cache where it has them.

A run that is stopped goes on where it stood. Real data is left out when no path is given.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import torch

from zoo.accuracy.contests import Contest, amazon_contests, criteo_contest, planted_contests
from zoo.accuracy.runs import hold
from zoo.accuracy.table import page

NOTES = """
Each AUC is the mean over seeds. The interval is over test users (Obuchowski's clustered variance), the paired
difference is taken on the same test samples, seed by seed. Early stopping and the choice of settings
(zoo/training_config.py, zoo/accuracy/contests.py) saw the validation split only.
"""


def main(arguments: list[str]) -> None:
    """Parse the command line, hold the contests, write the page to ``--out`` or to standard output."""
    parser = argparse.ArgumentParser(prog="python -m zoo.accuracy", description=__doc__)
    parser.add_argument("--criteo", type=Path, help="a Criteo file (train.txt or a sample of it, plain or .gz)")
    parser.add_argument(
        "--amazon", type=Path, action="append", default=[], help="an Amazon event file; may be repeated"
    )
    parser.add_argument("--only", action="append", default=[], help="hold only the contest of this name")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch; 0: its own number")
    parser.add_argument("--cache-dir", type=Path, default=Path.home() / ".cache" / "recarena")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    outcomes = [hold(contest, range(1, given.seeds + 1), given.cache_dir, _say) for contest in _contests(given)]
    text = page(outcomes, f"python -m zoo.accuracy {shlex.join(arguments)}", NOTES)
    if given.out is None:
        sys.stdout.write(text)
    else:
        given.out.write_text(text, "utf-8")


def _contests(given: argparse.Namespace) -> list[Contest]:
    contests = [*planted_contests()]
    if given.criteo:
        contests.append(criteo_contest(given.criteo))
    for path in given.amazon:
        contests += amazon_contests(path)
    return [contest for contest in contests if not given.only or contest.name in given.only]


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
