"""The plans that are held to be fastest, by model and by what the processor multiplies.

Measured as served: those of "any" on all four models (docs/results.md), with AMX those of DIEN and DIN
(docs/results_history.md). The others, all with int8 among them, follow from the times of single queries. On a backend
that runs whole graphs there is one plan for all models, in either division (docs/backends.md).
In training (docs/training.md) one plan gained on every model. Beside it stage and smart_stage gained nothing on DLRM,
bf16, of the open division there, gained on WDL and DLRM; what else composes with it is not measured.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from optimizations.contract import PlanError

BestPlan = Literal["best", "best_open", "best_training"]
TRAINING: BestPlan = "best_training"
_OF_USERS = "dedup"
_FLOATS = ("fusion", "dedup", "executor")
_PAIRS = ("fusion", "dedup", "bf16", "executor")
_BYTES = ("fusion", "dedup", "int8", "executor")
_PLANS: Mapping[tuple[BestPlan, str], Mapping[str, tuple[str, ...]]] = {
    ("best", "amx"): {"wdl": _PAIRS, "din": _PAIRS, "dien": _PAIRS, "dlrm": _PAIRS},
    ("best", "any"): {"wdl": _FLOATS, "din": _FLOATS, "dien": _FLOATS, "dlrm": _FLOATS},
    ("best_open", "amx"): {"wdl": _BYTES, "din": _PAIRS, "dien": _PAIRS, "dlrm": _BYTES},
    ("best_open", "any"): {"wdl": _BYTES, "din": _FLOATS, "dien": _FLOATS, "dlrm": _BYTES},
}
_TRAINED: Mapping[str, tuple[str, ...]] = dict.fromkeys(("wdl", "din", "dien", "dlrm"), ("fusion",))
_OF_GRAPHS: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("dedup", "executor"),
    "openvino": ("dedup", "executor"),
    "tensorflow": ("fusion", "dedup", "executor"),
}


def best_plan(
    which: BestPlan, model: str, capabilities: Collection[str], backend: str = "torch", *, users: bool = True
) -> tuple[str, ...]:
    """Names of the optimizations. "best" stays in the closed division, "best_open" may leave it, both in serving;
    "best_training" is of training, in the closed division. users: whether the data have columns of a user; without
    them there is nothing that the samples of a query share.

    Raises PlanError for a model or a backend that nobody has measured.
    """
    plans = _TRAINED if which == TRAINING else _PLANS[which, "amx" if "amx_bf16" in capabilities else "any"]
    if model not in plans:
        raise PlanError(f"experiment={which}: no best plan is known for model={model}; write opt=[...] yourself")
    if backend != "torch" and (backend not in _OF_GRAPHS or which == TRAINING):
        raise PlanError(f"experiment={which}: no best plan is known for backend={backend}; write opt=[...] yourself")
    names = plans[model] if backend == "torch" else _OF_GRAPHS[backend]
    return names if users else tuple(name for name in names if name != _OF_USERS)
