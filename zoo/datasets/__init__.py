"""Data sets behind one call: ``load_dataset(name, options, cache_dir) -> Dataset``. No framework is imported here."""

from zoo.datasets.registry import (
    DATASETS,
    DatasetEntry,
    Progress,
    fingerprint,
    load_dataset,
    table_copies,
    trained_options,
)

__all__ = [
    "DATASETS",
    "DatasetEntry",
    "Progress",
    "fingerprint",
    "load_dataset",
    "table_copies",
    "trained_options",
]
