"""A whole trial against simulated systems: the real ``measure``, the real record, and no process."""

from __future__ import annotations

import dataclasses
import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.measure import measure
from harness.measurement.preparation import Prepared, resolve_plans
from harness.options import RunOptions, budget_named
from harness.record.reader import file_sha256, read_record
from harness.record.writer import RecordWriter
from harness.trial import Sla, Trial
from tests.unit.leaderboard.simulated_referee import SimulatedReferee
from zoo.configs import model_config
from zoo.datasets import fingerprint, load_dataset

DATA = {"shape": "pointwise", "size": "tiny"}


def _host(quads_with_steal, busy_quads):
    """Stands for ``between``: the hypervisor takes 5 % of the time in some quads, processes of others 30 % in some."""
    seen = []

    def between(before, after):
        seen.append(0)
        quad = len(seen) - 1
        busy = 0.3 if quad in busy_quads else 0.0
        return {"steal_share": 0.05 if quad in quads_with_steal else 0.0, "busy_share": busy, "seconds": 1.0}

    return between


def simulated_record(
    folder: Path,
    quads: int = 6,
    voided: tuple[int, ...] = (),
    busy: tuple[int, ...] = (),
    hesitates: bool = False,
    remembers: bool = False,
    budget=None,
    **fields,
) -> Path:
    """A record of a simulated trial of short quads, some of them void by stolen time, some by a ``busy`` host;
    ``fields`` of the trial."""
    budget = budget_named("quick", {"quads": quads, **(budget or {})})
    given = {
        "opts": {"bf16": {}, "fusion": {}},
        "backend": "torch",
        "scenario": "server",
        "query_sizes": "heavy",
        **fields,
    }
    trial = Trial(
        model="wdl",
        sizes={},
        dataset="planted",
        dataset_options=DATA,
        dataset_fingerprint=fingerprint("planted", DATA),
        training={},
        weights="",
        device="cpu",
        scope="serve",
        sla=Sla(limit_ms=40.0),
        seed=5,
        budget=budget.name,
        **given,
    )
    config, dataset = model_config("wdl", {}), load_dataset("planted", DATA, folder / "cache")
    weights = folder / "weights"
    weights.write_bytes(b"weights")
    plans = resolve_plans(trial, config, dataset)
    prepared = Prepared(trial=trial, dataset=dataset, config=config, weights=weights, trained=weights, plans=plans)
    options = RunOptions(
        budget=budget,
        records_dir=folder / "records",
        cache_dir=folder / "cache",
        tracking_uri=None,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.measure.prepare", lambda trial, options, observer: prepared)
        patch.setattr("harness.measure.Referee", lambda: SimulatedReferee(hesitates, remembers))
        patch.setattr("harness.measure.model_spec", lambda prepared, side, cache_dir: nullcontext({}))
        patch.setattr("harness.measurement.quads.between", _host(voided, busy))
        patch.setattr("harness.record.writer.write_plots", lambda folder, result, queries: [])
        measurement = measure(trial, options, Mock())
        with RecordWriter(options.records_dir, trial) as writer:
            return writer.write(measurement)


@pytest.fixture(scope="session")
def measured(tmp_path_factory) -> Path:
    """The simulated record of fusion against nothing."""
    return simulated_record(tmp_path_factory.mktemp("simulated"))


@pytest.fixture(scope="session")
def certified(tmp_path_factory) -> Path:
    """A record with a certificate."""
    return simulated_record(tmp_path_factory.mktemp("certified"), budget={"certificate_s": 40})


@pytest.fixture(scope="session")
def with_a_void_quad(tmp_path_factory) -> Path:
    """A record whose third quad of eight is void, and ran again."""
    return simulated_record(tmp_path_factory.mktemp("void"), quads=8, voided=(2,))


@pytest.fixture
def simulate_record(tmp_path):
    """Makes another record: ``simulate_record(quads=, voided=, busy=, hesitates=, remembers=, **trial)``."""
    return lambda **fields: simulated_record(tmp_path, **fields)


@pytest.fixture
def record(measured, tmp_path) -> Path:
    """A copy of the simulated record that a test may harm."""
    return Path(shutil.copytree(measured, tmp_path / "records" / measured.name))


@pytest.fixture
def write(tmp_path, fabricate):
    """Writes a fabricated record: ``write(edit, **trial)``; ``edit`` changes its result."""

    def of(edit=lambda result: result, **fields):
        trial, measurement = fabricate(**fields)
        with RecordWriter(tmp_path / "records", trial) as writer:
            return read_record(writer.write(dataclasses.replace(measurement, result=edit(measurement.result))))

    return of


class Editor:
    """Changes the files of a record on disk; the manifest stays as it was until it is made to fit."""

    def __init__(self, record: Path) -> None:
        self.record = record

    def read(self, name):
        return json.loads((self.record / name).read_text())

    def json(self, name, change):
        data = self.read(name)
        change(data)
        (self.record / name).write_text(json.dumps(data))

    def columns(self, name, change):
        """``change``: a function of all columns as arrays (texts as str), giving the new ones."""
        table = pq.read_table(self.record / name)
        columns = {column: np.array(table.column(column).to_pylist()) for column in table.column_names}
        types = {column: table.schema.field(column).type for column in table.column_names}
        columns = {
            n: c if pa.types.is_dictionary(types[n]) else table.column(n).to_numpy().copy() for n, c in columns.items()
        }
        changed = {n: c.tolist() if c.dtype.kind == "U" else c for n, c in change(columns).items()}
        pq.write_table(pa.table({column: pa.array(values) for column, values in changed.items()}), self.record / name)

    def rewrite_manifest(self):
        files = {name: self.record / name for name in self.read("manifest.json")["files"]}
        digests = {name: file_sha256(path) for name, path in files.items() if path.exists()}
        self.json("manifest.json", lambda manifest: manifest.update(files=digests))


@pytest.fixture
def edit(record):
    """Changes the record of the same test."""
    return Editor(record)


@pytest.fixture
def tampered(tmp_path):
    """A copy of any record with a JSON file changed and a manifest that fits: ``tampered(path, name, change)``."""

    def change_json(path, name, change):
        editor = Editor(Path(shutil.copytree(path, tmp_path / "tampered" / path.name)))
        editor.json(name, change)
        editor.rewrite_manifest()
        return editor.record

    return change_json


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """The board reads columns and JSON; drawing pictures for its records would only take time."""
    monkeypatch.setattr("harness.record.writer.write_plots", lambda folder, result, queries: [])
