"""MLflow for real: a SQLite store, a server process, and a server that is not there."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.clock import now_ns, sleep_s
from harness.record import tracking
from harness.record.reader import read_record, record_problems
from harness.record.result import SegmentInfo
from harness.record.tracked_values import late_series, metrics_of
from harness.record.tracking import SweepTag, pending, read_note, retry, track
from harness.record.writer import RecordWriter

SWEEP = SweepTag(sweep_id="0123456789ab", overrides=("model=dien", "opt=[],[fusion]"))


@pytest.fixture
def write(tmp_path, fabricate):
    def write_one(**changes):
        trial, measurement = fabricate(**changes)
        with RecordWriter(tmp_path / "records", trial) as writer:
            return writer.write(measurement)

    return write_one


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """The file of a store without a run: MLflow takes seconds to set its tables up."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    assert [experiment.name for experiment in client_of(f"sqlite:///{path}").search_experiments()] == ["Default"]
    return path


@pytest.fixture
def store(tmp_path, monkeypatch, empty_store):
    """A SQLite store in an empty working folder (its artifacts go to ./mlruns)."""
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"


def client_of(uri):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def test_sqlite_store_holds_parent_children_values_and_files(store, tmp_path, write):
    weights = tmp_path / "weights.npz"
    weights.write_bytes(b"0123")
    paths = [write(), write(opts={})]
    notes = [track(path, store, SWEEP, weights) for path in paths]
    assert [note.status for note in notes] == ["uploaded", "uploaded"]
    assert pending(tmp_path / "records").records == () and [record_problems(path) for path in paths] == [[], []]
    client = client_of(store)
    experiment = client.get_experiment_by_name("recarena-dien")
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    children = [runs[note.run_id] for note in notes]
    parents = {run.data.tags["mlflow.parentRunId"] for run in children}
    assert len(runs) == 3 and len(parents) == 1
    assert runs[parents.pop()].data.tags["recarena.overrides"] == "model=dien opt=[],[fusion]"

    result = read_record(paths[0]).result
    run = children[0]
    assert run.info.status == "FINISHED"
    assert run.data.metrics["lbt_qps"] == result.candidate.lbt_qps
    assert run.data.metrics["baseline_auc"] == result.baseline.auc
    assert run.data.metrics["ratio_lbt_low"] == result.ratio.lbt_ci[0]
    assert run.data.params["sizes.hidden_units"] == "36" and run.data.params["opts.fusion.fc"] == "true"
    tags = {name: run.data.tags[name] for name in ("trial_id", "plan", "fingerprint", "git_sha", "source_sha256")}
    assert tags == {
        "trial_id": result.trial_id,
        "plan": "fusion",
        "fingerprint": "ef" * 32,
        "git_sha": result.git.sha,
        "source_sha256": "ab" * 32,
    }
    history = client.get_metric_history(run.info.run_id, "late_fraction_candidate")
    assert {point.step: point.value for point in history} == late_series(result.segments)["candidate"]
    files = {item.path for item in client.list_artifacts(run.info.run_id, "record")}
    assert {"record/result.json", "record/queries.parquet", "record/late_fraction.png"} <= files
    assert [item.path for item in client.list_artifacts(run.info.run_id, "model")] == ["model/weights.npz"]
    plain = children[1].data
    assert plain.tags["plan"] == "none" and "ratio_lbt" not in plain.metrics


def test_a_dead_server_leaves_a_pending_note_and_a_real_one_takes_the_run_later(
    tmp_path, write, monkeypatch, empty_store
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    path = write()
    started = now_ns()
    note = track(path, f"http://127.0.0.1:{free_port()}", SWEEP)
    assert (now_ns() - started) / 1e9 < 60
    assert note.status == "pending" and note.error and "sync" in note.sentence
    assert read_note(path) == note and pending(tmp_path / "records").records == (path,)
    assert record_problems(path) == []
    with real_server(tmp_path, empty_store) as uri:
        after = retry(path, uri)
        assert (after.status, after.error, after.uri) == ("uploaded", "", uri)
        run = client_of(uri).get_run(after.run_id)
    assert run.data.metrics["lbt_qps"] == 240.0 and "mlflow.parentRunId" in run.data.tags
    assert run.data.tags["trial_id"] == read_record(path).result.trial_id
    assert list((tmp_path / "files").rglob("queries.parquet"))
    assert pending(tmp_path / "records").records == ()


@contextmanager
def real_server(folder, empty_store):
    """The URI of an MLflow server on a store of its own, with its files in ``folder / "files"``."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{shutil.copy(empty_store, folder / 'server.db')}"]
    command += ["--artifacts-destination", str(folder / "files")]
    # The jobs that a server can run itself are several more processes, each of which loads all of MLflow.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = (folder / "server.log").open("wb")
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(port, server, folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 9)
        server.wait()
        log.close()


def test_no_uri_means_no_note(write):
    path = write()
    assert track(path, None).status == "off" and read_note(path) is None


def test_a_child_that_hangs_is_given_up(write, monkeypatch):
    """A server that accepts and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setattr(tracking, "UPLOAD_TIMEOUT_S", 6)
        note = track(write(), f"http://127.0.0.1:{listener.getsockname()[1]}")
    assert note.status == "pending" and "6 s" in note.error


def test_late_series_pools_segments_of_one_rate():
    def segment(qps, queries, late, **changes):
        values = {"side": "candidate", "segment": 0, "purpose": "quad", "counted_from_ns": 0, "counted_to_ns": 1}
        return SegmentInfo(offered_qps=qps, queries=queries, late=late, **{**values, **changes})

    series = late_series(
        [segment(100.2, 100, 1), segment(99.8, 300, 7), segment(50.0, 10, 0), segment(200.0, 10, 9, voided=True),
         segment(None, 10, 1), segment(70.0, 10, 5, side="baseline"), segment(80.0, 10, 5, side="floor")]
    )  # fmt: skip
    assert series == {"candidate": {50: 0.0, 100: 8 / 400}, "baseline": {70: 0.5}}


def test_what_was_not_determined_is_no_metric(fabricate):
    result = fabricate()[1].result
    nothing = dataclasses.replace(result.candidate, lbt_qps=None, lbt_ci=None, lbt_status="undetermined")
    metrics = metrics_of(dataclasses.replace(result, candidate=nothing))
    assert "lbt_qps" not in metrics and "lbt_qps_low" not in metrics
    assert metrics["baseline_lbt_qps"] == 120.0 and metrics["gate_passed"] == 1.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, server: subprocess.Popen, log: Path) -> None:
    for _ in range(2000):  # the server's own imports take a minute on a machine that is busy
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, log.read_text()
        sleep_s(0.1)
    raise AssertionError(log.read_text())
