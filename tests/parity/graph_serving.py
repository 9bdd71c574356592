"""What every backend that serves whole graphs is asked: queries of all shapes, and a process of its own."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.transport.wire import encode
from optimizations.plan import first_pipeline, plan_to_json, resolve
from zoo.schema import Batch, Split


def queries(split: Split) -> Iterator[Batch]:
    """Candidates of every user, then of many at once, and a user row per sample."""
    for user in range(len(split.history_offsets) - 1):
        for samples in (1, 2, 12):
            yield split.batch(split.groups[user] + np.arange(samples))
    anyone = np.sort(np.random.default_rng(11).integers(0, len(split), 33))
    yield split.batch(anyone)
    yield split.training_batch(anyone)


def without_history(batch: Batch) -> Batch:
    """The same samples of users who have done nothing yet."""
    return dataclasses.replace(batch, history=batch.history[:0], history_offsets=np.zeros_like(batch.history_offsets))


def loaded_by_a_process(
    served: Any, backend: str, folder: Path, files: dict[str, str | None], asked: Iterable[str]
) -> tuple[list[str], dict[str, Any]]:
    """Open the model with ``executor.mode=auto`` in a process of its own: which of the modules ``asked`` it has loaded,
    and the line of its plan. files: "weights" and "graph" of the model."""
    first = first_pipeline(served.context.config, served.context.schema, backend, "cpu", "serve")
    (folder / "calibration.bin").write_bytes(encode(served.split.batch(np.arange(20))))
    spec = {
        "plan": plan_to_json(resolve(first, {"executor": {"mode": "auto"}}, frozenset())),
        "model": dataclasses.asdict(served.context.config),
        "schema": served.context.schema.to_json(),
        "calibration": str(folder / "calibration.bin"),
        "cache_dir": str(folder),
        "query_sizes": "heavy",
        "sla": {"limit_ms": 50.0, "percentile": 99.0},
        **files,
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    code = (
        "import json, sys; import harness.sut.server; from harness.sut import executor_choice, model_session\n"
        "executor_choice.SECONDS = 0.0\n"
        "model = model_session.open_model(json.load(open(sys.argv[1])))\n"
        "print(json.dumps([sorted(set(sys.argv[2:]) & set(sys.modules)), model.report['plan']]))"
    )
    command = [sys.executable, "-c", code, str(folder / "spec.json"), *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded, (line,) = json.loads(done.stdout.splitlines()[-1])
    return loaded, line
