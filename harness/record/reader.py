"""Reading records: the folder that holds everything a result needs in order to be recomputed.

``<records_dir>/<created>_<trial_id>/`` holds trial.json, result.json, environment.json, queries.parquet,
predictions.parquet, plots and manifest.json (SHA-256 of each of the others); in training also training.parquet and
parity.parquet, and the two others are empty. With ``training.seeds`` predictions.parquet holds the test scores of each,
and evaluations.parquet their way there. ``harness.record.writer`` writes it.
``tracking.json`` may stand beside them and is not part of the manifest: it says where the record was uploaded.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from harness.record.jsonable import mismatches
from harness.record.result import PREDICTION_COLUMNS, QUERY_COLUMNS, Result
from harness.record.training_rows import (
    CHUNK_COLUMNS,
    CHUNK_TEXTS,
    EVALUATION_COLUMNS,
    EVALUATION_TEXTS,
    PARITY_COLUMNS,
    PARITY_TEXTS,
)
from harness.trial import Trial, trial_id_of

MANIFEST = "manifest.json"
TRACKING = "tracking.json"
REQUIRED_FILES = ("trial.json", "result.json", "environment.json", "queries.parquet", "predictions.parquet")
QUERY_TEXTS = ("side",)
PREDICTION_TEXTS = ("side", "run")


class RecordError(RuntimeError):
    """A record that could not be written or read; the message names the file and the cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record on disk: its folder, its trial (canonical values) and its result. Columns are read on demand."""

    path: Path
    trial: Mapping[str, Any]
    result: Result
    environment: Mapping[str, Any]

    def queries(self) -> dict[str, npt.NDArray[Any]]:
        """Columns of queries.parquet, each [Q]."""
        return _read_columns(self.path / "queries.parquet", QUERY_TEXTS, QUERY_COLUMNS)

    def predictions(self) -> dict[str, npt.NDArray[Any]]:
        """Columns of predictions.parquet, each [P]."""
        return _read_columns(self.path / "predictions.parquet", PREDICTION_TEXTS, PREDICTION_COLUMNS)

    def training(self) -> dict[str, npt.NDArray[Any]]:
        """Columns of training.parquet, which only a trial of scope=train has."""
        return _read_columns(self.path / "training.parquet", CHUNK_TEXTS, CHUNK_COLUMNS)

    def parity(self) -> dict[str, npt.NDArray[Any]]:
        """Columns of parity.parquet, as ``training``."""
        return _read_columns(self.path / "parity.parquet", PARITY_TEXTS, PARITY_COLUMNS)

    def evaluations(self) -> dict[str, npt.NDArray[Any]]:
        """Columns of evaluations.parquet, which only a training of several seeds has."""
        return _read_columns(self.path / "evaluations.parquet", EVALUATION_TEXTS, EVALUATION_COLUMNS)


def find_records(records_dir: Path) -> list[Path]:
    """Folders of the records in ``records_dir``, oldest name first; unfinished ones are not records."""
    if not records_dir.is_dir():
        return []
    return sorted(p.parent for p in records_dir.glob(f"*/{MANIFEST}") if not p.parent.name.startswith("."))


def read_record(path: Path) -> Record:
    """Read the JSON files of a record. RecordError names the file that is missing or broken."""
    trial, environment = (read_json(path / name) for name in ("trial.json", "environment.json"))
    try:
        result = Result.from_dict(read_json(path / "result.json"))
    except ValueError as error:
        raise RecordError(f"{path / 'result.json'} is not a result: {error}") from error
    for name, values in (("trial.json", trial), ("result.json", result.trial)):
        if wrong := mismatches(Trial, values):
            raise RecordError(f"{path / name} does not hold a trial: {'; '.join(wrong)}")
    if not isinstance(environment, Mapping):
        raise RecordError(f"{path / 'environment.json'} is not an object")
    return Record(path=path, trial=trial, result=result, environment=environment)


def record_problems(path: Path) -> list[str]:
    """What is wrong with the files of a record: each missing, changed or unlisted file. Empty: as it was written."""
    try:
        listed: dict[str, str] = read_json(path / MANIFEST)["files"]
        problems = [p for name, digest in sorted(listed.items()) if (p := _file_problem(path, name, digest))]
        known = {*listed, MANIFEST, TRACKING}
        problems += [f"{p.name} is not in {MANIFEST}" for p in sorted(path.iterdir()) if p.name not in known]
        problems += [f"{name} is missing from {MANIFEST}" for name in REQUIRED_FILES if name not in listed]
        record = read_record(path)
    except (RecordError, KeyError, TypeError, AttributeError) as error:
        return [f"{path}: {error!r}" if not isinstance(error, RecordError) else str(error)]
    trial_id = trial_id_of(record.trial)
    if trial_id != record.result.trial_id:
        problems.append(f"trial.json has the trial_id {trial_id}, result.json says {record.result.trial_id}")
    return problems


def read_json(path: Path) -> Any:
    """Parsed JSON of one file of a record. RecordError when it is missing or is not JSON, which knows no NaN and no
    infinity: a number that no float holds is none of a record's."""
    try:
        return json.loads(path.read_bytes(), parse_float=_finite, parse_int=_whole, parse_constant=_finite)
    except FileNotFoundError as error:
        raise RecordError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from error


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no number")
    return value


def _whole(text: str) -> int:
    _finite(text)
    return int(text)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file_problem(folder: Path, name: str, digest: str) -> str | None:
    if Path(name).name != name or not (folder / name).is_file():
        return f"{name} is missing"
    return None if file_sha256(folder / name) == digest else f"{name} was changed after the record was written"


def _read_columns(path: Path, texts: Sequence[str], numbers: Mapping[str, type]) -> dict[str, npt.NDArray[Any]]:
    """Columns by name. RecordError for a file that is no Parquet, a missing column, another type, or empty cells."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise RecordError(f"{path.name} cannot be read: {error}") from error
    missing = [name for name in (*texts, *numbers) if name not in table.column_names]
    if missing:
        unknown = sorted(set(table.column_names) - {*texts, *numbers})
        found = f"; it has {', '.join(unknown)}, which no record has" if unknown else ""
        raise RecordError(f"{path.name} has no column {', '.join(missing)}{found}")
    columns = {name: _as_array(table.column(name)) for name in (*texts, *numbers)}
    for name, kind in numbers.items():
        if columns[name].dtype != kind or table.column(name).null_count:
            raise RecordError(
                f"{path.name}: column {name} is {columns[name].dtype}, expected {np.dtype(kind)} throughout"
            )
    return columns


def _as_array(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    if not pa.types.is_dictionary(column.type):
        array: npt.NDArray[Any] = column.to_numpy()
        return array
    joined = column.unify_dictionaries().combine_chunks()
    if isinstance(joined, pa.ChunkedArray):
        return np.zeros(0, str)
    texts: npt.NDArray[Any] = np.asarray(joined.dictionary.to_pylist(), str)[joined.indices.to_numpy()]
    return texts
