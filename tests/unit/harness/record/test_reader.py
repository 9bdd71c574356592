"""Records on disk: all or nothing, tamper evidence, and what can be found again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.errors import ConfigurationError
from harness.record.derive import counted, latencies_ms, percentile_ms
from harness.record.reader import RecordError, find_records, read_record, record_problems
from harness.record.writer import TEMPORARY_PREFIX, RecordWriter, remove_abandoned


@pytest.fixture(scope="module")
def once(tmp_path_factory, fabricate):
    trial, measurement = fabricate()
    with RecordWriter(tmp_path_factory.mktemp("once") / "records", trial) as writer:
        path = writer.write(measurement)
    return path, trial, measurement


@pytest.fixture
def written(tmp_path, once):
    """A copy of the record that a test may harm, with its trial and measurement."""
    path, *rest = once
    return shutil.copytree(path, tmp_path / "records" / path.name), *rest


@pytest.fixture
def without_pictures(monkeypatch):
    """They take most of the time of a record, and are not what some tests look at."""
    monkeypatch.setattr("harness.record.writer.write_plots", lambda folder, result, queries: [])


def test_everything_comes_back(written):
    path, trial, measurement = written
    record = read_record(path)
    assert path.name == f"2026-03-01T12-00-00Z_{trial.trial_id}"
    assert record.result == measurement.result
    assert json.loads(trial.to_json()) == record.trial
    for name, column in record.queries().items():
        np.testing.assert_array_equal(column, measurement.queries[name])
    predictions = record.predictions()
    assert predictions["score"].dtype == np.float32
    for name, column in predictions.items():
        np.testing.assert_array_equal(column, measurement.predictions[name])


def test_a_null_system_that_did_not_answer_costs_no_record(tmp_path, fabricate):
    """Held up for a second, one query in a hundred is dropped: the probe's p99 is infinite."""
    trial, measurement = fabricate()
    host = {"quads": [{"quad": 0, "null_p99_ns": [math.inf, np.float64(2e5)], "steal_share": 0.5}]}
    environment = {**measurement.environment, "run": host}
    with RecordWriter(tmp_path, trial) as writer:
        path = writer.write(dataclasses.replace(measurement, environment=environment))
    (quad,) = read_record(path).environment["run"]["quads"]
    assert quad == {"quad": 0, "null_p99_ns": [None, 2e5], "steal_share": 0.5}
    assert record_problems(path) == []


def test_manifest_holds_the_digest_of_each_file(written):
    path = written[0]
    files = json.loads((path / "manifest.json").read_text())["files"]
    on_disk = {p.name for p in path.iterdir()} - {"manifest.json"}
    assert set(files) == on_disk
    assert {"late_fraction.png", "latency_cdf.png", "latency_over_time.png", "queries.parquet"} <= on_disk
    for name, digest in files.items():
        assert hashlib.sha256((path / name).read_bytes()).hexdigest() == digest
    assert (path / "latency_cdf.png").read_bytes().startswith(b"\x89PNG")


def test_leaving_without_a_result_leaves_nothing(tmp_path, fabricate):
    trial, _ = fabricate()
    folder = tmp_path / "deep" / "records"
    with RecordWriter(folder, trial):
        assert len(list(folder.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays(tmp_path, fabricate):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(KeyboardInterrupt), RecordWriter(tmp_path, fabricate()[0]):
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["keep.txt"]


def test_unwritable_place_is_known_before_the_work(tmp_path, fabricate):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "records", Path("/proc/records")):
        with pytest.raises(ConfigurationError, match=r"records_dir=.*cannot be written"):
            RecordWriter(place, fabricate()[0]).__enter__()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_same_trial_twice_keeps_both(tmp_path, fabricate, without_pictures):
    trial, measurement = fabricate()
    paths = []
    for _ in range(3):
        with RecordWriter(tmp_path, trial) as writer:
            paths.append(writer.write(measurement))
    assert len(set(paths)) == 3 and find_records(tmp_path) == sorted(paths)
    assert paths[2].name.endswith("-3")


def test_a_killed_run_leaves_a_folder_that_the_next_removes(tmp_path, fabricate):
    script = (
        "import os, socket, pathlib\n"
        f"p = pathlib.Path({str(tmp_path)!r}) / f'{TEMPORARY_PREFIX}abc-{{os.getpid()}}@{{socket.gethostname()}}'\n"
        "p.mkdir(); (p / 'trial.json').write_text('{}'); os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    own = tmp_path / f"{TEMPORARY_PREFIX}abc-{os.getpid()}@{os.uname().nodename}"
    elsewhere = tmp_path / f"{TEMPORARY_PREFIX}abc-1@another-host"
    own.mkdir()
    elsewhere.mkdir()
    assert find_records(tmp_path) == []
    removed = remove_abandoned(tmp_path)
    assert len(removed) == 1 and not removed[0].exists()
    assert own.exists() and elsewhere.exists()


def test_a_place_that_was_cleared_meanwhile_costs_no_record(tmp_path, fabricate):
    """As by a run in another container on the same host name, where process numbers are others."""
    trial, measurement = fabricate()
    with RecordWriter(tmp_path, trial) as writer:
        (place,) = tmp_path.iterdir()
        shutil.rmtree(place)
        path = writer.write(measurement)
    assert list(tmp_path.iterdir()) == [path]
    assert record_problems(path) == [] and read_record(path).result == measurement.result


def test_a_full_disk_is_an_error_and_not_half_a_record(tmp_path, fabricate):
    """RLIMIT_FSIZE makes the kernel refuse writes past a size, as a full disk does."""
    trial, measurement = fabricate()
    pid = os.fork()
    if pid == 0:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        code = 9
        try:
            with RecordWriter(tmp_path, trial) as writer:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
                writer.write(measurement)
        except RecordError as error:
            code = 3 if "is not kept" in str(error) and str(tmp_path) in str(error) else 4
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda p: (p / "queries.parquet").write_bytes(b"PAR1"), "queries.parquet was changed"),
        (lambda p: (p / "latency_cdf.png").unlink(), "latency_cdf.png is missing"),
        (lambda p: (p / "notes.txt").write_text("hello"), "notes.txt is not in manifest.json"),
        (lambda p: (p / "manifest.json").write_text("{"), "manifest.json cannot be read"),
        (lambda p: (p / "manifest.json").write_text('{"files": {}}'), "trial.json is missing from manifest.json"),
        (lambda p: (p / "environment.json").unlink(), "environment.json is missing"),
    ],
)
def test_harm_is_seen(written, harm, said):
    path = written[0]
    assert record_problems(path) == []
    harm(path)
    assert any(said in problem for problem in record_problems(path))


def test_the_trial_is_tied_to_the_result(written):
    """Another trial.json with a mended manifest is still found by its trial_id."""
    path = written[0]
    trial = json.loads((path / "trial.json").read_text()) | {"seed": 2}
    (path / "trial.json").write_text(json.dumps(trial))
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["trial.json"] = hashlib.sha256((path / "trial.json").read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert any("trial_id" in problem for problem in record_problems(path))


def test_tracking_note_is_outside_of_the_manifest(written):
    path = written[0]
    (path / "tracking.json").write_text('{"run_id": "1"}')
    assert record_problems(path) == []


def test_reading_what_is_no_record(tmp_path):
    with pytest.raises(RecordError, match=r"trial\.json is missing"):
        read_record(tmp_path)


def test_latency_counts_from_the_plan_and_failures_are_late():
    queries = {
        "side": np.array(["candidate"] * 4 + ["baseline"]),
        "segment": np.array([3, 3, 3, 3, 3]),
        "planned_ns": np.array([0, 1_000_000, 2_000_000, 3_000_000, 1_500_000]),
        "sent_ns": np.array([500_000, 1_000_000, 2_000_000, -1, 0]),
        "done_ns": np.array([4_000_000, 2_000_000, 2_500_000, -1, 9_000_000]),
        "status": np.array([0, 0, 1, 5, 0]),
    }
    np.testing.assert_array_equal(latencies_ms(queries), [4.0, 1.0, np.inf, np.inf, 7.5])
    from harness.record.derive import late_count
    from harness.record.result import SegmentInfo

    segment = SegmentInfo(
        side="candidate",
        segment=3,
        purpose="quad",
        offered_qps=1000.0,
        counted_from_ns=1_000_000,
        counted_to_ns=3_000_000,
        queries=0,
        late=0,
    )
    np.testing.assert_array_equal(counted(queries, [segment]), [False, True, True, False, False])
    assert late_count(queries, segment, 1.0) == (2, 1)
    assert late_count(queries, segment, 0.9) == (2, 2)


def test_percentiles_are_observed_and_withheld_when_few():
    values = np.arange(1000.0)
    assert percentile_ms(values, 0.5) == 500.0
    assert percentile_ms(values, 0.99) == 990.0
    assert percentile_ms(values[:458], 0.99) is None
    assert percentile_ms(values, 0.999) is None
    values[-20:] = np.inf
    assert percentile_ms(values, 0.99) is None
