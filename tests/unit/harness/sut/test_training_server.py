"""A training under test that begins anew: what was there before is gone before the next one is opened."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from harness.sut import training_server
from harness.transport.channel import Channel


class CyclicSession:
    """A ``TrainSession`` that only the collector frees, as one whose layers know each other."""

    report: tuple[Mapping[str, Any], ...] = ()
    threads = 2
    samples = 7

    def __init__(self) -> None:
        self.itself = self

    def train(self, steps: int, at: int | None = None) -> int:
        return 10 * steps


class Opener:
    """Opens sessions; alive: at each opening, how many of those before it were still there."""

    def __init__(self) -> None:
        self.specs: list[Mapping[str, Any]] = []
        self.alive: list[int] = []
        self._opened: list[weakref.ref[CyclicSession]] = []

    def __call__(self, spec: Mapping[str, Any]) -> CyclicSession:
        self.specs.append(dict(spec))
        self.alive.append(sum(each() is not None for each in self._opened))
        session = CyclicSession()
        self._opened.append(weakref.ref(session))
        return session


@pytest.fixture
def unfrozen() -> Iterator[None]:
    """The server freezes what it has opened; that is this process here."""
    yield
    gc.unfreeze()


def test_a_training_anew_finds_the_memory_of_the_one_before_it_free(
    monkeypatch: pytest.MonkeyPatch, unfrozen: None
) -> None:
    opener, (ours, theirs) = Opener(), Channel.pair()
    monkeypatch.setattr(training_server, "opener", lambda spec: opener)
    monkeypatch.setattr(training_server, "channel_to_parent", lambda program: Channel(theirs))
    ours.send({"spec": {"plan": "this", "seed": 1}})
    orders = [{"command": "train", "steps": 3}, *({"command": "again", "changes": {"seed": n}} for n in (2, 3))]
    for order in [*orders, {"command": "train", "steps": 2}]:
        ours.send(order)
    ours.sock.shutdown(socket.SHUT_WR)
    training_server.main()
    answers = [ours.receive()[0] for _ in range(5)]
    assert answers[0] == {"ready": {"plan": [], "threads": 2, "samples": 7}}
    assert answers[1:] == [{"samples": count} for count in (30, 0, 0, 20)]
    assert opener.specs == [{"plan": "this", "seed": seed} for seed in (1, 2, 3)]
    assert opener.alive == [0, 0, 0]
