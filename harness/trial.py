"""A trial: one point to be measured, as frozen values with a canonical JSON and a stable id."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PEER = "peer"
"""The backend of a trial that measures a peer, and of a peer's side of any trial."""
FEWEST_SEEDS = 3
"""Of a training whose gate is the AUC of seeds: Student's t over two differences is 12.7 standard errors wide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sla:
    """Latency limit: at most 1 - ``percentile``/100 of the queries may take longer than ``limit_ms``."""

    limit_ms: float
    percentile: float = 99.0

    @property
    def late_fraction(self) -> float:
        """The largest allowed share of late queries."""
        return 1.0 - self.percentile / 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Everything that decides what is measured (and nothing about where the answer goes).

    opts maps the name of each optimization to its options. ``query_sizes`` names a distribution of
    ``harness.traffic.arrivals`` ("heavy", "mlperf_dlrm", "fixed:32"). ``weights`` is "" (train or take from the cache)
    or the SHA-256 of the user's own file; ``dataset_fingerprint`` identifies the rows. ``rate_qps``: the offered rate
    of scenario mlperf_server, 0 in all others. ``train_seeds``: how many trainings go to their end on each side (0:
    none, speed alone); ``target_auc``: what they are timed to, None for what the plain loop reaches by itself.
    ``peer``: "name" and "settings" of a package of other people (``harness.backends.peers``), or nothing. With
    ``backend="peer"`` it is what is measured; with optimizations it stands in the place of ``opt=[]``, and is what they
    are compared with.
    """

    model: str
    sizes: Mapping[str, Any]
    dataset: str
    dataset_options: Mapping[str, Any]
    dataset_fingerprint: str
    training: Mapping[str, Any]
    weights: str
    backend: str
    device: str
    scope: str
    opts: Mapping[str, Mapping[str, Any]]
    scenario: str
    query_sizes: str
    sla: Sla
    seed: int
    budget: str
    schema_version: int = field(default=1)
    rate_qps: float = 0.0
    train_seeds: int = 0
    target_auc: float | None = None
    peer: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no blanks."""
        return canonical_json(dataclasses.asdict(self))

    @property
    def trial_id(self) -> str:
        """See ``trial_id_of``."""
        return trial_id_of(dataclasses.asdict(self))

    @property
    def compares(self) -> bool:
        """Whether there is a candidate beside the baseline."""
        return bool(self.opts or self.peer)

    @property
    def peer_side(self) -> Literal["baseline", "candidate"] | None:
        """Where the peer stands, if there is one."""
        if not self.peer:
            return None
        return "candidate" if self.backend == PEER else "baseline"

    def baseline(self) -> Trial:
        """What the baseline is, as a trial of its own: ``opt=[]`` on the same backend, that of PyTorch beside a
        measured peer, or the peer that optimizations are compared with."""
        if self.peer_side == "candidate":
            return dataclasses.replace(self, backend="torch", opts={}, peer={})
        if self.peer_side == "baseline":
            return dataclasses.replace(self, backend=PEER, opts={})
        return dataclasses.replace(self, opts={})

    def candidate(self) -> Trial:
        """What the candidate is, as a trial of its own: the measured peer, or the optimizations."""
        return self if self.backend == PEER else dataclasses.replace(self, peer={})


def trial_id_of(values: Mapping[str, Any]) -> str:
    """First 12 hex digits of the SHA-256 of a trial's canonical JSON, without the path of its data: the fingerprint
    says which rows were measured, wherever they lay. A trial without a peer has the id that it had before there were
    any."""
    values = {name: value for name, value in values.items() if name != "peer" or value}
    options = {name: value for name, value in values["dataset_options"].items() if name != "path"}
    return hashlib.sha256(canonical_json({**values, "dataset_options": options}).encode()).hexdigest()[:12]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no blanks; NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
