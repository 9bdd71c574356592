"""What the table of real processes counts."""

import math
from typing import Any

import pytest

from harness.calibrate.process_table import process_table


def _side(lbt: float, truth_log_se: float | None = 0.005) -> dict[str, Any]:
    return {"truth": 100.0, "truth_log_se": truth_log_se, "lbt": lbt, "ci": [lbt * 0.97, lbt * 1.03], "status": "ok"}


def _run(seed: int, ratio: float, *, steal: float = 0.001, null_p99_ms: float = 0.3) -> dict[str, Any]:
    """The candidate's estimate is off by the ratio, the baseline's by 1 %."""
    return {
        "cell": "md1", "seed": seed, "steal": steal, "null_p99_ms": null_p99_ms,
        "baseline": _side(101.0), "candidate": _side(101.0 * ratio),
        "ratio": {"value": ratio, "ci": [ratio - 0.03, ratio + 0.03]},
    }  # fmt: skip


def test_it_counts_what_holds_the_truth_and_what_excludes_one() -> None:
    text = process_table([_run(1, 1.05)])
    assert "| md1 | 1 | baseline | 100.0 ± 0.5% | 101.0 | +1.00% | [98.0, 104.0] | yes | ok |" in text
    assert "| md1 | 1 | 1.0500 | [1.020, 1.080] | no | 0.10% | 0.30 | yes |" in text
    assert "1 of 2 intervals hold the truth, 1 where its own error (median 0.50%) is allowed for" in text
    assert "; 1 of 1 ratios of a system to itself exclude 1. 1 runs" in text


def test_the_error_of_the_truth_is_allowed_for() -> None:
    """Estimate 6.05 % (in logs 5.87 %) too high, interval 3.05 % wide below: sqrt(3.05^2 + (1.96 se)^2) reaches it from
    se = 2.57 % on."""
    for log_se, held in ((0.0255, 0), (0.0258, 1)):
        run = _run(1, 1.05) | {"candidate": _side(106.05, log_se), "baseline": _side(106.05, None)}
        assert f"0 of 1 intervals hold the truth, {held} where its own error" in process_table([run])


@pytest.mark.parametrize("missing", ["ci", "truth_log_se"])
def test_a_side_without_interval_or_truth_is_not_counted(missing: str) -> None:
    """As where one gap in a hundred is longer than the limit, and the truth is 0."""
    lost = _side(101.0) | {"truth": 0.0, missing: None, "status": "unreachable"}
    text = process_table([_run(1, 1.0) | {"candidate": lost}])
    assert "1 of 1 intervals hold the truth" in text and "| | | | | unreachable |" in text.replace("  ", " ")


def test_it_says_whether_ratios_lean_to_a_side() -> None:
    """Student's t on three logs: mean 0.01, standard error 0.01 / sqrt(3), factor 4.3027 at two degrees of freedom."""
    text = process_table([_run(seed, math.exp(x)) for seed, x in enumerate((0.0, 0.01, 0.02))])
    half = 4.3027 * 0.01 / math.sqrt(3.0)
    low, high = math.exp(0.01 - half), math.exp(0.01 + half)
    assert f"their mean is {math.exp(0.01):.4f} [{low:.4f}, {high:.4f}]" in text


@pytest.mark.parametrize(("steal", "null_p99_ms"), [(0.005, 0.3), (0.001, 1.01)])
def test_quiet_runs_stand_apart(steal: float, null_p99_ms: float) -> None:
    text = process_table([_run(1, 1.0), _run(2, 1.04, steal=steal, null_p99_ms=null_p99_ms)])
    assert "1 runs on a quiet machine (steal below 0.5%, null p99 at most 1 ms): median error +1.00%." in text
    assert text.count("| yes |\n") - text.count("| ok | yes |\n") == 1
