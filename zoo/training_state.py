"""The state of a training on disk, from which a killed one goes on. PyTorch is loaded where one is written or read.

A state is what ``state_dict`` gives: tensors, numbers and texts in dictionaries and lists. Its file is PyTorch's own, a
zip archive whose members have checksums, and it is read without unpickling code.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

State = Mapping[str, Any]

LEAST_STEPS = 100
BYTES_PER_STEP = 250_000
"""A state is kept so seldom that a step pays for no more than these: about a millisecond on an ordinary disk."""


class StateFile:
    """Where a training keeps its state every ``every`` steps; 0: as often as its size allows (``steps_between``).

    ``warn`` gets one line for a file that cannot be read or written: the training then begins anew, or goes on without.
    Whoever has the weights where they belong calls ``remove``.
    """

    def __init__(self, path: Path, warn: Callable[[str], None], every: int = 0) -> None:
        self.path, self.every = path, every
        self._warn, self._refused = warn, False

    def load(self) -> State | None:
        """The state that was kept last; None where there is none that can be read."""
        if not self.path.exists():
            return None
        try:
            return load_state(self.path)
        except ValueError as error:
            self.refuse(str(error))
            return None

    def refuse(self, why: str) -> None:
        """What was read cannot be gone on from."""
        self._warn(f"{why}; the training begins anew")

    def keep(self, state: State) -> None:
        """Replace the file by this state. A disk that refuses is warned of once, and asked no more."""
        if self._refused:
            return
        try:
            save_state(self.path, state)
        except OSError as error:
            self._refused = True
            self._warn(f"{self.path} cannot be written ({error.strerror or error}); this training could not be resumed")

    def remove(self) -> None:
        """Delete the file, and what a process that was killed while it wrote has left of it."""
        for path in (self.path, *self.path.parent.glob(f".{self.path.name}-*")):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def state_path(weights: Path) -> Path:
    """Where the state of the training lies that will leave ``weights``."""
    return weights.with_suffix(".state")


def steps_between(state_bytes: int) -> int:
    """Steps from one kept state to the next."""
    return max(LEAST_STEPS, state_bytes // BYTES_PER_STEP)


def save_state(path: Path, state: State) -> None:
    """Write and flush under a name of this process, then rename: whenever the process or the machine stops, the old or
    the new state is there as a whole. Raises OSError."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_state(path: Path) -> State:
    """The state in ``path``. Raises ValueError for one that is missing, damaged or cut short."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # PyTorch does not look at the checksums
        if damaged is not None:
            raise ValueError(f"{damaged} has another checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"it holds a {type(state).__name__}")
    except Exception as error:  # the readers raise a dozen types for a damaged file
        raise ValueError(
            f"{path} cannot be read as the state of a training ({type(error).__name__}: {error})"
        ) from error
    return state
