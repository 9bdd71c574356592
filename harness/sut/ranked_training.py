"""A training on several ranks as one ``TrainSession``: orders go to all of them, and their tables come back whole."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.sut.ranks import Ranks
from harness.transport.channel import Arrays


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

    def train(self, steps: int) -> int:
        """Take the next steps."""
        return self._order("train", steps=steps)

    def read(self, steps: int) -> int:
        """Prepare the inputs of the next steps and forget them."""
        return self._order("read", steps=steps)

    def hold(self, steps: int) -> int:
        """Prepare the inputs of the next steps for ``compute``."""
        return self._order("hold", steps=steps)

    def compute(self) -> int:
        """Take the steps whose inputs are held."""
        return self._order("compute")

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
    """Arrays by name, put together from the parts that ranks send (``harness.sut.rank_server``). Tables lie in files
    without a name: no process has to have the memory for all of them."""

    def __init__(self) -> None:
        self.arrays: dict[str, npt.NDArray[Any]] = {}

    def take(self, message: Mapping[str, Any], arrays: Arrays) -> None:
        """One part: rows from "first" on of the array "name", which has "rows" in all; without "rows" it is whole."""
        name, part = message["name"], arrays["part"]
        if message["rows"] is None:
            self.arrays[name] = part
            return
        if name not in self.arrays:
            with tempfile.TemporaryFile() as file:
                self.arrays[name] = np.memmap(file, part.dtype, "w+", shape=(message["rows"], *part.shape[1:]))
        self.arrays[name][message["first"] : message["first"] + len(part)] = part
