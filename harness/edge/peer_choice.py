"""A peer on the command line: ``backend=peer peer=NAME`` measures it, ``peer=NAME opt=[...]`` a plan beside it."""

from __future__ import annotations

from harness.backends.peers.catalogue import PEERS, peer_named, require_peer
from harness.edge.settings import Settings
from harness.errors import ConfigurationError
from harness.trial import PEER, Trial
from zoo.datasets import table_copies

NOBODY, STOCK = "none", "stock"


def check_peer_choice(settings: Settings) -> None:
    """What is wrong with the choice itself, whatever is measured. Raises ConfigurationError."""
    name, chosen = settings.peer.name, settings.peer.settings
    known = ", ".join(PEERS)
    if name == NOBODY:
        if settings.backend == PEER:
            raise ConfigurationError(f"backend={PEER} measures a package of other people: say which, peer={known}")
        if chosen != STOCK:
            raise ConfigurationError(f"peer.settings={chosen} without a peer: say which, peer={known}")
        return
    peer_named(name)
    if settings.scope == "train":
        raise ConfigurationError(f"scope=train peer={name}: peers are compared as they serve; leave peer out")
    planned = bool(settings.opt) or settings.plan is not None
    if settings.backend == PEER and planned:
        raise ConfigurationError(
            f"backend={PEER} peer={name}: a peer takes no optimizations of ours, its own are peer.settings=...; leave "
            f"opt and experiment out, or leave backend={PEER} out to compare your plan with it"
        )
    if settings.backend != PEER and not planned:
        raise ConfigurationError(
            f"peer={name}: there is no plan to compare with it; name optimizations (opt=[...] or experiment=best), or "
            f"say backend={PEER} to measure the peer itself"
        )


def peer_of(settings: Settings) -> dict[str, str]:
    """The peer's part of the trial, empty without one."""
    return {} if settings.peer.name == NOBODY else {"name": settings.peer.name, "settings": settings.peer.settings}


def require_comparable(trial: Trial) -> None:
    """Raises ConfigurationError where the trial's peer cannot be set so, serve its model, or be trained on its data."""
    name = trial.peer["name"]
    require_peer(name, trial.peer["settings"], trial.model, trial.device)
    if not peer_named(name).same_weights and table_copies(trial.dataset_options) > 1:
        raise ConfigurationError(
            f"peer={name} dataset.table_copies: it trains tables of its own, which copies of ours would not fit; leave "
            "table_copies out"
        )
