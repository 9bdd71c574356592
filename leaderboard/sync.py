"""Upload what the tracking server missed: records whose tracking note is pending."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.record.tracking import pending, retry


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOutcome:
    """How many records were uploaded, and how many could not be."""

    uploaded: int
    failed: int


def sync(records_dir: Path, uri: str | None, tell: Callable[[str], None]) -> SyncOutcome:
    """Upload every pending record to ``uri`` (None: to the URI of its note)."""
    left, uploaded = pending(records_dir), 0
    failed = len(left.unreadable)
    for problem in left.unreadable:
        tell(problem)
    for path in left.records:
        note = retry(path, uri)
        tell(f"{path.name}: {note.sentence}")
        if note.status == "uploaded":
            uploaded += 1
        else:
            failed += 1
    tell(f"{uploaded} uploaded, {failed} still pending in {records_dir}")
    return SyncOutcome(uploaded=uploaded, failed=failed)
