"""A training trial without processes: sides of known speed in virtual time, and the files that they would write."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from scipy import stats

from harness.measure import measure
from harness.options import RunOptions, budget_named
from harness.record.result import Measurement
from harness.record.writer import RecordWriter
from harness.sut.system_process import SideInfo
from harness.trial import Sla, Trial
from zoo.checkpoint import load_weights, save_weights
from zoo.datasets import fingerprint, load_dataset
from zoo.training_batches import samples_of_steps

SAMPLES, BATCH = 4000, 512
STEP_S = {"origin": 0.05, "baseline": 0.05, "candidate": 0.02}
READ_S, SCORE_S = 0.004, 5.0
SAVE_NS = 10**7
DATA = {"shape": "pointwise", "size": "tiny"}


def learned(steps: float) -> float:
    """The AUC that simulated trainings have after so many steps, but for the noise of the samples."""
    return 0.5 + 0.3 * (1 - np.exp(-steps / 6))


class SimulatedSides:
    """Stands for ``harness.training.sides.TrainingSides``: steps take known times with 2 % noise, and move every
    parameter by one. ``wrong``: by how much more the candidate's moves. ``skips``: the share of its steps that it
    leaves out after the gate. ``lazy``: the candidate answers at once, and works where it has to show for it.
    ``sprints``: it does half the work where it begins anywhere in an epoch. ``flips``, ``others``: by how much rounding
    has the candidate move more where it goes on from another's state, and the plain loop in another order.

    Scores of what was moved so far have the AUC ``learned``, to which every seed adds a little, and the candidate less.
    ``needs``: how many steps of the candidate teach as much as one of the baseline. ``worse``: what its AUC lacks.
    ``peak``: after so many steps it unlearns. ``broken``: the seed with which its scores are NaN. ``ends``: the seed in
    which the run is ended.
    """

    def __init__(
        self,
        wrong: float = 0.0,
        skips: float = 0.0,
        needs: float = 1.0,
        worse: float = 0.0,
        peak: float = np.inf,
        broken: int = -1,
        ends: int = -1,
        lazy: bool = False,
        sprints: bool = False,
        flips: float = 0.0,
        others: float = 0.0,
    ) -> None:
        self.now, self.wrong, self.skips = 10**12, wrong, skips
        self.needs, self.worse, self.peak, self.broken = needs, worse, peak, broken
        self.ends, self.lazy, self.sprints, self.observer = ends, lazy, sprints, Mock()
        self.rounding = {"candidate": flips, "origin": others}
        self.resumed: set[str] = set()
        self.used_ns: dict[str, int] = {}
        self.owed_ns = 0
        self.seeds: dict[str, int] = {}
        dataset = load_once("planted", **DATA)
        self.labels = [dataset.valid.labels, dataset.test.labels]
        self.rng = np.random.default_rng(2)
        self.cores, self.frozen_by = (0, 1), {"baseline": "simulated"}
        self.position: dict[str, int] = {}
        self.batch: dict[str, int] = {}
        self.moved: dict[str, float] = {}
        self.held: dict[str, int] = {}
        self.awake: set[str] = set()
        self.orders: list[tuple[str, str]] = []
        self.specs: list[dict[str, Any]] = []

    def __enter__(self) -> SimulatedSides:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def start(self, name: str, spec: dict[str, Any], command: tuple[str, ...] = ()) -> SideInfo:
        self.begin(name)
        self.specs.append(spec)
        self.seeds[name] = spec["training"]["seed"] if "training" in spec else 0
        self.awake.add(name)
        return SideInfo(report={"plan": [], "threads": 2, "samples": SAMPLES}, start_s=1.0, pid=0, rss_bytes=10**8)

    def begin(self, name: str) -> None:
        self.position[name], self.batch[name], self.moved[name] = 0, 0, 0.0
        self.resumed.discard(name)
        self.used_ns.setdefault(name, 0)

    def stop(self, name: str) -> None:
        self.awake.discard(name)

    def order(self, name: str, command: str, **values: Any) -> int:
        assert self.awake == {name}, "one side at a time"
        self.orders.append((name, command))
        if command == "again":
            self.begin(name)
        if command == "checkpoint":
            save_weights(Path(values["path"]), {"moved": np.array([self.moved[name]])})
        if command == "resume":
            self.moved[name] = float(np.load(values["path"])["moved"][0])
            self.resumed.add(name)
        if command in ("save", "keep"):
            self.used_ns[name] += SAVE_NS + (self.owed_ns if name == "candidate" else 0)
            self.owed_ns = 0
        if command == "save":
            save_weights(Path(values["path"]), self.parameters(name))
        if command == "begin":
            if values["seed"] == self.ends:
                raise KeyboardInterrupt
            save_weights(Path(values["path"]), {"start": np.zeros(1)})
        if command == "keep":
            self.now += int(SCORE_S * 1e9)
            save_weights(Path(values["path"]), {"auc": np.array([self.auc_of(name)])})
        if command == "score":
            return self.score(**values)
        if command in ("again", "save", "begin", "keep", "checkpoint", "resume"):
            return 0
        steps = self.held[name] if command == "compute" else values["steps"]
        self.held[name] = steps
        seconds = {"train": STEP_S[name], "read": READ_S, "hold": READ_S, "compute": STEP_S[name] - READ_S}[command]
        nanoseconds = int(steps * seconds * 1e9 * np.exp(self.rng.normal(0, 0.02)))
        if self.sprints and name == "candidate" and "at" in values:
            nanoseconds //= 2
        if self.lazy and name == "candidate" and command == "train":
            self.owed_ns, nanoseconds = nanoseconds, nanoseconds // 100
        self.now += nanoseconds
        self.used_ns[name] += nanoseconds
        first = values.get("at", self.batch[name])
        if command in ("train", "compute"):
            self.position[name] += steps
            self.batch[name] = first + steps
            self.moved[name] += self.movement(name, steps)
        return samples_of_steps(first, steps, SAMPLES, BATCH)

    def movement(self, name: str, steps: float) -> float:
        steps *= 1 + self.rounding.get(name, 0.0) * (name in self.resumed)
        if name != "candidate":
            return steps
        return steps * (1 + self.wrong) * (1 - self.skips * (self.position[name] > 2))

    def auc_of(self, name: str) -> float:
        """Of the weights that a side has by now."""
        steps, seed = float(self.position[name]), self.seeds[name]
        luck = 0.002 * np.random.default_rng(seed).normal()
        if name == "baseline":
            return learned(steps) + luck
        if seed == self.broken:
            return np.nan
        own = 0.0005 * np.random.default_rng(100 + seed).normal()
        return learned(min(steps, 2 * self.peak - steps) / self.needs) - self.worse + luck + own

    def score(self, weights: str, split: str, out: str) -> int:
        """Normal scores whose means for the two labels lie so far apart as the AUC of the weights asks for."""
        labels = self.labels[split.endswith("test.npz")]
        noise = np.random.default_rng(4).normal(0, 1, len(labels))
        apart = np.sqrt(2) * stats.norm.ppf(load_weights(Path(weights))["auc"][0])
        np.save(out, stats.norm.cdf(noise + apart * labels).astype(np.float32))
        self.now += int(SCORE_S * 1e9)
        return len(labels)

    def parameters(self, name: str) -> dict[str, np.ndarray]:
        return {"out.linear.weight": np.full((20, 50), self.moved[name]), "out.linear.bias": np.zeros(20)}

    def freeze(self, name: str) -> None:
        self.awake.remove(name)

    def thaw(self, name: str) -> None:
        self.awake.add(name)

    def clock(self) -> int:
        self.now += 1000
        return self.now

    def cpu_ns(self, name: str) -> int:
        return self.used_ns[name]

    def liberties(self, name: str) -> tuple[str, ...]:
        return ()

    def faults(self, name: str) -> tuple[int, int]:
        return 3 * self.position[name], 0

    def pids(self, name: str) -> tuple[int, ...]:
        return ()

    def forget_peak(self, name: str) -> None:
        return None

    def peak_bytes(self, name: str) -> int:
        return 300 * 2**20

    def rss_bytes(self, name: str) -> int:
        return 10**8


Simulated = tuple[SimulatedSides, Measurement, Path]
Simulate = Callable[..., Simulated]


load_once = functools.cache(
    lambda name, shape, size: load_dataset(name, {"shape": shape, "size": size}, Path("unused"))
)


@pytest.fixture
def simulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Simulate:
    """See ``simulation``."""
    return simulation(tmp_path, monkeypatch)


def simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: bool = False) -> Simulate:
    """``simulate(quads=, steal=, busy_quads=, wrong=, skips=, training=, side=, **fields of the trial)``: sides,
    measurement, record. side: more of ``SimulatedSides``. pictures: the records have them."""

    def run(
        quads: int = 6,
        steal: tuple[int, ...] = (),
        busy_quads: tuple[int, ...] = (),
        wrong: float = 0.0,
        skips: float = 0.0,
        training: Mapping[str, Any] | None = None,
        side: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> tuple[SimulatedSides, Measurement, Path]:
        sides, seen = SimulatedSides(wrong, skips, **(side or {})), []

        def between(before: object, after: object) -> dict[str, Any]:
            seen.append(0)
            stolen, busy = (0.05 if len(seen) - 1 in steal else 0.0), (0.3 if len(seen) - 1 in busy_quads else 0.0)
            return {"steal_share": stolen, "busy_share": busy, "seconds": 1e9}

        monkeypatch.setattr("harness.training.measure.TrainingSides", lambda: sides)
        monkeypatch.setattr("harness.training.bench.now_ns", sides.clock)
        monkeypatch.setattr("harness.training.to_auc.now_ns", sides.clock)
        monkeypatch.setattr("harness.training.quads.between", between)
        if not pictures:  # they take as long as all the rest
            monkeypatch.setattr("harness.record.writer.write_training_plots", lambda folder, chunks: [])
        monkeypatch.setattr(
            "harness.measurement.preparation.load_dataset", lambda name, options, *_: load_once(name, **options)
        )
        budget = budget_named("quick", {"quads": quads})
        given = {"opts": {"micro_batch": {"parts": 2}}, **fields}
        trial = Trial(
            model="dlrm",
            sizes={},
            dataset="planted",
            dataset_options=DATA,
            dataset_fingerprint=fingerprint("planted", DATA),
            training={"batch_size": BATCH, "seed": 1, **(training or {})},
            weights="",
            backend="torch",
            device="cpu",
            scope="train",
            scenario="server",
            query_sizes="heavy",
            sla=Sla(limit_ms=25.0),
            seed=1,
            budget=budget.name,
            **given,
        )
        options = RunOptions(
            budget=budget, records_dir=tmp_path / "records", cache_dir=tmp_path / "cache", tracking_uri=None
        )
        measurement = measure(trial, options, sides.observer)
        with RecordWriter(options.records_dir, trial) as writer:
            return sides, measurement, writer.write(measurement)

    return run
