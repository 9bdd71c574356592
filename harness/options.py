"""What decides how long and where a run measures, but not what: budgets and run options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import ConfigurationError

Resume = Literal["auto", "quiet", "never"]
"""Records that a sweep takes for results: auto, those of a noisy host, too; quiet, these not; never, none."""
UNCOUNTED_S = 1.0
"""Start of every stretch of open-loop load that loads the queue and is not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much is measured. Seconds are per side unless said otherwise.

    search_probes stretches of ``search_s`` bracket the LBT; ``quads`` ABBA quads of four segments of ``segment_s``
    follow, each after ``settle_s`` that is discarded (thawing and ramp). ``service_repeats`` queries of each size, and
    four times as many of the largest, fill the service table. latency_s, single_stream_s, offline_s: the three reported
    scenarios. floor_s: the null system. certificate_s: each attempt at a certificate; 0: none is issued.
    """

    name: str
    service_repeats: int
    search_probes: int
    search_s: float
    quads: int
    segment_s: float
    settle_s: float
    latency_s: float
    single_stream_s: float
    offline_s: float
    floor_s: float
    certificate_s: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of load for both sides together and the floor (service table not included; one attempt)."""
        side = self.search_probes * (self.search_s + self.settle_s)
        side += self.latency_s + self.settle_s + self.single_stream_s + self.offline_s
        certificate = self.settle_s + self.certificate_s if self.certificate_s else 0.0
        floor = UNCOUNTED_S + self.floor_s
        return 2 * side + 4 * self.quads * (self.segment_s + self.settle_s) + floor + certificate


_STANDARD = Budget(
    name="standard",
    service_repeats=200,
    search_probes=5,
    search_s=2.5,
    quads=10,
    segment_s=11.0,
    settle_s=1.0,
    latency_s=15.0,
    single_stream_s=4.0,
    offline_s=4.0,
    floor_s=5.0,
)
BUDGETS: Mapping[str, Budget] = {
    budget.name: budget
    for budget in (
        Budget(
            name="smoke",
            service_repeats=20,
            search_probes=2,
            search_s=0.75,
            quads=1,
            segment_s=1.0,
            settle_s=0.5,
            latency_s=1.0,
            single_stream_s=0.5,
            offline_s=0.5,
            floor_s=1.0,
        ),
        Budget(
            name="quick",
            service_repeats=50,
            search_probes=3,
            search_s=1.0,
            quads=6,
            segment_s=2.2,
            settle_s=1.0,
            latency_s=3.0,
            single_stream_s=1.5,
            offline_s=1.5,
            floor_s=2.0,
        ),
        _STANDARD,
        dataclasses.replace(_STANDARD, name="official", certificate_s=120.0),
    )
}
"""The named budgets; ``official`` is standard and the certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How long a run measures, and where it reads and writes.

    records_dir: parent of the record folders. cache_dir: data, weights and builds by content hash.
    tracking_uri: of the MLflow server or store, None for no tracking. weights_file: the user's own checkpoint, "" to
    train or to take the cached one. keep_awake: cores do not halt between queries. resume: which records a
    sweep takes for results (``harness.record.resumption``).
    """

    budget: Budget
    records_dir: Path
    cache_dir: Path
    tracking_uri: str | None
    weights_file: str = ""
    keep_awake: bool = False
    resume: Resume = "auto"


def builds_folder(cache_dir: Path) -> Path:
    """What of the cache a side is told of: a folder for what it builds itself, made here.

    The folder above it holds the data sets with the labels of all splits, and what others trained and exported.
    """
    folder = cache_dir.resolve() / "builds"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def budget_named(name: str, changes: Mapping[str, Any] | None = None) -> Budget:
    """The named budget with ``changes``; a changed one carries them in its name ("quick,quads=8").

    ConfigurationError for an unknown name and for a value that is not positive.
    """
    if name not in BUDGETS:
        raise ConfigurationError(f"budget={name}: unknown; choose one of {', '.join(BUDGETS)}")
    base = BUDGETS[name]
    real = {key: value for key, value in (changes or {}).items() if getattr(base, key) != value}
    for key, value in real.items():
        if not value > 0:
            raise ConfigurationError(f"budget.{key}={value} must be above 0 (budget={name} has {getattr(base, key)})")
    suffix = "".join(f",{key}={value:g}" for key, value in sorted(real.items()))
    return dataclasses.replace(base, **real, name=name + suffix)


def require_counted(budget: Budget) -> None:
    """Raises ConfigurationError where a stretch of open-loop load ends before anything of it counts."""
    for key in ("search_s", "segment_s", "latency_s"):
        seconds = getattr(budget, key)
        if budget.settle_s + seconds <= UNCOUNTED_S:
            raise ConfigurationError(
                f"budget.settle_s={budget.settle_s:g} budget.{key}={seconds:g}: the first {UNCOUNTED_S:g} s of load "
                f"fills the queue and is not counted, so together they must be above {UNCOUNTED_S:g}"
            )
