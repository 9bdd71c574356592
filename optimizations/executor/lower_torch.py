"""executor on PyTorch: ``mode=cost_model`` schedules the program that fusion makes; other modes are counts alone."""

from __future__ import annotations

from optimizations.executor.scheduled_program import scheduled_program
from optimizations.executor.spec import COST_MODEL

PASSES = {COST_MODEL: scheduled_program}
