"""Which samples are asked as new and as known ones, and what two sides' times on them say."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.measurement.new_queries import FEWEST, LARGEST_SIZE, ask_new_and_known
from harness.record.new_queries import KNOWN, NEW, ROUNDS, WARM_UP, gains_on, mean_gain
from harness.record.result import Ratio, SegmentInfo
from harness.record.segments import SegmentRows
from zoo.schema import Split

MS = 1_000_000


def groups_of(lengths: list[int]) -> Any:
    return SimpleNamespace(groups=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def asked_by(test: list[int], valid: list[int] | None, service_ms: float = 3.0) -> list[tuple[Any, ...]]:
    """(side, whether test samples, purpose, trace, samples, sizes) of each segment."""
    found: list[tuple[Any, ...]] = []
    split, unseen = groups_of(test), None if valid is None else groups_of(valid)

    def ask(side: str, of: Split, queries: Any, purpose: str, trace: int, seconds: float) -> None:
        found.append((side, of is split, purpose, trace, queries.samples.tolist(), set(queries.sizes.tolist())))

    service = SimpleNamespace(by_size={LARGEST_SIZE: np.full(5, service_ms * MS)})
    sides: Any = [SimpleNamespace(name=name, service=service) for name in ("baseline", "candidate")]
    bench: Any = SimpleNamespace(split=split, unseen=unseen, observer=Mock(), ask=ask)
    ask_new_and_known(bench, sides)
    return found


@given(
    test=st.lists(st.integers(1, 120), min_size=80, max_size=150),
    valid=st.lists(st.integers(1, 40), min_size=80, max_size=150),
    service_ms=st.floats(0.1, 50),
)
@settings(max_examples=40)
def test_new_samples_are_asked_once_and_the_sides_are_asked_alike(
    test: list[int], valid: list[int], service_ms: float
) -> None:
    found = asked_by(test, valid, service_ms)
    half = len(found) // 2
    assert [segment[1:] for segment in found[:half]] == [segment[1:] for segment in found[half:]]
    assert {segment[0] for segment in found[:half]} == {"baseline"}
    new = [sample for _, known, purpose, _, samples, _ in found[:half] if purpose == NEW for sample in samples]
    assert len(set(new)) == len(new) and max(new) < sum(valid)
    assert {(known, purpose) for _, known, purpose, *_ in found} == {(True, KNOWN), (False, NEW)}
    ((size,),) = {tuple(sizes) for *_, sizes in found}
    assert 1 <= size <= min(LARGEST_SIZE, np.median(test), np.median(valid))
    assert len({len(samples) for *_, samples, _ in found}) == 1 and len(new) >= ROUNDS * FEWEST * size
    starts = set(np.concatenate([[0], np.cumsum(valid)]).tolist())
    assert set(new[::size]) <= starts
    drift = [purpose for _, _, purpose, trace, *_ in found[1:half]]
    assert drift == [NEW, KNOWN, KNOWN, NEW] * (ROUNDS // 2)


def test_nothing_is_asked_of_splits_that_are_too_small() -> None:
    few, enough = [20] * (ROUNDS * FEWEST - 1), [20] * (ROUNDS * FEWEST)
    assert asked_by([100] * 40, few) == asked_by(few, [20] * 40) == asked_by([100] * 40, None) == []
    assert len(asked_by([100] * 40, enough)) == 2 * (1 + 2 * ROUNDS)


def rows(side: str, purpose: str, trace: int, times_ms: list[float], lost: int = -1) -> SegmentRows:
    count = len(times_ms)
    info = SegmentInfo(side=side, segment=0, purpose=purpose, offered_qps=None, counted_from_ns=0, counted_to_ns=1,
                       queries=0, late=0, trace=trace)  # fmt: skip
    status = np.where(np.arange(count) == lost, 3, 0)
    done = (np.array(times_ms) * MS).astype(np.int64)
    return SegmentRows(info=info, columns={"status": status, "sent_ns": np.zeros(count, np.int64), "done_ns": done})


def test_gains_are_medians_of_pairs_round_by_round() -> None:
    """Ratios 2, 2, 8 (median 2), and where one was not answered 8, 8: with two rounds of 4, together 4."""
    both = [
        rows("baseline", NEW, 0, [4.0, 10.0, 8.0]),
        rows("candidate", NEW, 0, [2.0, 5.0, 1.0]),
        rows("baseline", NEW, 1, [8.0, 1.0, 16.0]),
        rows("candidate", NEW, 1, [1.0, 9.0, 2.0], lost=1),
        *(rows("baseline", NEW, trace, [4.0]) for trace in (2, 3)),
        *(rows("candidate", NEW, trace, [1.0]) for trace in (2, 3)),
        rows("candidate", KNOWN, 0, [1.0]),
        rows("baseline", NEW, WARM_UP, [100.0]),
        rows("candidate", NEW, WARM_UP, [1.0]),
    ]
    gains = gains_on(both, NEW, ("baseline", "candidate"))
    assert gains == pytest.approx((2.0, 8.0, 4.0, 4.0), rel=1e-12)
    assert mean_gain(gains) == pytest.approx(4.0, rel=1e-12)
    assert gains_on(both, KNOWN, ("baseline", "candidate")) == () and mean_gain(()) is None
    assert gains_on(both[:6], NEW, ("baseline", "candidate")) == ()  # a round is missing


DOUBTS = (
    ((2.1, 5.0, 9.0, 2.1), "candidate"),
    ((2.1, 5.0, 9.0, 1.9), ""),
    ((0.4, 0.1, 0.49, 0.3), "baseline"),
    ((0.4, 0.1, 0.6, 0.3), ""),
    ((9.0, 0.1, 9.0, 9.0), ""),
    ((), ""),
)


@pytest.mark.parametrize(("quotients", "who"), DOUBTS)
def test_only_a_large_difference_in_every_round_is_doubted(quotients: tuple[float, ...], who: str) -> None:
    known = mean_gain([2.0 * quotient for quotient in quotients])
    ratio = Ratio(
        lbt=None, lbt_ci=None, service=None, offline=None, service_new=2.0, service_known=known,
        known_over_new=quotients,
    )  # fmt: skip
    assert bool(ratio.doubt) == bool(who) and (not who or f"the {who} may remember" in ratio.doubt)
    assert dataclasses.replace(ratio, service_new=None).doubt == ""
