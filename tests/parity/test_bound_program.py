"""A program that is bound to memory scores the payloads there: the scores of its batches, or none at all."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from harness.transport.wire import HEADER, encode
from zoo.schema import Batch, Rows, Split

MODELS = ["wdl", "din", "dien", "dlrm"]
PLANS: list[dict[str, Any]] = [{"fusion": {}}, {"fusion": {}, "dedup": {}}, {"fusion": {}, "dedup": {}, "bf16": {}}]
ROOM, UNTOUCHED = 120, np.float32(-7.0)


class Memory:
    """A place for payloads and one for ``ROOM`` scores, and the session's score that is bound to them."""

    def __init__(self, session: Any, capacity: int = 1 << 20) -> None:
        self.payload, self.scores = np.zeros(capacity, np.uint8), np.full(ROOM, UNTOUCHED)
        self.score = session.bind(self.payload.data, self.scores[:100].data)

    def ask(self, payload: bytes) -> int:
        """Put the payload there and have it scored."""
        self.payload[: len(payload)] = np.frombuffer(payload, np.uint8)
        self.scores[:] = UNTOUCHED
        given: int = self.score(len(payload))
        return given


def batches(split: Split) -> Iterator[Batch]:
    """One user, several, and one user row per sample; nobody."""
    rng = np.random.default_rng(4)
    for samples in (1, 3, 16, 100):
        anyone = np.sort(rng.integers(0, len(split), samples))
        yield split.batch(np.arange(min(samples, int(split.groups[1]))))
        yield split.batch(anyone)
        yield split.training_batch(anyone)
    yield split.batch(np.arange(0))


@pytest.mark.parametrize("plan", PLANS, ids=",".join)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("data", ["every_column", "planted"])
def test_a_payload_gets_the_scores_of_its_batch_and_nothing_else_is_written(
    request: pytest.FixtureRequest, data: str, model: str, plan: dict[str, Any]
) -> None:
    served = request.getfixturevalue(data)(model)
    session = served.session(plan)
    memory = Memory(session)
    for batch in batches(served.split):
        assert memory.ask(encode(batch)) == len(batch)
        np.testing.assert_array_equal(memory.scores[: len(batch)], session.predict(batch))
        assert (memory.scores[len(batch) :] == UNTOUCHED).all()


def test_threads_score_side_by_side_in_memory_of_their_own(planted: Callable[[str], Any]) -> None:
    served = planted("dien")
    session = served.session({"fusion": {}, "dedup": {}})
    rng = np.random.default_rng(8)
    asked = [served.split.batch(np.sort(rng.integers(0, len(served.split), n))) for n in (1, 9, 40, 100)]
    memories = [Memory(session) for _ in asked]
    expected = [session.predict(batch) for batch in asked]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(12):
            given = list(pool.map(lambda memory, batch: memory.ask(encode(batch)), memories, asked))
            assert given == [len(batch) for batch in asked]
            for memory, scores in zip(memories, expected, strict=True):
                np.testing.assert_array_equal(memory.scores[: len(scores)], scores)


def _other_columns(batch: Batch) -> Iterator[Batch]:
    """One column of one kind less, and where the count has to be just that, one more."""
    user, item = batch.user, batch.item
    yield dataclasses.replace(batch, user=dataclasses.replace(user, dense=user.dense[:, 1:].copy()))
    yield dataclasses.replace(batch, item=dataclasses.replace(item, ids=item.ids[:, 1:].copy()))
    yield dataclasses.replace(batch, history=batch.history[:, 1:].copy())
    yield dataclasses.replace(batch, history=np.repeat(batch.history, 2, axis=1))
    for side, rows in (("user", user), ("item", item)):
        for bags in (rows.bags_per_row - 1, rows.bags_per_row + 1):
            offsets = np.zeros(len(rows) * bags + 1, np.int64)
            yield dataclasses.replace(batch, **{side: Rows(rows.dense, rows.ids, rows.bag_values[:0], offsets)})


@pytest.mark.parametrize("model", ["din", "wdl"])
def test_columns_of_another_schema_get_no_scores_and_are_named_by_predict(
    every_column: Callable[[str], Any], model: str
) -> None:
    served = every_column(model)
    session = served.session({"fusion": {}})
    memory = Memory(session)
    changed = list(_other_columns(served.split.batch(np.arange(5))))
    assert len(changed) == 8
    for batch in changed:
        assert memory.ask(encode(batch)) < 0
        with pytest.raises(ValueError, match="other columns than the schema"):
            session.predict(batch)


def test_more_columns_at_the_end_are_not_read(every_column: Callable[[str], Any]) -> None:
    served = every_column("dien")
    batch = served.split.batch(np.arange(40))
    memory = Memory(served.session({"fusion": {}}))
    memory.ask(encode(batch))
    before = memory.scores.copy()
    wider = dataclasses.replace(batch.item, ids=np.pad(batch.item.ids, ((0, 0), (0, 2)), constant_values=5))
    assert memory.ask(encode(dataclasses.replace(batch, item=wider))) == 40
    np.testing.assert_array_equal(memory.scores, before)


def test_no_scores_for_an_id_outside_its_table_or_without_room(every_column: Callable[[str], Any]) -> None:
    served = every_column("din")
    memory = Memory(served.session({"fusion": {}}))
    assert memory.ask(encode(served.split.batch(np.arange(100)))) == 100
    assert memory.ask(encode(served.split.batch(np.arange(101)))) < 0
    assert (memory.scores == UNTOUCHED).all()
    batch = served.split.batch(np.arange(20))
    batch.item.ids[13, 1] = 9  # category is not hashed and has 9 rows
    assert memory.ask(encode(batch)) < 0


def test_what_is_damaged_gets_no_scores(every_column: Callable[[str], Any]) -> None:
    served = every_column("din")
    memory = Memory(served.session({"fusion": {}}))
    payload = encode(served.split.batch(np.arange(11)))
    fields = HEADER.unpack_from(payload)
    for at, value in itertools.product(range(len(fields)), (-1, 0, 10**6, 1 << 50)):
        if fields[at] != value:
            damaged = HEADER.pack(*fields[:at], value, *fields[at + 1 :]) + payload[HEADER.size :]
            assert memory.ask(damaged) < 0
    small = Memory(served.session({"fusion": {}}), len(payload) - 1)
    small.payload[:] = np.frombuffer(payload, np.uint8)[:-1]
    assert small.score(len(payload)) < 0 and small.score(len(payload) - 1) < 0


@pytest.mark.parametrize("opts", [{}, {"fusion": {"program": False}}])
def test_without_a_program_there_is_nothing_to_bind(planted: Callable[[str], Any], opts: dict[str, Any]) -> None:
    assert planted("din").session(opts).bind is None
    assert planted("din").session({"fusion": {}}).bind is not None
