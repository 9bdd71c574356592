"""From raw answers and quads to gate, ratio and validity."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.measurement.evidence import Answers
from harness.measurement.gate import allowed_deviation, gate_result
from harness.measurement.outcome import _allowed, validity_of
from harness.measurement.ratio import _lbt_ratio
from harness.record.jsonable import from_plain, to_plain
from harness.record.result import GateResult, PlanLine
from zoo.schema import Float32

SAMPLES = 4000


def _labels_and_scores() -> tuple[Float32, Float32]:
    rng = np.random.default_rng(11)
    scores = rng.uniform(0.05, 0.95, SAMPLES)
    return (rng.uniform(size=SAMPLES) < scores).astype(np.float32), scores.astype(np.float32)


def _answers(scores: Float32) -> dict[str, Answers]:
    return {"baseline": Answers.of(scores), "candidate": Answers.of(scores.copy())}


def test_equal_answers_pass_with_a_difference_of_zero() -> None:
    labels, scores = _labels_and_scores()
    answers = _answers(scores)
    answers["candidate"].note(np.arange(100), scores[:100])
    result = gate_result(labels, answers, ("fp32",), None)
    assert (result.verdict, result.timed_answers, result.reasons) == ("pass", "pass", ())
    assert result.auc_delta == 0.0
    assert result.pcoc_ratio == 1.0
    assert result.timed_deviation == 0.0


@pytest.mark.parametrize(
    ("dtype", "shift", "verdict"), [("fp32", 2e-6, "fail"), ("bf16", 3e-3, "pass"), ("bf16", 5e-3, "fail")]
)
def test_timed_answers_are_held_to_the_tolerance_of_the_plan(dtype: str, shift: float, verdict: str) -> None:
    labels, scores = _labels_and_scores()
    answers = _answers(scores)
    timed = scores[:50].copy()
    timed[7] += np.float32(shift)
    answers["candidate"].note(np.arange(50), timed)
    result = gate_result(labels, answers, ("fp32", dtype), None)
    assert result.timed_answers == verdict
    assert result.verdict == verdict
    assert result.timed_deviation == pytest.approx(shift, rel=0.05)


def test_a_model_of_its_own_is_held_to_its_auc_and_to_its_own_answers() -> None:
    labels, scores = _labels_and_scores()
    answers = _answers(scores)
    answers["candidate"] = Answers.of(scores**2)
    answers["candidate"].note(np.arange(SAMPLES), scores**2)
    assert gate_result(labels, answers, ("fp32",), None).verdict == "fail"
    result = gate_result(labels, answers, ("fp32",), None, same_weights=False)
    assert (result.verdict, result.same_weights, result.margin) == ("pass", False, 0.002)
    answers["candidate"].note(np.arange(3), scores[:3])
    assert gate_result(labels, answers, ("fp32",), None, same_weights=False).timed_answers == "fail"


def test_cheap_timed_answers_fail_though_the_accuracy_run_was_perfect() -> None:
    labels, scores = _labels_and_scores()
    answers = _answers(scores)
    answers["candidate"].note(np.arange(SAMPLES), np.full(SAMPLES, scores.mean(), np.float32))
    result = gate_result(labels, answers, ("fp32",), None)
    assert result.verdict == "fail"
    assert any(reason.startswith("timed answers: AUC") for reason in result.reasons)


def test_a_model_that_fails_and_answers_the_same_under_load_fails_for_its_accuracy_alone() -> None:
    """Its timed answers are those of the accuracy run but for rounding, which moves the last digit of a reason."""
    labels, scores = _labels_and_scores()
    worse = np.roll(scores, 1)
    answers = {"baseline": Answers.of(scores), "candidate": Answers.of(worse)}
    answers["candidate"].note(np.arange(SAMPLES), worse * np.float32(1 + 2e-7))
    result = gate_result(labels, answers, ("fp32",), None)
    assert (result.verdict, result.timed_answers) == ("fail", "pass")
    assert result.reasons and not any(reason.startswith("timed answers") for reason in result.reasons)


def _line(division: str, declared: float | None) -> PlanLine:
    return PlanLine(name="x", phase="GRAPH", claims=(), division=division, emulated=False, score_tolerance=declared)


def test_a_closed_plan_is_held_to_the_scores_that_it_declares() -> None:
    """One sample of 4,000 moves by 0.002, which no AUC sees: the model is another one for it."""
    labels, scores = _labels_and_scores()
    answers = _answers(scores)
    answers["candidate"].accuracy[17] += np.float32(2e-3)
    answers["candidate"].note(np.arange(10), scores[:10])
    closed = allowed_deviation([_line("closed", 1e-5), _line("closed", 1e-3)])
    result = gate_result(labels, answers, ("fp32",), closed)
    assert (result.verdict, result.score_tolerance) == ("fail", 1e-3)
    assert result.score_deviation == pytest.approx(2e-3, rel=1e-3)
    assert result.auc_delta == pytest.approx(0.0, abs=1e-6)
    assert result.reasons[0].startswith("a score is 0.002 from the baseline's")
    wider = gate_result(labels, answers, ("fp32",), allowed_deviation([_line("closed", 4e-3)]))
    assert wider.verdict == "pass" and wider.score_deviation == result.score_deviation


@pytest.mark.parametrize("other", [("open", 1e-3), ("closed", None)], ids=["open", "a record that does not tell"])
def test_of_other_plans_no_score_is_judged(other: tuple[str, float | None]) -> None:
    labels, scores = _labels_and_scores()
    answers = _answers(scores)
    answers["candidate"].accuracy[17] += np.float32(0.1)
    answers["candidate"].note(np.arange(10), scores[:10])
    allowed = allowed_deviation([_line("closed", 1e-5), _line(*other)])
    result = gate_result(labels, answers, ("fp32",), allowed)
    assert (result.verdict, result.score_deviation, result.score_tolerance) == ("pass", None, None)


def test_an_open_plan_that_knows_more_than_the_weights_fails_unless_the_baseline_is_rounded() -> None:
    """Half of the baseline's scores are shuffled: what the candidate has right of them is no rounding."""
    labels, scores = _labels_and_scores()
    answers = _answers(scores)
    shuffled = scores.copy()
    shuffled[::2] = np.random.default_rng(1).permutation(scores[::2])
    answers["baseline"] = Answers.of(shuffled)
    answers["candidate"].note(np.arange(SAMPLES), scores)
    result = gate_result(labels, answers, ("int8",), None)
    assert result.verdict == "fail" and result.reasons == (
        f"AUC rises by {result.auc_delta_ci[0]:.5f} or more, margin 0.001: the same weights predict no better",
    )
    assert gate_result(labels, answers, ("int8",), None, exact_baseline=False).verdict == "pass"


@pytest.mark.parametrize(
    ("status", "quads", "reason"),
    [
        ("undetermined", 1, "one quad, where a measurement takes at least 6: the LBT of the candidate is undetermined"),
        ("undetermined", 6, "the LBT of the candidate is undetermined"),
        ("unreachable", 1, "the LBT of the candidate is unreachable"),
    ],
)
def test_an_lbt_that_few_quads_leave_open_is_said_to_be_so_for_that(status: str, quads: int, reason: str) -> None:
    sides: Any = {
        "baseline": SimpleNamespace(lbt_qps=50.0, status="ok"),
        "candidate": SimpleNamespace(lbt_qps=None, status=status),
    }
    assert _lbt_ratio(sides, quads) == (None, None, None, reason)


def test_no_timed_answer_is_no_pass() -> None:
    labels, scores = _labels_and_scores()
    assert gate_result(labels, _answers(scores), ("fp32",), None).timed_answers == "fail"


def test_scores_that_are_no_numbers_leave_a_verdict_that_can_be_read_back() -> None:
    labels, scores = _labels_and_scores()
    answers = _answers(scores)
    answers["candidate"].accuracy[17] = np.nan
    answers["candidate"].note(np.arange(100), scores[:100])
    written = json.loads(json.dumps(to_plain(gate_result(labels, answers, ("fp32",), None)), allow_nan=False))
    read = from_plain(GateResult, written)
    assert (read.verdict, read.auc_delta, read.auc_delta_ci, read.logloss_delta_ci) == ("fail", None, None, None)
    assert read.reasons[0] == "1 of 4000 scores are not finite numbers"


def test_a_void_quad_leaves_and_too_many_mark_the_host() -> None:
    one: dict[int, tuple[str, ...]] = {0: (), 1: ("steal",), 2: (), 3: ()}
    validity, kept = validity_of(one, 4, [])
    assert (validity.verdict, validity.voided_quads, kept) == ("valid", 1, (0, 2, 3))
    two: dict[int, tuple[str, ...]] = {0: (), 1: ("steal",), 2: ("null",), 3: ()}
    validity, kept = validity_of(two, 4, [])
    assert (validity.verdict, validity.voided_quads, kept) == ("noisy_host", 2, (0, 1, 2, 3))
    assert validity.reasons == ("quad 1: steal", "quad 2: null")


@pytest.mark.parametrize("reasons", [(), ("steal",)])
def test_a_frozen_side_that_ran_voids_the_result_however_quiet_the_host_was(reasons: tuple[str, ...]) -> None:
    validity, _ = validity_of({0: reasons, 1: reasons}, 2, ["it ran"])
    assert validity.verdict == "void"
    assert validity.reasons[-1] == "it ran"


@pytest.mark.parametrize(
    ("side", "name", "dtype", "allowed"),
    [
        (None, "", "fp32", 1e-3),
        ("candidate", "ort_stock", "fp32", 1e-3),
        ("baseline", "ort_stock", "fp32", 1e-3 + 1e-5),
        ("baseline", "openvino_stock", "bf16", None),
        ("baseline", "deepctr_torch", "fp32", None),
    ],
)
def test_what_a_peer_in_the_place_of_the_baseline_has_moved_is_not_held_against_the_plan(
    side: str | None, name: str, dtype: str, allowed: float | None
) -> None:
    trial = SimpleNamespace(peer_side=side, peer={"name": name, "settings": "best"} if name else {})
    seen: Any = SimpleNamespace(trial=trial, allowed=1e-3, facts={"baseline": SimpleNamespace(dtypes=(dtype,))})
    assert _allowed(seen) == allowed
    seen.allowed = None
    assert _allowed(seen) is None
