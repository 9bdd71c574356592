"""What a backend gives the system under test: a session that predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from optimizations.contract import Plan
from optimizations.lowering import LoweringContext
from zoo.schema import Batch

__all__ = ["Backend", "Bind", "LoweringContext", "Predict", "Score", "Session"]

Predict = Callable[[Batch], npt.NDArray[np.float32]]
"""Click probabilities [N] of a batch."""

Score = Callable[[int], int]
"""Scores the payload of that many bytes where it lies, into the place for its scores; returns N. Negative: there are no
scores, and ``predict`` of the decoded payload says why."""

Bind = Callable[[memoryview, memoryview], Score]
"""What scores the payloads that will lie at the start of the first memory, as float32 into the second one."""


class Session(Protocol):
    """A lowered model. Several threads may call it at one time.

    ``predict(batch)`` is ``compute(look_up(batch))``; the two steps are there so that a server may overlap them.
    """

    @property
    def report(self) -> list[dict[str, Any]]:
        """Per plan step: name, matched (block paths or slots), fallbacks ([{path, reason}]), build_s, and where it has
        more to say, built: JSON values, among them a "summary" of one sentence."""

    @property
    def bind(self) -> Bind | None:
        """How payloads are scored without a ``Batch``; None: this session cannot."""

    def predict(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Click probabilities [N] in [0, 1]."""

    def look_up(self, batch: Batch) -> Any:
        """The blocks of the roles features and embedding. Any thread may go on with what it returns."""

    def compute(self, found: Any) -> npt.NDArray[np.float32]:
        """All other blocks: click probabilities [N] from what ``look_up`` returned."""

    def close(self) -> None:
        """Release what the session holds; it predicts no more."""


class Backend(Protocol):
    """A module ``harness.backends.<name>_backend``; ``harness.backends.catalogue`` lists them."""

    def lower(self, plan: Plan, context: LoweringContext) -> Session:
        """Build the plan's pipeline. Raises ValueError when a step of the plan matches nothing."""
