"""Speed and memory of the Criteo reader on a generated file: ``python -m tests.bench.reader [--lines N]``.

The file has the official layout (label, 13 integers that may be empty, 26 categories of 8 hex digits that may be
empty). It is read, checked, cached and loaded by a fresh process, whose peak memory is reported.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from harness.clock import now_ns
from zoo.datasets import load_dataset

BLOCK = 50_000
DISTINCT_BLOCKS = 20


def main() -> None:
    """Write the file, read it in a child, print rows per second and peak memory."""
    parser = argparse.ArgumentParser(prog="tests.bench.reader", description=__doc__)
    parser.add_argument("--lines", type=int, default=5_000_000)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        _read(arguments.read)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.txt"
        _write(path, arguments.lines)
        print(f"{arguments.lines:,} lines, {path.stat().st_size / 1e9:.2f} GB")
        subprocess.run([sys.executable, "-m", "tests.bench.reader", "--read", str(path)], check=True)


def _write(path: Path, lines: int) -> None:
    rng = np.random.default_rng(1)
    blocks = [_block(rng) for _ in range(DISTINCT_BLOCKS)]
    with path.open("w", encoding="ascii") as file:
        for number in range(-(-lines // BLOCK)):
            file.writelines(blocks[number % DISTINCT_BLOCKS][: lines - number * BLOCK])


def _block(rng: np.random.Generator) -> list[str]:
    """``BLOCK`` lines with a quarter of clicks, a fifth of empty integers and a tenth of empty categories."""
    labels = (rng.random(BLOCK) < 0.25).astype(int).astype(str)
    integers = np.floor(rng.lognormal(2.0, 2.0, (BLOCK, 13))).astype(np.int64).astype(str)
    integers[rng.random(integers.shape) < 0.2] = ""
    ids = rng.zipf(1.2, (BLOCK, 26)) % 2**32
    categories = [["" if empty else f"{value:08x}" for value, empty in zip(*row, strict=True)]
                  for row in zip(ids.tolist(), (rng.random(ids.shape) < 0.1).tolist(), strict=True)]  # fmt: skip
    rows = zip(labels.tolist(), integers.tolist(), categories, strict=True)
    return ["\t".join([label, *numbers, *names]) + "\n" for label, numbers, names in rows]


def _read(path: Path) -> None:
    start = now_ns()
    with tempfile.TemporaryDirectory() as cache:
        data = load_dataset("criteo", {"path": str(path), "max_rows": 0}, Path(cache))
        seconds = (now_ns() - start) / 1e9
        rows = len(data.train) + len(data.valid) + len(data.test)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{rows:,} rows read, cached and loaded in {seconds:.1f} s: {rows / seconds:,.0f} rows/s, peak {peak:,.0f} MiB"
    )


if __name__ == "__main__":
    main()
