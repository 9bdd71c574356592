"""The two steps in which a system under test answers: look up, compute. Whoever serves may overlap them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.backends.protocol import Bind, Predict
from zoo.schema import Batch, Float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """``compute(look_up(batch))`` are the scores [N] of a batch.

    Each step may run in several threads at one time, and the second one in another thread than the first. With
    ``bind``, queries are scored in their slots (``in_place``), and the steps are for what cannot be.
    """

    look_up: Callable[[Batch], Any]
    compute: Callable[[Any], Float32]
    bind: Bind | None = None

    def predict(self, batch: Batch) -> Float32:
        """Both steps, one after the other."""
        return self.compute(self.look_up(batch))


def one_step(predict: Predict, bind: Bind | None = None) -> Steps:
    """A system that cannot be taken apart: nothing to look up, all to compute."""
    return Steps(look_up=lambda batch: batch, compute=predict, bind=bind)
