"""A whole trial against simulated systems: the real ``measure``, the real record, and no process."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.estimate.twin import simulate
from harness.measure import measure
from harness.measurement.preparation import Prepared, resolve_plans
from harness.options import RunOptions, budget_named
from harness.record.reader import file_sha256
from harness.record.writer import RecordWriter
from harness.sut.process import SideInfo
from harness.traffic.segment import Segment, Status
from harness.trial import Sla, Trial
from zoo.configs import model_config
from zoo.datasets import fingerprint, load_dataset

MS = 1_000_000
DATA = {"shape": "pointwise", "size": "tiny"}


class SimulatedReferee:
    """Stands for ``harness.measurement.referee.Referee``: single-server queues with 5 % service noise in virtual time.

    The candidate is twice as fast; the null system takes 0.1 ms. Scores depend on the sample alone. ``hesitates``: the
    first open segment of each side is served ten times slower, so that the search cuts it short.
    """

    def __init__(self, hesitates: bool = False) -> None:
        self.hesitates = hesitates
        self.rng = np.random.default_rng(3)
        self.now = 10**12
        self.speed: dict[str, float] = {"baseline": 1.0, "candidate": 2.0}
        self.cpus = SimpleNamespace(sender=(0,), sut=(0,))
        self.sender = SimpleNamespace(priority="simulated", group=SimpleNamespace(pid=0))
        self.frozen_by: dict[str, str] = {}
        self.collections: dict[str, object] = {}
        self.met: set[str] = set()
        self.stopped: list[str] = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def start_side(self, name, spec, shape):
        return SideInfo(report={}, start_s=1.0, pid=0, rss_bytes=10**8)

    def stop_side(self, name):
        self.stopped.append(name)

    def freeze(self, name):
        pass

    thaw = freeze

    def cpu_ns(self, name):
        return 0

    def pids(self, name):
        return ()

    def liberties(self, name):
        return ()

    def rss_bytes(self, name):
        return 10**8

    def run_open(self, name, split, trace, rate_qps, limits):
        planned = self.now + 2 * MS + trace.planned_ns(rate_qps)
        service = self._service(name, trace.sizes) * (10 if self.hesitates and name not in self.met else 1)
        self.met.add(name)
        done = planned + simulate(planned, service).astype(np.int64)
        late = np.flatnonzero((done - planned > limits.limit_ns) & (np.arange(len(done)) >= limits.count_from))
        cut = 0 <= limits.max_late < len(late)
        end = int(planned[late[limits.max_late]]) + limits.limit_ns if cut else None
        return self._segment(name, "open", rate_qps, trace.queries(split.groups), planned, planned + 5000, done, end)

    def run_closed(self, name, split, queries, concurrency=1, budget_s=600.0):
        service = self._service(name, queries.sizes).astype(np.int64)
        planned = self.now + np.concatenate([[0], np.cumsum(service)[:-1]])
        asked = int(np.searchsorted(planned, self.now + budget_s * 1e9))
        cut = type(queries)(queries.query_id[:asked], queries.samples, queries.offsets[: asked + 1])
        planned, service = planned[:asked], service[:asked]
        return self._segment(name, "closed", float("nan"), cut, planned, planned, planned + service)

    def _service(self, name, sizes):
        if name == "floor":
            return np.full(len(sizes), 0.1 * MS)
        return (1.0 + 0.15 * sizes) * MS / self.speed[name] * np.exp(self.rng.normal(0.0, 0.05, len(sizes)))

    def _segment(self, name, mode, rate_qps, queries, planned, sent, done, end=None):
        """``end``: the moment at which the segment was cut short."""
        end_ns = end or int(max(done.max(), planned.max()))
        self.now = end_ns + MS
        samples = queries.samples[: queries.offsets[-1]]
        done = np.maximum(done, sent)
        status = np.select([sent > end_ns, done > end_ns], [Status.NOT_SENT, Status.UNFINISHED], Status.ANSWERED)
        scores = np.where(
            np.repeat(status == Status.ANSWERED, queries.sizes), _scores(name, samples), np.float32(np.nan)
        )
        return Segment(
            side=name,
            mode=mode,
            offered_qps=rate_qps,
            query_id=queries.query_id,
            size=queries.sizes,
            planned_ns=planned,
            sent_ns=np.where(status == Status.NOT_SENT, -1, sent),
            done_ns=np.where(status == Status.ANSWERED, done, -1),
            status=status.astype(np.int64),
            dequeued_ns=sent,
            started_ns=sent,
            worker=np.zeros(len(planned), np.int64),
            scores=scores,
            score_offsets=queries.offsets,
            aborted="late" if end else "",
            duplicates=0,
            sender_cpu_ns=0,
        )


def _scores(name, samples):
    """A chance between 0.05 and 0.6 by sample; the candidate's differs in the fourth digit."""
    base = 0.05 + 0.55 * ((samples * 2654435761) % 1_000_003) / 1_000_003
    return (base + (1e-4 * (samples % 3 - 1) if name == "candidate" else 0.0)).astype(np.float32)


def _host(quads_with_steal):
    """Stands for ``between``: the hypervisor takes 5 % of the time in some quads."""
    seen = []

    def between(before, after):
        seen.append(0)
        return {"steal_share": 0.05 if len(seen) - 1 in quads_with_steal else 0.0, "seconds": 1.0}

    return between


def simulated_record(
    folder: Path, quads: int = 6, voided: tuple[int, ...] = (), hesitates: bool = False, budget=None, **fields
) -> Path:
    """A record of a simulated trial of short quads, some of them void by stolen time; ``fields`` of the trial."""
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
        patch.setattr("harness.measure.Referee", lambda: SimulatedReferee(hesitates))
        patch.setattr("harness.measure.model_spec", lambda prepared, side, cache_dir: nullcontext({}))
        patch.setattr("harness.measurement.quads.between", _host(voided))
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
    """Makes another simulated record: ``simulate_record(quads=, voided=, hesitates=, **fields of the trial)``."""
    return lambda **fields: simulated_record(tmp_path, **fields)


@pytest.fixture
def record(measured, tmp_path) -> Path:
    """A copy of the simulated record that a test may harm."""
    return Path(shutil.copytree(measured, tmp_path / "records" / measured.name))


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
