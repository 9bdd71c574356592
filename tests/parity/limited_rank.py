"""A training in a process, or in several that ``torchrun`` starts, each under a memory limit of its own:
``limited_rank.py FOLDER PROCS...``.

Ready but for the tables, rank r joins the control group of the r-th file PROCS. Then it takes ``STEPS`` steps of the
training of FOLDER/spec.json and writes its rows of every table to FOLDER/rank<r>.npz.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

STEPS = 3


def main(folder: Path, groups: list[str]) -> None:
    """Load what is needed, join, train."""
    import numpy as np

    from harness.backends.torch_training import lower_training  # noqa: F401 (loaded before the limit counts)
    from harness.sut.training_server import open_training

    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1:
        import torch.distributed as dist

        import optimizations.sharded_embedding.steps  # noqa: F401

        dist.init_process_group("gloo")
    spec = json.loads((folder / "spec.json").read_text())
    Path(groups[rank]).write_text(str(os.getpid()))
    session = open_training(spec)
    session.train(STEPS)
    tables = {name: array for name, array in session.state().items() if "tables" in name}
    np.savez(folder / f"rank{rank}.npz", **tables)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
