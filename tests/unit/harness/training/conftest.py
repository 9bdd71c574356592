"""A training trial without processes: sides of known speed in virtual time, and the files that they would write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from harness.measure import measure
from harness.options import RunOptions, budget_named
from harness.record.result import Measurement
from harness.record.writer import RecordWriter
from harness.sut.system_process import SideInfo
from harness.trial import Sla, Trial
from zoo.checkpoint import save_weights
from zoo.datasets import fingerprint
from zoo.training_batches import samples_of_steps

SAMPLES, BATCH = 4000, 512
STEP_S = {"origin": 0.05, "baseline": 0.05, "candidate": 0.02}
READ_S = 0.004


class SimulatedSides:
    """Stands for ``harness.training.sides.TrainingSides``: steps take known times with 2 % noise, and move every
    parameter by one. ``wrong``: by how much more the candidate's moves. ``stops``: after the gate, it moves no more."""

    def __init__(self, wrong: float = 0.0, stops: bool = False) -> None:
        self.now, self.wrong, self.stops = 10**12, wrong, stops
        self.rng = np.random.default_rng(2)
        self.cores, self.frozen_by = (0, 1), {"baseline": "simulated"}
        self.position: dict[str, int] = {}
        self.held: dict[str, int] = {}
        self.awake: set[str] = set()
        self.orders: list[tuple[str, str]] = []

    def __enter__(self) -> SimulatedSides:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def start(self, name: str, spec: dict[str, Any]) -> SideInfo:
        self.position[name] = 0
        self.awake.add(name)
        return SideInfo(report={"plan": [], "threads": 2, "samples": SAMPLES}, start_s=1.0, pid=0, rss_bytes=10**8)

    def stop(self, name: str) -> None:
        self.awake.discard(name)

    def order(self, name: str, command: str, **values: Any) -> int:
        assert self.awake == {name}, "one side at a time"
        self.orders.append((name, command))
        if command == "again":
            self.position[name] = 0
        if command == "save":
            save_weights(Path(values["path"]), self.parameters(name))
        if command in ("again", "save"):
            return 0
        steps = self.held[name] if command == "compute" else values["steps"]
        self.held[name] = steps
        seconds = {"train": STEP_S[name], "read": READ_S, "hold": READ_S, "compute": STEP_S[name] - READ_S}[command]
        self.now += int(steps * seconds * 1e9 * np.exp(self.rng.normal(0, 0.02)))
        samples = samples_of_steps(self.position[name], steps, SAMPLES, BATCH)
        if command in ("train", "compute"):
            self.position[name] += steps
        return samples

    def parameters(self, name: str) -> dict[str, np.ndarray]:
        steps = float(self.position[name])
        if name == "candidate":
            steps = min(steps, 2.0) if self.stops else steps * (1 + self.wrong)
        return {"out.linear.weight": np.full((20, 50), steps), "out.linear.bias": np.zeros(20)}

    def freeze(self, name: str) -> None:
        self.awake.remove(name)

    def thaw(self, name: str) -> None:
        self.awake.add(name)

    def clock(self) -> int:
        self.now += 1000
        return self.now

    def cpu_ns(self, name: str) -> int:
        return 0

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


Simulate = Callable[..., tuple[SimulatedSides, Measurement, Path]]


@pytest.fixture
def simulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Simulate:
    """``simulate(quads=, steal=, busy_quads=, wrong=, stops=, **fields of the trial)``: sides, measurement, record."""

    def run(
        quads: int = 6,
        steal: tuple[int, ...] = (),
        busy_quads: tuple[int, ...] = (),
        wrong: float = 0.0,
        stops: bool = False,
        **fields: Any,
    ) -> tuple[SimulatedSides, Measurement, Path]:
        sides, seen = SimulatedSides(wrong, stops), []

        def between(before: object, after: object) -> dict[str, Any]:
            seen.append(0)
            stolen, busy = (0.05 if len(seen) - 1 in steal else 0.0), (0.3 if len(seen) - 1 in busy_quads else 0.0)
            return {"steal_share": stolen, "busy_share": busy, "seconds": 1.0}

        monkeypatch.setattr("harness.training.measure.TrainingSides", lambda: sides)
        monkeypatch.setattr("harness.training.bench.now_ns", sides.clock)
        monkeypatch.setattr("harness.training.quads.between", between)
        budget = budget_named("quick", {"quads": quads})
        data = {"shape": "pointwise", "size": "tiny"}
        given = {"opts": {"micro_batch": {"parts": 2}}, **fields}
        trial = Trial(
            model="dlrm",
            sizes={},
            dataset="planted",
            dataset_options=data,
            dataset_fingerprint=fingerprint("planted", data),
            training={"batch_size": BATCH, "seed": 1},
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
        measurement = measure(trial, options, Mock())
        with RecordWriter(options.records_dir, trial) as writer:
            return sides, measurement, writer.write(measurement)

    return run
