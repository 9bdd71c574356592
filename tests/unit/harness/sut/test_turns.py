"""Turns: first in, first out, as many at a time as there are workers; a free thread goes on with prepared work."""

from __future__ import annotations

import threading

import pytest

from harness.clock import sleep_s
from harness.sut.turns import Turns


class Waiting:
    """A thread that claims ``turn`` with ``work``."""

    def __init__(self, turns: Turns[str], work: str) -> None:
        self.turn, self.claimed = turns.queue_up(), list[int | None]()
        self.thread = threading.Thread(target=lambda: self.claimed.append(turns.claim(self.turn, work)), daemon=True)

    def start(self) -> None:
        self.thread.start()
        for _ in range(1000):
            if self.turn.left is not None or self.claimed:
                return
            sleep_s(0.001)

    def end(self) -> list[int | None]:
        self.thread.join(5.0)
        return self.claimed


@pytest.mark.parametrize("workers", [1, 3])
def test_who_finds_a_worker_free_has_it_at_once(workers: int) -> None:
    turns: Turns[str] = Turns(workers)
    given = [turns.claim(turns.queue_up(), "work") for _ in range(workers)]
    assert given == list(range(workers))
    assert turns.go_on(given[-1]) is None
    assert turns.claim(turns.queue_up(), "work") == given[-1]


def test_prepared_work_is_taken_over_in_the_order_of_taking() -> None:
    turns: Turns[str] = Turns(1)
    worker = turns.claim(turns.queue_up(), "first")
    second, third = Waiting(turns, "second"), Waiting(turns, "third")
    third.start()
    second.start()
    assert second.claimed == third.claimed == []
    assert worker == 0
    assert [turns.go_on(worker), turns.go_on(worker), turns.go_on(worker)] == ["second", "third", None]
    assert second.end() == third.end() == [None]


def test_work_that_is_not_prepared_keeps_its_place_and_its_thread() -> None:
    turns: Turns[str] = Turns(1)
    worker = turns.claim(turns.queue_up(), "first")
    second, third = Waiting(turns, "second"), Waiting(turns, "third")
    third.start()
    assert worker == 0 and turns.go_on(worker) is None
    second.start()
    assert second.end() == [0] and third.claimed == []
    assert turns.go_on(0) == "third"
    assert third.end() == [None]
