"""A process under a memory limit: ``limited_process.py FOLDER PROCS tier | copy``.

Ready but for the tables, it joins the control group of the file PROCS. Then "tier" serves FOLDER/batch.bin from tables
in their file and writes FOLDER/scores.npy; "copy" reads the tables into memory.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

PART = 100
"""Samples at a time: what a call works on is memory, too."""


def main(folder: Path, procs: Path, way: str) -> None:
    """Join, then do what is asked for."""
    import numpy as np

    if way == "copy":
        from zoo.array_file import map_arrays

        procs.write_text(str(os.getpid()))
        kept = [np.array(array) for array in map_arrays(folder / "weights.npz").values()]
        sys.exit(len(kept) == 0)

    import torch

    from harness.backends.catalogue import load_backend
    from harness.sut.batching import cut_batch
    from harness.transport.wire import decode
    from optimizations.kernels.loader import load_kernels
    from optimizations.lowering import LoweringContext
    from optimizations.plan import plan_from_json
    from zoo.checkpoint import load_weights
    from zoo.configs import DlrmConfig
    from zoo.frequencies import load_frequencies
    from zoo.schema import Schema

    torch.set_num_threads(1)
    load_kernels()
    backend, batch = load_backend("torch"), decode((folder / "batch.bin").read_bytes())
    procs.write_text(str(os.getpid()))
    context = LoweringContext(
        schema=Schema.from_json((folder / "schema.json").read_text()),
        config=DlrmConfig(),
        weights=load_weights(folder / "weights.npz"),
        calibration=None,
        cache_dir=folder,
        device="cpu",
        threads=1,
        frequencies=load_frequencies(folder / "frequencies.npz"),
    )
    session = backend.lower(plan_from_json((folder / "plan.json").read_text()), context)
    parts = [cut_batch(batch, first, min(first + PART, len(batch))) for first in range(0, len(batch), PART)]
    np.save(folder / "scores.npy", np.concatenate([session.predict(part) for part in parts]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
