"""Weights of ranks, put together from the messages that they send."""

from __future__ import annotations

import socket
import threading

import numpy as np
import pytest

from harness.sut import rank_server, ranked_training
from harness.sut.rank_server import RankServer
from harness.sut.ranked_training import GatheredWeights
from harness.transport.channel import Channel
from optimizations.sharded_embedding.row_plan import own_rows


@pytest.mark.parametrize("ranks", [2, 3])
def test_tables_come_back_whole_in_parts_of_any_size(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One table is sent in parts of two rows and put together in a file; of the other one a third rank has no row."""
    monkeypatch.setattr(rank_server, "PART_BYTES", 2 * 5 * 4)
    monkeypatch.setattr(ranked_training, "LARGE_BYTES", 100)
    rng = np.random.default_rng(1)
    tables = {"long": rng.normal(size=(11, 5)).astype(np.float32), "short": rng.normal(size=(2, 3)).astype(np.float32)}
    others = {"bias": np.arange(4, dtype=np.float32), "steps": np.array([7])}
    found = GatheredWeights()
    for rank in range(ranks):
        ours, theirs = Channel.pair()
        server = RankServer(Channel(theirs), rank, ranks)
        server._rows = {name: len(table) for name, table in tables.items()}
        own = {name: table[list(own_rows(len(table), rank, ranks)) or [0]] for name, table in tables.items()}
        sending = threading.Thread(target=_send, args=(server, theirs, {**own, **others}))
        sending.start()
        while "samples" not in (received := ours.receive())[0]:
            found.take(*received)
        sending.join()
    assert isinstance(found.arrays["long"], np.memmap) and not isinstance(found.arrays["short"], np.memmap)
    for name, array in {**tables, **others}.items():
        assert np.array_equal(found.arrays[name], array), name


def _send(server: RankServer, theirs: socket.socket, weights: dict[str, np.ndarray]) -> None:
    server._sent(weights)
    Channel(theirs).send({"samples": 0})
