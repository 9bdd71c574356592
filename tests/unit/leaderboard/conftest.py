"""The board reads columns and JSON; drawing pictures for its records would only take time."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    monkeypatch.setattr("harness.record.writer.write_plots", lambda folder, result, queries: [])
