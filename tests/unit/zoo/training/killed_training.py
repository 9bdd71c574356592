"""Trainings that are killed again and again: ``python -m tests.unit.zoo.training.killed_training FOLDER CASE...``.

For each case a process trains to its end, writing to ``whole``; then one process after another is killed by SIGKILL at
the moments of ``KILLS``, and the last one trains on to the end, writing to ``killed``. Every process is a fork of this
one, which loads the framework once and computes nothing itself. Prints by case which signals ended its processes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # what PyTorch imports at the first step of an optimizer, in seconds: once, and not in each

from optimizations.trainer import native
from zoo.checkpoint import save_weights
from zoo.configs import model_config
from zoo.datasets import load_dataset
from zoo.fitting import Progress, fit
from zoo.schema import Dataset
from zoo.stand_ins import Substitute, packed_recurrences
from zoo.training import weights_of
from zoo.training_config import training_config
from zoo.training_state import StateFile

EVERY = 4
KILLS: dict[str, tuple[tuple[str, int], ...]] = {
    "wdl": (("report", 3), ("write", 2), ("report", 10), ("rename", 7), ("report", 40)),
    "dien": (("write", 6),),
}
"""When each process is killed. report: as step k is told (no state is kept before step 4, and step 10 is evaluated).
write, rename: of the state of step k * 4, half-written, or whole and not renamed. An epoch has 4,000 samples."""
SUBSTITUTES: dict[str, Substitute] = {"wdl": packed_recurrences, "dien": native}
"""The zoo by itself, and what fits the served weights."""

LONG: dict[str, Any] = {
    "max_epochs": 2,
    "evaluations": 2,
    "patience": 10,
    "batch_size": 200,
    "threads": 1,
    "final_lr_share": 0.1,
}
CASES: dict[str, dict[str, Any]] = {
    "wdl": {
        "model": {"embedding_dim": 4, "deep_units": [8]},
        "training": {"dropout": 0.2, "average": 0.5, "embedding_lr": 0.5, "embedding_l2": 0.0, "final_lr_share": 1.0},
        "shape": "pointwise",
    },
    "dien": {
        "model": {"embedding_dim": 4, "hidden_units": 4, "attention_units": [4], "auxiliary_units": [4]},
        "training": {},
        "shape": "sequence",
    },
}


def train(dataset: Dataset, case: str, name: str, folder: Path, kill: tuple[str, int] | None) -> None:
    """Train ``case``; be killed at ``kill``."""
    said = (folder / f"{case}-{name}.jsonl").open("a")

    def say(**values: Any) -> None:
        said.write(json.dumps(values) + "\n")
        said.flush()

    def report(progress: Progress) -> None:
        say(step=progress.step, resumed=progress.resumed, valid_auc=progress.valid_auc)
        if kill == ("report", progress.step) and not progress.resumed:
            os.kill(os.getpid(), signal.SIGKILL)

    kept = KilledFile(folder / f"{case}-{name}.state", lambda text: say(warning=text), EVERY)
    if kill is not None and kill[0] != "report":
        kept.kill(*kill)
    data, changes = CASES[case], {**LONG, **CASES[case]["training"]}
    config, training = model_config(case, data["model"]), training_config(case, changes)
    fitted = fit(config, dataset, training, report, SUBSTITUTES[case], kept)
    save_weights(folder / f"{case}-{name}.npz", weights_of(fitted.model))
    say(done=True, best_step=fitted.best_step, valid_auc=fitted.valid_auc, steps=fitted.steps)


class KilledFile(StateFile):
    """A state file whose process is killed while it keeps the state of one step."""

    def kill(self, moment: str, number: int) -> None:
        """Be killed in the keeping of step ``number * EVERY``."""
        self._moment, self._number = moment, number

    def keep(self, state: Any) -> None:
        if getattr(self, "_number", None) == state["learner"]["steps"] // EVERY:
            flush = os.fsync

            def killed(file: int) -> None:
                flush(file)
                if self._moment == "write":
                    os.ftruncate(file, os.fstat(file).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

            os.fsync = killed
        super().keep(state)


def in_a_process(*arguments: Any) -> int:
    """``train`` in a fork of this process; returns the signal that ended it, or 0."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            train(*arguments)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"the training {arguments[1:]} failed")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def main() -> None:
    """All cases of the command line."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    signals = {}
    for case in sys.argv[2:]:
        dataset = load_dataset("planted", {"shape": CASES[case]["shape"], "size": "tiny", "max_history": 8}, folder)
        runs = (("whole", None), *(("killed", kill) for kill in (*KILLS[case], None)))
        signals[case] = [in_a_process(dataset, case, name, folder, kill) for name, kill in runs]
    print(json.dumps(signals))


if __name__ == "__main__":
    main()
