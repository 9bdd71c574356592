"""Ten tampered records, each refused with its own reason; the untouched one passes."""

from __future__ import annotations

import numpy as np
import pytest

from harness.trial import trial_id_of
from leaderboard.verify import verify


def changed_number(edit):
    """The candidate's LBT, its interval and the ratio, 10 % better and consistent with each other."""

    def change(result):
        for block, key in (("candidate", "lbt_qps"), ("ratio", "lbt")):
            result[block][key] *= 1.1
        for block in ("candidate", "ratio"):
            result[block]["lbt_ci"] = [1.1 * end for end in result[block]["lbt_ci"]]

    edit.json("result.json", change)


def dropped_queries(edit):
    """Every late query of the candidate goes."""

    def change(queries):
        late = (queries["done_ns"] - queries["planned_ns"] > 40_000_000) & (queries["side"] == "candidate")
        return {name: column[~late] for name, column in queries.items()}

    edit.columns("queries.parquet", change)


def edited_trace(edit):
    """What was late in one refined segment was planned a little later, so that it is not late any more."""
    result = edit.read("result.json")
    late = next(s["segment"] for s in result["segments"] if s["purpose"] == "quad" and s["late"])

    def change(queries):
        latest = queries["done_ns"] - 30_000_000
        planned = np.where(queries["segment"] == late, np.maximum(queries["planned_ns"], latest), queries["planned_ns"])
        return {**queries, "planned_ns": planned}

    edit.columns("queries.parquet", change)


def swapped_predictions(edit):
    """The baseline's scores are given out as the candidate's, and the other way round."""
    other = {"baseline": "candidate", "candidate": "baseline"}
    edit.columns("predictions.parquet", lambda rows: {**rows, "side": np.array([other[s] for s in rows["side"]])})


def altered_environment(edit):
    """A record of another kind of machine."""
    edit.json("environment.json", lambda environment: environment.update(hardware_class="a-better-machine"))


def truncated_file(edit):
    """The second half of the queries is cut off."""
    path = edit.record / "queries.parquet"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def missing_file(edit):
    """No predictions."""
    (edit.record / "predictions.parquet").unlink()


def renamed_column(edit):
    """The planned arrival under another name."""
    edit.columns(
        "queries.parquet",
        lambda rows: {"scheduled_ns" if name == "planned_ns" else name: column for name, column in rows.items()},
    )


def duplicated_rows(edit):
    """Quick answers of one segment stand twice, so that late ones weigh less."""

    def change(queries):
        last = queries["segment"].max()
        again = np.concatenate([np.arange(len(queries["segment"])), np.flatnonzero(queries["segment"] == last)])
        return {name: column[again] for name, column in queries.items()}

    edit.columns("queries.parquet", change)


def wrong_seed(edit):
    """Another seed in trial and result, with the trial_id that belongs to it."""
    edit.json("trial.json", lambda trial: trial.update(seed=6))
    trial = edit.read("trial.json")
    edit.json("result.json", lambda result: result.update(trial_id=trial_id_of(trial)))
    edit.json("result.json", lambda result: result["trial"].update(seed=6))


UNTOUCHED_MANIFEST = [
    (changed_number, "result.json was changed after the record was written"),
    (dropped_queries, "queries.parquet was changed after the record was written"),
    (edited_trace, "queries.parquet was changed after the record was written"),
    (swapped_predictions, "predictions.parquet was changed after the record was written"),
    (altered_environment, "environment.json was changed after the record was written"),
]
REWRITTEN_MANIFEST = [
    (truncated_file, "queries.parquet cannot be read"),
    (missing_file, "predictions.parquet is missing from manifest.json"),
    (renamed_column, "queries.parquet has no column planned_ns; it has scheduled_ns, which no record has"),
    (duplicated_rows, "queries were dropped or added"),
    (wrong_seed, "segments ran the traces of seed 6: the seed is wrong"),
    (dropped_queries, "queries were dropped or added"),
    (edited_trace, "planned times are not those of its trace from seed 5"),
    (altered_environment, "environment.json and result.json disagree on hardware_class"),
]


def test_the_untouched_record_passes(record):
    verification = verify(record)
    assert verification.problems == []
    assert [finding for finding in verification.findings if not finding.agrees] == []
    assert len(verification.findings) > 80


@pytest.mark.parametrize(("tamper", "reason"), UNTOUCHED_MANIFEST)
def test_a_changed_file_is_refused(record, edit, tamper, reason):
    tamper(edit)
    verification = verify(record)
    assert not verification.passed
    assert reason in verification.problems


@pytest.mark.parametrize(("tamper", "reason"), REWRITTEN_MANIFEST)
def test_columns_that_contradict_each_other_are_refused_whatever_the_manifest_says(record, edit, tamper, reason):
    tamper(edit)
    edit.rewrite_manifest()
    verification = verify(record)
    assert not verification.passed
    assert any(reason in problem for problem in verification.problems)
    assert not any("was changed after" in problem for problem in verification.problems)


@pytest.mark.parametrize(
    ("tamper", "numbers"),
    [
        (changed_number, {"candidate.lbt_qps", "candidate.lbt_ci.0", "candidate.lbt_ci.1", "ratio.lbt",
                          "ratio.lbt_ci.0", "ratio.lbt_ci.1"}),
        (swapped_predictions, {"baseline.auc", "candidate.auc", "gate.auc_delta"}),
    ],
)  # fmt: skip
def test_numbers_that_the_columns_do_not_give_are_refused_whatever_the_manifest_says(record, edit, tamper, numbers):
    tamper(edit)
    edit.rewrite_manifest()
    verification = verify(record)
    assert not verification.passed and verification.problems == []
    assert numbers <= {finding.what for finding in verification.findings if not finding.agrees}


def test_changed_numbers_alone_are_all_that_is_named(record, edit):
    changed_number(edit)
    edit.rewrite_manifest()
    wrong = [finding for finding in verify(record).findings if not finding.agrees]
    assert len(wrong) == 6
    assert wrong[0].published == pytest.approx(1.1 * wrong[0].recomputed)
