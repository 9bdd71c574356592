"""Which record a sweep takes for a trial's result, in place of measuring it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.host.software import other_versions, versions
from harness.options import Resume
from harness.record.reader import Record, find_records, read_record, record_problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The trial, and what would measure it now: source, kind of machine, versions (``harness.host.software.here``)."""

    trial_id: str
    source_sha256: str
    hardware_class: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumable:
    """The record that is taken, None for none; ``passed_over``: why not the newest one of the trial, "" if it is."""

    record: Record | None
    passed_over: str = ""


def find_resumable(records_dir: Path, wanted: Wanted, resume: Resume = "auto") -> Resumable:
    """The newest record of this trial that is whole and as good as a new measurement would be."""
    passed_over = ""
    for path in reversed(find_records(records_dir)) if resume != "never" else ():
        if wanted.trial_id not in path.name or record_problems(path):
            continue
        record = read_record(path)
        if record.result.trial_id != wanted.trial_id:
            continue
        reason = _why_not(record, wanted, resume)
        if not reason:
            return Resumable(record=record, passed_over=passed_over)
        passed_over = passed_over or f"{path} {reason}"
    return Resumable(record=None, passed_over=passed_over)


def _why_not(record: Record, wanted: Wanted, resume: Resume) -> str:
    """Why the trial is measured again, "" where it is not."""
    result, then = record.result, versions(record.environment)
    if result.source_sha256 != wanted.source_sha256:
        return "was measured by another version of the source"
    if result.hardware_class != wanted.hardware_class:
        return f"was measured on another kind of machine ({result.hardware_class})"
    if not then:
        return "does not say which packages measured it"
    if changed := other_versions(then, wanted.versions):
        return f"was measured with {'; '.join(changed)}"
    verdict = result.validity.verdict
    if verdict == "void":
        return "is void"
    if verdict == "noisy_host" and (resume == "quiet" or result.official):
        return "was measured on a noisy host"
    return ""
