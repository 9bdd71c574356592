"""No backend's system under test grows while it serves: by request, since 20,000 queries of each take a minute or more.

``pytest -m slow tests/parity/test_memory_growth.py``, with the extras whose backends are to be looked at.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.backends.catalogue import BACKENDS, missing_packages
from harness.backends.torch_backend import reference_model
from harness.traffic.query_sizes import pmf
from harness.transport.wire import encode
from harness.trial import PEER
from optimizations.best_plans import best_plan
from optimizations.plan import first_pipeline, plan_to_json, resolve
from zoo.checkpoint import save_weights

EARLY, LATE, GROWTH = 2_000, 20_000, 0.05
QUERIES = 400
CHILD = f"""
import json, sys
from pathlib import Path
from harness.sut.model_session import open_model
from harness.transport.wire import decode

folder = Path(sys.argv[1])
model = open_model(json.loads((folder / "spec.json").read_text()))
payloads = [path.read_bytes() for path in sorted(folder.glob("query*.bin"))]
resident = []
for number in range(1, {LATE} + 1):
    model.steps.predict(decode(payloads[number % len(payloads)]))
    if number in ({EARLY}, {LATE}):
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]))
print(json.dumps(resident))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("plan", ["stock", "best"])
@pytest.mark.parametrize("model", ["wdl", "din", "dien", "dlrm"])
@pytest.mark.parametrize("backend", sorted(BACKENDS.keys() - {PEER}))
def test_resident_memory_is_that_of_the_first_queries(
    planted: Callable[[str], Any], tmp_path: Path, backend: str, model: str, plan: str
) -> None:
    if missing := missing_packages(backend):
        pytest.skip(f"{', '.join(missing)} not installed: pip install '{BACKENDS[backend].requirement}'")
    served = planted(model)
    write_queries(served, tmp_path)
    write_spec(served, tmp_path, backend, () if plan == "stock" else best_plan("best", model, (), backend))
    done = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    early, late = json.loads(done.stdout.splitlines()[-1])
    assert late <= (1 + GROWTH) * early


def write_queries(served: Any, folder: Path) -> None:
    """Payloads of the sizes that a trial offers, of many users."""
    rng, mix = np.random.default_rng(4), pmf("heavy")
    split = served.split
    for number in range(QUERIES):
        group = int(rng.integers(len(split.groups) - 1))
        size = min(int(rng.choice(len(mix), p=mix)), int(split.groups[group + 1] - split.groups[group]))
        payload = encode(split.batch(split.groups[group] + np.arange(max(1, size))))
        (folder / f"query{number:03d}.bin").write_bytes(payload)


def write_spec(served: Any, folder: Path, backend: str, opts: tuple[str, ...]) -> None:
    """What the main process would order."""
    context, graph = served.context, None
    save_weights(folder / "weights.npz", context.weights)
    (folder / "calibration.bin").write_bytes(encode(context.calibration))
    if form := BACKENDS[backend].graph:
        from zoo.onnx.export import export

        graph = folder / "model.onnx"
        export(reference_model(context), graph, rows_given=form == "rows", expand_first="dedup" not in opts)
    first = first_pipeline(context.config, context.schema, backend, "cpu", "serve")
    spec = {
        "plan": plan_to_json(resolve(first, dict.fromkeys(opts), frozenset())),
        "model": dataclasses.asdict(context.config),
        "schema": context.schema.to_json(),
        "weights": str(folder / "weights.npz"),
        "graph": None if graph is None else str(graph),
        "calibration": str(folder / "calibration.bin"),
        "cache_dir": str(folder),
    }
    (folder / "spec.json").write_text(json.dumps(spec))
