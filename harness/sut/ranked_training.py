"""A training on several ranks as one ``TrainSession``: orders go to all of them, and their tables come back whole."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.sut.ranks import Ranks
from harness.transport.channel import Arrays

LARGE_BYTES = 16 * 2**20


class RankedOpener:
    """Opens trainings, one after another, in the same ``count`` processes."""

    def __init__(self, count: int) -> None:
        self._ranks = Ranks(count)

    def __call__(self, spec: Mapping[str, Any]) -> RankedTraining:
        """The training of ``spec``, in place of the one before it. Raises RuntimeError with what a rank said."""
        return RankedTraining(self._ranks, [answer["ready"] for answer in self._ranks.ask({"spec": dict(spec)})])

    def close(self) -> None:
        """End the processes."""
        self._ranks.close()


class RankedTraining:
    """See ``harness.backends.protocol.TrainSession``; counts of samples are those of all ranks together."""

    def __init__(self, ranks: Ranks, ready: list[dict[str, Any]]) -> None:
        self._ranks = ranks
        self.report: list[dict[str, Any]] = ready[0]["plan"]
        self.samples: int = ready[0]["samples"]
        self.threads: int = sum(each["threads"] for each in ready)

    def train(self, steps: int, at: int | None = None) -> int:
        """Take the next steps, or those from step ``at`` of the first epoch on."""
        return self._order("train", steps=steps, at=at)

    def read(self, steps: int) -> int:
        """Prepare the inputs of the next steps and forget them."""
        return self._order("read", steps=steps)

    def hold(self, steps: int) -> int:
        """Prepare the inputs of the next steps for ``compute``."""
        return self._order("hold", steps=steps)

    def compute(self) -> int:
        """Take the steps whose inputs are held."""
        return self._order("compute")

    def checkpoint(self, path: Path) -> None:
        """Not of such a training. Raises ValueError."""
        raise ValueError(f"a training on ranks goes on from the state of a plain one, and writes none to {path}")

    def resume(self, path: Path) -> None:
        """Go on from what a plain session has written; each rank reads its rows."""
        self._order("resume", path=str(path))

    def state(self) -> Mapping[str, npt.NDArray[Any]]:
        """Parameters and buffers by name, tables put together."""
        return self._gathered("state")

    def kept(self) -> Mapping[str, npt.NDArray[Any]]:
        """The same as they are judged and kept."""
        return self._gathered("kept")

    def _order(self, command: str, **values: Any) -> int:
        return sum(int(answer["samples"]) for answer in self._ranks.ask({"command": command, **values}))

    def _gathered(self, command: str) -> Mapping[str, npt.NDArray[Any]]:
        found = GatheredWeights()
        self._ranks.ask({"command": command}, found.take)
        return found.arrays


class GatheredWeights:
    """Arrays by name, put together from the parts that ranks send (``harness.sut.rank_server``). Large tables lie in
    files without a name: no process has to have the memory for all of them."""

    def __init__(self) -> None:
        self.arrays: dict[str, npt.NDArray[Any]] = {}

    def take(self, message: Mapping[str, Any], arrays: Arrays) -> None:
        """Some parts: rows from a first one on, of a table that has so many in all; or a whole array."""
        for number, (name, rows, first) in enumerate(message["parts"]):
            part = arrays[str(number)]
            if rows is None:
                self.arrays[name] = part
                continue
            if name not in self.arrays:
                self.arrays[name] = _table((rows, *part.shape[1:]), part.dtype)
            self.arrays[name][first : first + len(part)] = part


def _table(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if math.prod(shape) * dtype.itemsize < LARGE_BYTES:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=shape)
