"""One query in parts: while a thread computes the first of them, a second thread looks up the next ones."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np

from harness.sut.batching import cut_batch
from harness.sut.steps import Steps
from zoo.schema import Batch, Float32

Results = SimpleQueue[Any]
Span = tuple[int, int]
"""Samples [start, stop) of a batch."""
Orders = SimpleQueue[tuple[Batch, Span, Results] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipelined:
    """A query on its way: what was found for its first part; the other ``parts - 1`` come through ``others``."""

    first: Any
    others: Results
    parts: int


class PipelinedParts:
    """Two steps like those of ``steps``, for a batch that is cut into ``parts``, or one per sample if it has fewer.

    ``look_up`` does so for the first part, and has the others looked up in order by a second thread, which belongs to
    the calling one and ends with it. ``compute`` returns the scores in the batch's order, and raises what the second
    thread raised.
    """

    def __init__(self, steps: Steps, parts: int) -> None:
        self._steps, self._parts = steps, parts
        self._own = threading.local()

    def look_up(self, batch: Batch) -> Pipelined:
        """The first part's lookups, and those of the others under way."""
        others: Results = SimpleQueue()
        first, *rest = even_spans(len(batch), self._parts)
        if rest:
            orders = self._second_thread().orders
            for span in rest:
                orders.put((batch, span, others))
        return Pipelined(first=self._steps.look_up(part_of(batch, first)), others=others, parts=1 + len(rest))

    def compute(self, query: Pipelined) -> Float32:
        """Scores [N]."""
        scores = [self._steps.compute(query.first)]
        for _ in range(1, query.parts):
            found = query.others.get()
            if isinstance(found, BaseException):
                raise found
            scores.append(self._steps.compute(found))
        return scores[0] if query.parts == 1 else np.concatenate(scores)

    def _second_thread(self) -> SecondThread:
        """That of the calling thread, started at its first query of several parts."""
        found: SecondThread | None = getattr(self._own, "second", None)
        if found is None:
            self._own.second = found = SecondThread(self._steps.look_up)
        return found


def even_spans(samples: int, parts: int) -> list[Span]:
    """At most ``parts`` spans of as equal size as can be, in order; none is empty, unless there are no samples."""
    parts = max(1, min(parts, samples))
    return list(itertools.pairwise(samples * k // parts for k in range(parts + 1)))


def part_of(batch: Batch, span: Span) -> Batch:
    """The samples of ``span`` with their users; ``batch`` itself where that is all of them."""
    return batch if span == (0, len(batch)) else cut_batch(batch, *span)


class SecondThread:
    """Looks up what is put into ``orders``, one after another, until this object is gone (with its owning thread)."""

    def __init__(self, look_up: Callable[[Batch], Any]) -> None:
        self.orders: Orders = SimpleQueue()
        threading.Thread(target=_serve, args=(look_up, self.orders), daemon=True).start()
        weakref.finalize(self, self.orders.put, None)


def _serve(look_up: Callable[[Batch], Any], orders: Orders) -> None:
    # It waits without a deadline and never spins: frozen or idle, it uses no CPU time.
    while (order := orders.get()) is not None:
        batch, span, results = order
        try:
            results.put(look_up(part_of(batch, span)))
        except BaseException as error:  # whoever waits for the part must hear of it, whatever it is
            results.put(error)
