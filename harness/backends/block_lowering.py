"""Chooses a builder for every block of a plan, and keeps account of what matched and what fell back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.backends.protocol import Predict
from harness.clock import now_ns
from optimizations.contract import Plan, PlanStep
from optimizations.lowering import LoweringContext, LoweringError
from optimizations.registry import lowering_module
from zoo.blueprint import Block

Builder = Callable[[Any, Block, LoweringContext], Any]
PassBuilder = Callable[[Any, LoweringContext], Predict]
Key = tuple[str, str, str]
REFERENCE = ("reference", "fp32")
SPLIT, PACKED, HOT = ".split", ".packed", ".hot"
IN_STEPS = "a plan that answers in two steps has no use for a model as a whole: its blocks run one by one"


@dataclass(slots=True)
class StepReport:
    """What became of one step of the plan. ``fallbacks``: (block path, reason). ``built``: what its pass or its
    builders tell, as JSON values."""

    name: str
    matched: list[str] = field(default_factory=list)
    fallbacks: list[tuple[str, str]] = field(default_factory=list)
    build_ns: int = 0
    excused: bool = False
    built: dict[str, Any] = field(default_factory=dict)

    @property
    def build_s(self) -> float:
        """Seconds spent in the step's builders."""
        return self.build_ns * 1e-9

    def to_json(self) -> dict[str, Any]:
        """As JSON values: the step's entry in ``Session.report``."""
        fallbacks = [{"path": path, "reason": reason} for path, reason in self.fallbacks]
        lowered = {"name": self.name, "matched": self.matched, "fallbacks": fallbacks, "build_s": self.build_s}
        return {**lowered, "built": self.built} if self.built else lowered


class BlockLowering:
    """Builds the blocks of one plan and reports per step. ``passes``: those of the plan that can be made.

    ``lowering``: which modules of the plug-ins are asked, ``lower_<lowering>.py``; those of the plan's backend if "".
    """

    def __init__(self, plan: Plan, context: LoweringContext, lowering: str = "") -> None:
        self._context = context
        self._reports = {step.name: StepReport(step.name) for step in plan.steps}
        self._builders: dict[Key, tuple[str, Builder]] = {}
        self._passes: dict[str, tuple[str, PassBuilder]] = {}
        self._claims: dict[str, str] = {}
        self.passes = () if plan.pipeline.dispatch.in_steps else plan.pipeline.passes
        paths = {block.path for block in plan.pipeline.blocks}
        for step in plan.steps:
            self._register(step, lowering or plan.pipeline.backend)
            self._claim(step, paths)

    def _register(self, step: PlanStep, backend: str) -> None:
        module = lowering_module(step.name, backend)
        for key, builder in getattr(module, "BUILDERS", {}).items():
            self._builders.setdefault(key, (step.name, builder))
        for name, builder in getattr(module, "PASSES", {}).items():
            self._passes.setdefault(name, (step.name, builder))

    def _claim(self, step: PlanStep, paths: set[str]) -> None:
        """Slots of blocks are accounted for as they are built; any other slot is done by being in the plan, but for a
        pass over the model as a whole where queries are answered in two steps."""
        for slot in step.claims:
            owner, _, name = slot.rpartition(".")
            if owner in paths:
                self._claims[slot] = step.name
            elif owner != "passes" or name in self.passes:
                self._reports[step.name].matched.append(slot)
            else:
                self._reports[step.name].fallbacks.append((slot, IN_STEPS))

    def build(self, block: Block, reference: Any) -> Any | None:
        """The module for ``block``, or None where the reference stays.

        Builders of split blocks are those of the role "<role>.split", of packed ones "<role>.packed", of those with hot
        rows "<role>.hot"; what cannot be built so is built whole, or with its weights as they are.
        """
        wanted = (block.impl, block.dtype)
        whole = {"impl": "reference", "dtype": "fp32", "split": False, "packed": False, "hot_mb": 0.0}
        reasons: list[str] = []
        asked = ((block.split, False), (block.packed, False), (block.hot_mb, 0.0))
        shapes = tuple(itertools.product(*(dict.fromkeys(wishes) for wishes in asked)))
        for impl, dtype in dict.fromkeys((wanted, (block.impl, "fp32"), ("reference", block.dtype), REFERENCE)):
            for split, packed, hot_mb in shapes:
                got = {"impl": impl, "dtype": dtype, "split": split, "packed": packed, "hot_mb": hot_mb}
                if got == whole:
                    continue
                module = self._try(block, got, reference, reasons)
                if module is not None:
                    self.account(block, got, reasons)
                    return module
        self.account(block, whole, reasons)
        return None

    def whole(self, name: str, model: Any) -> Predict | None:
        """What the pass makes of the lowered model; None, on record, where it cannot."""
        if name not in self._passes:
            return None
        owner, builder = self._passes[name]
        report, started = self._reports[owner], now_ns()
        try:
            made = builder(model, self._context)
            report.built.update(getattr(made, "built", {}))
            return made
        except LoweringError as error:
            report.matched.remove(f"passes.{name}")
            report.fallbacks.append((f"passes.{name}", str(error)))
            report.excused = True
            return None
        finally:
            report.build_ns += now_ns() - started

    def _try(self, block: Block, slots: dict[str, Any], reference: Any, reasons: list[str]) -> Any | None:
        role = block.role + SPLIT * slots["split"] + PACKED * slots["packed"] + HOT * bool(slots["hot_mb"])
        key = (role, slots["impl"], slots["dtype"])
        if key not in self._builders:
            reasons.append(f"no {key[1]} implementation of {key[0]} in {key[2]}")
            return None
        owner, builder = self._builders[key]
        report = self._reports[owner]
        started = now_ns()
        try:
            module = builder(reference, replace(block, **slots), self._context)
            report.built.update(getattr(module, "built", {}))
            return module
        except LoweringError as error:
            reasons.append(str(error))
            report.excused = True
            return None
        finally:
            report.build_ns += now_ns() - started

    def account(self, block: Block, slots: Mapping[str, Any], reasons: Sequence[str]) -> None:
        """The slots that ``block`` has in what was built, and why where they are not those of the plan."""
        for slot, got in slots.items():
            owner = self._claims.get(f"{block.path}.{slot}")
            if owner is None:
                continue
            if getattr(block, slot) == got:
                self._reports[owner].matched.append(block.path)
            else:
                self._reports[owner].fallbacks.append(
                    (block.path, f"{slot}={got}: {'; '.join(dict.fromkeys(reasons))}")
                )

    def excuse(self, slot: str, reason: str) -> None:
        """A slot that is no block's could not be made; the step that claims it says so, and why."""
        for report in self._reports.values():
            if slot in report.matched:
                report.matched.remove(slot)
                report.fallbacks.append((slot, reason))
                report.excused = True

    def tell(self, slot: str, built: Mapping[str, Any]) -> None:
        """What was found or chosen for a slot that is no block's: ``built`` of the step that claims it."""
        for report in self._reports.values():
            if slot in report.matched:
                report.built.update(built)

    def finish(self) -> list[StepReport]:
        """The reports, in the order of the plan. Raises ValueError for a step that changed nothing without excuse."""
        for report in self._reports.values():
            if not report.matched and not report.excused:
                details = "; ".join(f"{path}: {reason}" for path, reason in report.fallbacks) or "no block was claimed"
                raise ValueError(
                    f"opt: {report.name!r} matched no block of model={self._context.config.name} ({details}): "
                    "leave it out, or give its plug-in a builder for these blocks"
                )
        return list(self._reports.values())
