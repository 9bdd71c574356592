"""MLflow: one experiment per model, one run per trial, one parent run per sweep. The only importer of MLflow.

An upload runs in a child process (``python -m harness.record.tracking RECORD``): MLflow is slow to import and keeps
threads, and a server that hangs can be left behind. What is to be uploaded, and whether it was, stands in
``tracking.json`` beside the record's files, so that it can be done later.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.host.environment import project_root
from harness.record.durable_files import write_json
from harness.record.jsonable import from_plain, to_plain
from harness.record.reader import TRACKING, Record, RecordError, find_records, read_json, read_record
from harness.record.result import Result
from harness.record.tracked_values import late_series, metrics_of, params_of, tags_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

UPLOAD_TIMEOUT_S = 120
EXPERIMENT_PREFIX = "recarena-"
CHILD_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Set in the child unless the user set them: a dead server is given up within seconds, and nobody is called home."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepTag:
    """The sweep that a trial belongs to: a stable id and the command line's overrides."""

    sweep_id: str
    overrides: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingNote:
    """Content of ``tracking.json``."""

    uri: str
    status: Literal["pending", "uploaded", "off"]
    sweep: SweepTag | None = None
    weights_path: str | None = None
    experiment: str = ""
    run_id: str = ""
    error: str = ""

    @property
    def sentence(self) -> str:
        """Where the run is, or that it is still to be uploaded."""
        if self.status == "off":
            return "MLflow: off"
        if self.status == "uploaded":
            return f"MLflow: run {self.run_id} in experiment {self.experiment} at {self.uri}"
        return (
            f"warning: MLflow at {self.uri} did not take the run ({self.error}); the record is kept, and "
            "`python -m leaderboard sync` uploads it later"
        )


def track(record: Path, uri: str | None, sweep: SweepTag | None = None, weights: Path | None = None) -> TrackingNote:
    """Upload a record, in a child process; nothing without a URI. A failure is told by the note, never raised."""
    if uri is None:
        return TrackingNote(uri="", status="off")
    note = TrackingNote(uri=uri, status="pending", sweep=sweep, weights_path=None if weights is None else str(weights))
    _write_note(record, note)
    return retry(record)


def retry(record: Path, uri: str | None = None) -> TrackingNote:
    """Upload a record whose note is pending, to ``uri`` if given. RecordError without a note and without ``uri``."""
    note = read_note(record)
    if note is None and uri is None:
        raise RecordError(f"{record / TRACKING} is missing, so the tracking URI is not known")
    note = note or TrackingNote(uri=str(uri), status="pending")
    _write_note(record, dataclasses.replace(note, uri=uri or note.uri, status="pending", error=""))
    failure = _run_child(record)
    after = read_note(record)
    assert after is not None
    if failure:
        after = dataclasses.replace(after, status="pending", error=failure)
        _write_note(record, after)
    return after


def read_note(record: Path) -> TrackingNote | None:
    """The record's tracking note, or None. RecordError when it cannot be read."""
    if not (record / TRACKING).exists():
        return None
    try:
        return from_plain(TrackingNote, read_json(record / TRACKING))
    except ValueError as error:
        raise RecordError(f"{record / TRACKING} is not a tracking note: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """Records whose upload was asked for and has not been done, and what is wrong with notes that cannot be read."""

    records: tuple[Path, ...]
    unreadable: tuple[str, ...]


def pending(records_dir: Path) -> Pending:
    """What is left to upload. One bad note keeps no other record back."""
    records, unreadable = [], []
    for path in find_records(records_dir):
        try:
            note = read_note(path)
        except RecordError as error:
            unreadable.append(f'{error}; {{"uri": URI, "status": "pending"}} in its place has the record uploaded')
        else:
            records += [path] if note is not None and note.status == "pending" else []
    return Pending(records=tuple(records), unreadable=tuple(unreadable))


def upload(record: Record, note: TrackingNote) -> TrackingNote:
    """Create the run in this process and return the note that says where. Raises whatever MLflow raises."""
    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri=note.uri)
    name = EXPERIMENT_PREFIX + str(record.result.trial["model"])
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    parent = _parent_run(client, experiment_id, note.sweep)
    run_id = _create_run(client, experiment_id, record, parent)
    _log_values(client, run_id, record.result)
    client.log_artifacts(run_id, str(record.path), "record")
    if note.weights_path and Path(note.weights_path).is_file():
        client.log_artifact(run_id, note.weights_path, "model")
    client.set_terminated(run_id, "FINISHED", _unix_ms(record.result.created))
    return dataclasses.replace(note, status="uploaded", experiment=name, run_id=run_id, error="")


def main(arguments: list[str]) -> int:
    """The child: upload one record and rewrite its note."""
    path = Path(arguments[0])
    note = read_note(path)
    assert note is not None
    _write_note(path, upload(read_record(path), note))
    return 0


def _run_child(record: Path) -> str:
    """Run the upload; returns what went wrong, "" if nothing did."""
    command = [sys.executable, "-m", "harness.record.tracking", str(record.absolute())]
    environment = {**CHILD_ENVIRONMENT, **os.environ, "PYTHONPATH": _python_path()}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=UPLOAD_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"no answer within {UPLOAD_TIMEOUT_S} s"
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1].strip()[:400] if lines else f"exit code {done.returncode}"


def _python_path() -> str:
    return os.pathsep.join(filter(None, [str(project_root()), os.environ.get("PYTHONPATH")]))


def _write_note(record: Path, note: TrackingNote) -> None:
    write_json(record / TRACKING, to_plain(note))


def _parent_run(client: MlflowClient, experiment_id: str, sweep: SweepTag | None) -> str | None:
    """The run of the sweep in this experiment, created at its first trial. A repeated sweep finds it again."""
    if sweep is None:
        return None
    condition = f"tags.`recarena.sweep_id` = '{sweep.sweep_id}' and tags.`recarena.kind` = 'sweep'"
    found = client.search_runs([experiment_id], condition, max_results=1)
    if found:
        return str(found[0].info.run_id)
    tags = {
        "recarena.kind": "sweep",
        "recarena.sweep_id": sweep.sweep_id,
        "recarena.overrides": " ".join(sweep.overrides),
    }
    run = client.create_run(experiment_id, tags=tags, run_name=f"sweep {sweep.sweep_id}")
    client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)


def _create_run(client: MlflowClient, experiment_id: str, record: Record, parent: str | None) -> str:
    result = record.result
    tags = tags_of(record)
    if parent is not None:
        tags["mlflow.parentRunId"] = parent
    name = f"{result.trial['model']} {result.plan_name} {result.trial_id}"
    run = client.create_run(experiment_id, start_time=_unix_ms(result.created), tags=tags, run_name=name)
    return str(run.info.run_id)


def _log_values(client: MlflowClient, run_id: str, result: Result) -> None:
    from mlflow.entities import Metric, Param

    now = _unix_ms(result.created)
    metrics = [Metric(name, value, now, 0) for name, value in metrics_of(result).items()]
    for side, series in late_series(result.segments).items():
        metrics += [Metric(f"late_fraction_{side}", value, now, qps) for qps, value in series.items()]
    params = [Param(name, text[:500]) for name, text in params_of(result).items()]
    for start in range(0, max(len(metrics), len(params)), 100):
        end = start + 100
        client.log_batch(run_id, metrics=metrics[start:end], params=params[start:end])


def _unix_ms(created: str) -> int:
    return int(datetime.fromisoformat(created).timestamp() * 1000)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
