"""The plan of a peer: one step that names it and says how it is set, on the pipeline of ``opt=[]``. No framework."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from harness.backends.peers.catalogue import PEER_TOLERANCE, Setting, peer_named, setting_named
from harness.trial import PEER
from optimizations.contract import Plan, PlanStep
from optimizations.plan import available, first_pipeline
from zoo.configs import ModelConfig
from zoo.schema import Schema

PHASE = "PEER"
ANY_SCORE = 1.0
"""The tolerance of what is another model, or rounds as it likes: no score can be farther from another."""
RUNTIME = ("runtime.executor", "runtime.threads", "runtime.workers")


def peer_plan(peer: Mapping[str, str], config: ModelConfig, schema: Schema, capabilities: frozenset[str]) -> Plan:
    """``peer``: its part of the trial. Raises ConfigurationError for an unknown one, ValueError as ``first_pipeline``.

    The blocks describe what is computed and not by whom: of their slots only the precision says anything of a peer.
    """
    known, setting = peer_named(peer["name"]), setting_named(peer["name"], peer["settings"])
    first = first_pipeline(config, schema, PEER, "cpu", "serve")
    bf16 = setting.dtype == "bf16" and available()["bf16"].native(capabilities)
    dtype = "fp32" if setting.dtype == "bf16" and not bf16 else setting.dtype
    blocks = tuple(dataclasses.replace(block, dtype=dtype) for block in first.blocks)
    closed = known.same_weights and dtype == "fp32"
    step = PlanStep(
        name=peer["name"],
        phase=PHASE,
        options=json.loads(json.dumps({"settings": peer["settings"], **setting.options, **_quantized(setting)})),
        claims=("backend", *(RUNTIME if setting.runtime.executor else ())),
        division="closed" if closed else "open",
        emulated=False,
        score_tolerance=PEER_TOLERANCE if closed else ANY_SCORE,
    )
    return Plan(steps=(step,), pipeline=dataclasses.replace(first, blocks=blocks, runtime=setting.runtime))


def _quantized(setting: Setting) -> dict[str, object]:
    return {"quantized": setting.operators} if setting.quantizer else {}


def matched(plan: Plan) -> dict[str, object]:
    """The line of a session's report for the step of a peer's plan."""
    (step,) = plan.steps
    return {"name": step.name, "matched": list(step.claims), "fallbacks": [], "build_s": 0.0}
