"""Writing records: reserved before the work, written under a temporary name, flushed, renamed.

A record is there as a whole or not at all; a killed run leaves a temporary folder that the next run removes.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import ConfigurationError
from harness.record.durable_files import json_bytes, sync_file, sync_folder, write_bytes
from harness.record.jsonable import to_plain
from harness.record.plots import write_plots
from harness.record.reader import MANIFEST, PREDICTION_TEXTS, QUERY_TEXTS, RecordError, file_sha256
from harness.record.result import PREDICTION_COLUMNS, QUERY_COLUMNS, Measurement, Result
from harness.record.training_plots import write_training_plots
from harness.record.training_rows import CHUNK_COLUMNS, CHUNK_TEXTS, PARITY_COLUMNS, PARITY_TEXTS
from harness.trial import Trial

TEMPORARY_PREFIX = ".writing-"


class RecordWriter:
    """Reserves a place for one record before the work and fills it after the work.

    ``with RecordWriter(records_dir, trial) as writer: ...; path = writer.write(measurement)``. Entering raises
    ConfigurationError when the folder cannot be written; leaving without ``write`` leaves nothing behind.
    """

    def __init__(self, records_dir: Path, trial: Trial) -> None:
        self._records_dir = records_dir
        self._trial = trial
        self._made: list[Path] = []
        self._temporary: Path | None = None

    def __enter__(self) -> RecordWriter:
        try:
            self._made = _make_folders(self._records_dir)
            remove_abandoned(self._records_dir)
            name = f"{TEMPORARY_PREFIX}{self._trial.trial_id}-{os.getpid()}@{socket.gethostname()}"
            self._temporary = self._records_dir / name
            self._temporary.mkdir()
            self._write_trial(self._temporary)
        except OSError as error:
            self._discard()
            raise ConfigurationError(
                f"records_dir={self._records_dir} cannot be written ({error.strerror or error}); "
                "make the folder writable or choose another with records_dir=DIR"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def write(self, measurement: Measurement) -> Path:
        """Write all files, flush, rename; returns the record's folder. RecordError when the disk refuses."""
        if self._temporary is None:
            raise RecordError("a record can be written once, inside of its with block")
        try:
            if not self._temporary.exists():  # someone to whom this process does not seem alive has cleared it
                self._temporary.mkdir(parents=True)
                self._write_trial(self._temporary)
            _write_files(self._temporary, measurement)
            write_bytes(self._temporary / MANIFEST, json_bytes(_manifest(self._temporary)))
            sync_folder(self._temporary)
            target = _free_name(self._records_dir, measurement.result)
            os.rename(self._temporary, target)
            sync_folder(self._records_dir)
        except OSError as error:
            raise RecordError(
                f"the record could not be written to {self._records_dir} ({error.strerror or error}); the result was "
                "printed but is not kept: free some space or choose another folder with records_dir=DIR, and run again"
            ) from error
        self._temporary, self._made = None, []
        return target

    def _write_trial(self, folder: Path) -> None:
        write_bytes(folder / "trial.json", json_bytes(json.loads(self._trial.to_json())))

    def _discard(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None
        for folder in reversed(self._made):
            if any(folder.iterdir()):
                break
            folder.rmdir()
        self._made = []


def remove_abandoned(records_dir: Path) -> list[Path]:
    """Delete temporary folders whose writer on this machine is gone; returns them."""
    removed = []
    for folder in records_dir.glob(f"{TEMPORARY_PREFIX}*"):
        owner, _, host = folder.name.partition("@")
        pid = owner.rpartition("-")[2]
        if host == socket.gethostname() and pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed


def _write_files(folder: Path, measurement: Measurement) -> None:
    write_bytes(folder / "result.json", json_bytes(measurement.result.to_dict()))
    write_bytes(folder / "environment.json", json_bytes(to_plain(measurement.environment)))
    _write_columns(folder / "queries.parquet", measurement.queries, QUERY_TEXTS, QUERY_COLUMNS)
    _write_columns(folder / "predictions.parquet", measurement.predictions, PREDICTION_TEXTS, PREDICTION_COLUMNS)
    if measurement.training:
        _write_columns(folder / "training.parquet", measurement.training, CHUNK_TEXTS, CHUNK_COLUMNS)
        _write_columns(folder / "parity.parquet", measurement.parity, PARITY_TEXTS, PARITY_COLUMNS)
    for name, content in measurement.logs.items():
        write_bytes(folder / name, content)
    plots = (
        write_training_plots(folder, measurement.training)
        if measurement.training
        else write_plots(folder, measurement.result, measurement.queries)
    )
    for plot in plots:
        sync_file(plot)


def _write_columns(
    path: Path, columns: Mapping[str, npt.NDArray[Any]], texts: Iterable[str], numbers: Mapping[str, type]
) -> None:
    arrays = {name: pa.array(np.asarray(columns[name]).astype(str), pa.string()).dictionary_encode() for name in texts}
    arrays |= {name: pa.array(np.asarray(columns[name], dtype=kind)) for name, kind in numbers.items()}
    pq.write_table(pa.table(arrays), path, compression="zstd")
    sync_file(path)


def _manifest(folder: Path) -> dict[str, Any]:
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    return {"schema_version": 1, "files": {path.name: file_sha256(path) for path in files}}


def _free_name(records_dir: Path, result: Result) -> Path:
    """``<created, UTC>_<trial_id>``, with -2, -3, ... where that record exists already."""
    created = datetime.fromisoformat(result.created).astimezone(UTC)
    stem = f"{created:%Y-%m-%dT%H-%M-%SZ}_{result.trial_id}"
    candidate, count = records_dir / stem, 1
    while candidate.exists():
        count += 1
        candidate = records_dir / f"{stem}-{count}"
    return candidate


def _make_folders(folder: Path) -> list[Path]:
    """Create ``folder`` and its parents; returns those that were not there, outermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()][::-1]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
