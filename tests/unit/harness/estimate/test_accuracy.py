"""AUC, DeLong, logloss, PCOC and the gate against naive loops, sklearn and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from harness.estimate.accuracy import (
    answer_tolerance,
    auc,
    delong_paired,
    gate,
    labelled,
    logloss,
    logloss_delta,
    pcoc,
    timed_answers,
)


def _click_data(n: int, seed: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and two correlated score columns in (0, 1)."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1.5, 1.0, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
    a, b = (1 / (1 + np.exp(-(logit + rng.normal(0, noise, n)))) for _ in range(2))
    return labels, a.astype(np.float32), b.astype(np.float32)


def _naive_delong(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """AUCs and standard error of their difference from the full matrix of pairs (DeLong 1988, eq. 4 to 6)."""
    columns = []
    for score in (a, b):
        pairs = score[labels == 1][:, None] - score[labels == 0][None, :]
        kernel = (pairs > 0) + 0.5 * (pairs == 0)
        columns.append((kernel.mean(), kernel.mean(axis=1), kernel.mean(axis=0)))
    (auc_a, v10_a, v01_a), (auc_b, v10_b, v01_b) = columns
    s10, s01 = np.cov(v10_a, v10_b), np.cov(v01_a, v01_b)
    s = s10 / len(v10_a) + s01 / len(v01_a)
    return auc_a, auc_b, math.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])


@pytest.mark.parametrize("digits", [1, 2, 7])
def test_auc_equals_sklearn_with_and_without_ties(digits: int) -> None:
    labels, a, _ = _click_data(3000, 1)
    a = np.round(a, digits)
    assert auc(labels, a) == pytest.approx(metrics.roc_auc_score(labels, a), abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40))
@settings(max_examples=200)
def test_auc_is_the_share_of_ordered_pairs(rows: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows], float)
    positives, negatives = scores[labels == 1], scores[labels == 0]
    if not len(positives) or not len(negatives):
        with pytest.raises(ValueError, match="both classes"):
            auc(labels, scores)
        return
    wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    assert auc(labels, scores) == pytest.approx(wins / (len(positives) * len(negatives)), abs=1e-12)


@pytest.mark.parametrize("digits", [1, 7])
def test_delong_equals_the_matrix_of_all_pairs(digits: int) -> None:
    labels, a, b = _click_data(700, 2)
    a, b = np.round(a, digits), np.round(b, digits)
    expected = _naive_delong(labels, a, b)
    got = delong_paired(labels, a, b)
    assert (got.auc_a, got.auc_b, got.se) == pytest.approx(expected, rel=1e-10)
    assert got.ci == pytest.approx((got.delta - 1.959964 * got.se, got.delta + 1.959964 * got.se), abs=1e-8)


def test_delong_interval_covers_the_true_difference() -> None:
    """Two equally good scorers: the true difference is 0. 95 % of 600 within 4 binomial standard errors."""
    inside = sum(
        ci[0] <= 0.0 <= ci[1] for ci in (delong_paired(*_click_data(600, 100 + seed)).ci for seed in range(600))
    )
    assert abs(inside / 600 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 600)


def test_identical_scores_have_no_difference_and_no_error() -> None:
    labels, a, _ = _click_data(500, 3)
    got = delong_paired(labels, a, a)
    assert (got.delta, got.se, got.ci) == (0.0, 0.0, (0.0, 0.0))


def test_logloss_and_its_paired_interval() -> None:
    labels, a, b = _click_data(4000, 4)
    assert logloss(labels, a) == pytest.approx(metrics.log_loss(labels, a.astype(np.float64)), rel=1e-9)
    per_sample = [-(y * math.log(q) + (1 - y) * math.log(1 - q)) for y, q in zip(labels, b.astype(float), strict=True)]
    base = [-(y * math.log(q) + (1 - y) * math.log(1 - q)) for y, q in zip(labels, a.astype(float), strict=True)]
    d = np.array(per_sample) - np.array(base)
    low, high = logloss_delta(labels, a, b)
    assert (low + high) / 2 == pytest.approx(d.mean(), rel=1e-9)
    assert (high - low) / 2 == pytest.approx(1.959964 * d.std(ddof=1) / math.sqrt(len(d)), rel=1e-6)


def test_logloss_clips_certain_predictions() -> None:
    assert logloss(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(-math.log(1e-7), rel=1e-9)


def test_pcoc_is_predicted_over_observed() -> None:
    assert pcoc(np.array([1.0, 0.0, 0.0, 1.0]), np.array([0.25, 0.25, 0.25, 0.5])) == pytest.approx(1.25 / 2, rel=1e-7)


def test_unlabelled_samples_are_dropped_everywhere() -> None:
    labels, a, b = _click_data(900, 5)
    holed = labels.copy()
    holed[::3] = np.nan
    keep = ~np.isnan(holed)
    assert delong_paired(holed, a, b) == delong_paired(labels[keep], a[keep], b[keep])
    assert labelled(holed, a)[0].dtype == np.int64
    assert gate(holed, a, b) == gate(labels[keep], a[keep], b[keep])


def test_labels_must_be_clicks_and_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="0, 1 or NaN"):
        auc(np.array([0.0, 2.0]), np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match="one length"):
        auc(np.array([0.0, 1.0]), np.array([0.1]))


def test_gate_passes_equal_scores_with_zero_differences() -> None:
    labels, a, _ = _click_data(5000, 6)
    got = gate(labels, a, a)
    assert (got.verdict, got.auc_delta, got.auc_delta_ci, got.pcoc_ratio, got.reasons) == ("pass", 0, (0, 0), 1, ())


def test_gate_fails_on_auc_alone_when_the_interval_reaches_the_margin() -> None:
    """A small sample of two equally good scorers cannot exclude a loss of 0.001."""
    labels, a, b = _click_data(400, 7)
    b = b * np.float32(a.mean() / b.mean())
    got = gate(labels, a, b)
    assert got.verdict == "fail" and got.auc_delta_ci[0] < -0.001
    assert any("AUC" in reason for reason in got.reasons)


def test_gate_fails_on_calibration_alone() -> None:
    """Multiplying every score by 1.006 keeps each order (AUC), and the logloss within its margin."""
    labels, a, _ = _click_data(50_000, 8)
    got = gate(labels, a, a * np.float32(1.006))
    assert got.auc_delta == pytest.approx(0.0, abs=1e-6)
    assert got.pcoc_ratio == pytest.approx(1.006, abs=1e-5)
    assert got.verdict == "fail" and len(got.reasons) == 1 and "mean prediction" in got.reasons[0]
    assert gate(labels, a, a * np.float32(1.004)).verdict == "pass"


def test_gate_fails_on_logloss_alone() -> None:
    """Sharpening around the mean keeps AUC and, after rescaling, PCOC; only the logloss tells."""
    labels, a, _ = _click_data(50_000, 9)
    logit = np.log(a / (1 - a)) * 1.5
    sharp = 1 / (1 + np.exp(-logit))
    sharp = (sharp * a.mean() / sharp.mean()).astype(np.float32)
    got = gate(labels, a, sharp)
    assert got.verdict == "fail" and len(got.reasons) == 1 and "logloss" in got.reasons[0]


def test_of_two_models_that_were_trained_apart_the_auc_alone_is_judged() -> None:
    """A power of every score keeps the AUC and spoils the rest; half the samples shuffled cost far more than 0.002."""
    labels, a, _ = _click_data(50_000, 9)
    other = a**2
    both = gate(labels, a, other), gate(labels, a, other, same_weights=False)
    assert [got.verdict for got in both] == ["fail", "pass"] and both[1].margin == 0.002 and both[1].reasons == ()
    assert both[0].pcoc_ratio == both[1].pcoc_ratio < 0.9 and both[0].auc_delta_ci == both[1].auc_delta_ci
    worse = a.copy()
    worse[::2] = np.random.default_rng(3).permutation(worse[::2])
    got = gate(labels, a, worse, same_weights=False)
    assert got.verdict == "fail" and len(got.reasons) == 1 and "margin 0.002" in got.reasons[0]
    assert gate(labels, worse, a, same_weights=False).verdict == "pass"


def test_a_loss_between_the_two_margins_passes_only_between_models_of_their_own() -> None:
    """Moving a share s of the scores to the wrong end costs AUC in proportion: -0.0015 lies between the margins."""
    labels, a, _ = _click_data(100_000, 12)
    harmed, rng = a.copy(), np.random.default_rng(4)
    lost = 0.0
    while lost > -0.0012:
        chosen = rng.choice(len(a), 40, replace=False)
        harmed[chosen] = rng.permutation(harmed[chosen])
        lost = auc(labels, harmed) - auc(labels, a)
    assert gate(labels, a, harmed).auc_delta_ci[0] > -0.002
    assert gate(labels, a, harmed).verdict == "fail"
    assert gate(labels, a, harmed, same_weights=False).verdict == "pass"


def test_gate_fails_on_a_gain_that_the_same_weights_cannot_have() -> None:
    """The better scores are the true ones, the worse ones some of them permuted, so PCOC and logloss are fine."""
    labels, a, _ = _click_data(50_000, 13)
    worse = a.copy()
    worse[:2000] = np.random.default_rng(5).permutation(worse[:2000])
    gain = metrics.roc_auc_score(labels, a) - metrics.roc_auc_score(labels, worse)
    got = gate(labels, worse, a)
    assert gain > 0.003 and got.auc_delta == pytest.approx(gain, abs=1e-9) and got.auc_delta_ci[0] > 0.001
    assert got.verdict == "fail" and len(got.reasons) == 1
    assert got.reasons[0].startswith(f"AUC rises by {got.auc_delta_ci[0]:.5f} or more")
    assert gate(labels, worse, a, exact_baseline=False).verdict == "pass"
    assert gate(labels, worse, a, same_weights=False).verdict == "pass"


def test_gate_fails_on_scores_that_were_nudged_towards_the_labels() -> None:
    """By 0.004 each, which bfloat16 is allowed."""
    labels, a, _ = _click_data(50_000, 14)
    nudged = a + np.float32(0.004) * np.where(labels == 1, 1, -1).astype(np.float32)
    nudged *= np.float32(a.mean() / nudged.mean())
    got = gate(labels, a, nudged)
    assert np.abs(nudged - a).max() < 0.02 and any(reason.startswith("AUC rises") for reason in got.reasons)


@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([32, 256]))
@settings(max_examples=20, deadline=None)
def test_rounding_is_never_a_gain(seed: int, levels: int) -> None:
    """Logits on so many levels, as of integers with one scale."""
    labels, a, _ = _click_data(4000, seed)
    logit = np.log(a / (1 - a))
    step = (logit.max() - logit.min()) / levels
    rounded = (1 / (1 + np.exp(-np.round(logit / step) * step))).astype(np.float32)
    assert not any(reason.startswith("AUC rises") for reason in gate(labels, a, rounded).reasons)


def test_gate_fails_on_scores_that_are_no_numbers() -> None:
    labels, a, b = _click_data(300, 10)
    b[5] = np.nan
    got = gate(labels, a, b)
    assert got.verdict == "fail" and got.reasons == ("1 of 300 scores are not finite numbers",)


@pytest.mark.parametrize(
    ("dtypes", "tolerance"), [([], 1e-6), (["fp32"], 1e-6), (["fp32", "bf16"], 4e-3), (["int8", "tf32"], 5e-3)]
)
def test_answer_tolerance_is_that_of_the_loosest_dtype(dtypes: list[str], tolerance: float) -> None:
    assert answer_tolerance(dtypes) == tolerance


def test_answer_tolerance_refuses_an_unknown_dtype() -> None:
    with pytest.raises(ValueError, match="fp13"):
        answer_tolerance(["fp13"])


def test_timed_answers_report_the_largest_deviation() -> None:
    reference = np.array([0.1, 0.2, 0.3, 0.4])
    got = timed_answers(reference, reference + np.array([0.0, 5e-7, -3e-6, 2e-6]), 1e-6)
    assert (got.verdict, got.compared, got.beyond) == ("fail", 4, 2)
    assert got.largest == pytest.approx(3e-6, rel=1e-6)
    assert timed_answers(reference, reference + 9e-7, 1e-6).verdict == "pass"


def test_timed_answers_fail_on_no_number_and_on_no_answer() -> None:
    got = timed_answers(np.array([0.1, 0.2]), np.array([0.1, np.nan]), 1.0)
    assert (got.verdict, got.beyond, got.largest) == ("fail", 1, math.inf)
    assert timed_answers(np.empty(0), np.empty(0), 1.0).verdict == "fail"
