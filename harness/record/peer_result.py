"""What a record says of the peer in it: a block of ``result.json`` (keys are added, never renamed)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerResult:
    """A package of other people on one ``side`` of a trial.

    weights: "ours", or "own" of a model that its own trainer has trained; weights_sha256: of the file that it serves.
    options: what it was told beyond its defaults. built: what was chosen at its start. trained: of weights of its own,
    what its training says (validation AUC, epochs, seconds).
    """

    name: str
    settings: str
    side: Literal["baseline", "candidate"]
    weights: Literal["ours", "own"]
    weights_sha256: str
    options: Mapping[str, Any] = field(default_factory=dict)
    built: Mapping[str, Any] = field(default_factory=dict)
    trained: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """``ort_stock (best)``."""
        return f"{self.name} ({self.settings})"
