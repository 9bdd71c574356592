"""What identifies a result: its trial, its source, its moment, the machine and the rows behind it."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.clock import unix_s
from harness.record.result import DatasetInfo, GitState
from harness.trial import Trial
from zoo.schema import Dataset


def identity(trial: Trial, dataset: Dataset, environment: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a ``Result``. ``environment`` as ``harness.host.environment`` describes it."""
    return {
        "trial_id": trial.trial_id,
        "created": created_now(),
        "recarena_version": importlib.metadata.version("recarena"),
        "source_sha256": environment["source_sha256"],
        "git": GitState(sha=environment["git"]["sha"] or "", dirty=bool(environment["git"]["dirty"])),
        "trial": dataclasses.asdict(trial),
        "hardware_class": environment["hardware_class"],
        "dataset": dataset_info(dataset),
    }


def dataset_info(dataset: Dataset) -> DatasetInfo:
    """The rows of all splits."""
    labels = np.concatenate([split.labels for split in (dataset.train, dataset.valid, dataset.test)])
    return DatasetInfo(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        rows=len(labels),
        label_rate=float(np.nanmean(labels)),
        bayes_auc=dataset.bayes_auc,
    )


def created_now() -> str:
    """The moment of creation, UTC, ISO 8601 to the second."""
    return datetime.datetime.fromtimestamp(unix_s(), datetime.UTC).isoformat(timespec="seconds")
