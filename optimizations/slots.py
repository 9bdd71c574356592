"""Slots: the named places of a pipeline that an optimization claims and writes."""

from __future__ import annotations

import dataclasses

from optimizations.contract import Pipeline

BLOCK_SLOTS = ("impl", "dtype", "packed", "hot_mb", "hot_order", "split")


def slot_values(pipeline: Pipeline) -> dict[str, object]:
    """Every writable slot of ``pipeline`` and its value: "<block path>.impl", "runtime.threads", "expand", ...

    Environment variables ("runtime.environment.<NAME>") and passes ("passes.<name>") are one slot each.
    """
    values: dict[str, object] = {"expand": pipeline.expand}
    for block in pipeline.blocks:
        values.update({f"{block.path}.{slot}": getattr(block, slot) for slot in BLOCK_SLOTS})
    for part in ("runtime", "dispatch", "train"):
        settings = getattr(pipeline, part)
        if settings is None:
            continue
        values.update({f"{part}.{f.name}": getattr(settings, f.name) for f in dataclasses.fields(settings)})
    del values["runtime.environment"]
    values.update({f"runtime.environment.{name}": value for name, value in pipeline.runtime.environment})
    values.update({f"passes.{name}": True for name in pipeline.passes})
    return values


def changed_slots(before: Pipeline, after: Pipeline) -> tuple[str, ...]:
    """Slots whose values differ, sorted."""
    old, new = slot_values(before), slot_values(after)
    return tuple(sorted(slot for slot in old.keys() | new.keys() if old.get(slot) != new.get(slot)))
