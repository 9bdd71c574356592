"""Lowers the plan of a peer: by the module of ``harness.backends.peers`` that has its name, which loads its package."""

from __future__ import annotations

import importlib

from harness.backends.peers.catalogue import PEERS
from harness.backends.protocol import Session
from harness.errors import ConfigurationError
from optimizations.contract import Plan
from optimizations.lowering import LoweringContext


def lower(plan: Plan, context: LoweringContext) -> Session:
    """The session of the peer that the plan's one step names. Raises ConfigurationError where it is not installed."""
    name = plan.steps[0].name
    if name not in PEERS:
        raise ConfigurationError(f"peer={name} is not known: use one of {', '.join(PEERS)}")
    try:
        module = importlib.import_module(f"harness.backends.peers.{name}")
    except ImportError as error:
        raise ConfigurationError(
            f"peer={name} cannot be loaded ({error}): install it with pip install '{PEERS[name].requirement}'"
        ) from error
    session: Session = module.lower(plan, context)
    return session
