"""Categories of Amazon items from the official metadata files, in strict JSON (2018) or as Python literals (2014)."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.datasets.portable_random import Int64
from zoo.datasets.source_file import bad_line, open_source, shown

UNKNOWN_CATEGORY = ""
EXPECTED = "an object with asin (a JSON object or a Python dictionary)"


def read_categories(path: Path, asins: Sequence[str]) -> Int64:
    """The category number [I] of each of ``asins``, numbered in the order of first use.

    As in the DIN and DIEN code, an item's category is the last name of its last category path; items that the file
    does not list share one unknown category. Raises ValueError naming file and line.
    """
    wanted = {asin: index for index, asin in enumerate(asins)}
    names = [UNKNOWN_CATEGORY] * len(asins)
    with open_source(path) as stream:
        for number, line in enumerate(stream, 1):
            entry = _parse_line(line)
            if entry is None:
                raise bad_line(path, number, EXPECTED, shown(line.rstrip()))
            index = wanted.get(entry["asin"])
            if index is not None:
                names[index] = _category(entry)
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def _parse_line(line: bytes) -> dict[str, Any] | None:
    text = line.decode("utf-8", "replace")
    for parse in (json.loads, ast.literal_eval):
        try:
            entry = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get("asin"), str):
            return entry
    return None


def _category(entry: dict[str, Any]) -> str:
    """2014: ``categories`` is a list of paths; 2018: ``category`` is one path."""
    paths = entry.get("categories") or [entry.get("category") or []]
    last = paths[-1]
    return str(last[-1]) if last else UNKNOWN_CATEGORY
