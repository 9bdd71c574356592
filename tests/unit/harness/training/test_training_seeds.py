"""Trainings to their end on sides of known speed, whose scores have a known AUC: what is timed, judged and refused."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from harness.console.report import result_table
from harness.errors import ConfigurationError, ExitCode
from harness.record.reader import file_sha256, read_record, record_problems
from harness.record.result import Result
from harness.record.tracked_values import metrics_of
from harness.record.training_rows import EVALUATION_COLUMNS, EVALUATION_TEXTS, Evaluation, as_rows
from harness.record.writer import _write_columns
from harness.training.seed_outcome import to_auc_ratio
from leaderboard.result_check import check_result
from leaderboard.verify import verify
from tests.rendered import text_of
from tests.unit.harness.training.conftest import STEP_S, Simulate, simulation

TARGET = 0.70
END = {"max_epochs": 4, "evaluations": 2, "patience": 8}
"""32 steps of 8 an epoch, all of them looked at, every fourth one by the fit loop too."""


DROPOUT = {**END, "dropout": 0.2}
"""With parts of a batch: each draws its own, so parameters cannot be compared."""
Simulated = tuple[Any, Any, Path]


def to_the_end(simulate: Simulate, **given: Any) -> Simulated:
    """One quad, and three seeds to a target that is given."""
    return simulate(**{"quads": 1, "train_seeds": 3, "target_auc": TARGET, "training": END, **given})


@pytest.fixture
def run(simulate: Simulate) -> Callable[..., Simulated]:
    """``to_the_end`` on ``simulate``."""
    return functools.partial(to_the_end, simulate)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """A run of a plan of the same mathematics."""
    with pytest.MonkeyPatch.context() as patch:
        return to_the_end(simulation(tmp_path_factory.mktemp("plain"), patch))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """A run of a plan of other mathematics, with four seeds."""
    with pytest.MonkeyPatch.context() as patch:
        return to_the_end(simulation(tmp_path_factory.mktemp("other"), patch), training=DROPOUT, train_seeds=4)


def rows_of(measurement, side: str, seed: int) -> list[Evaluation]:
    rows = as_rows(Evaluation, measurement.evaluations)
    return [row for row in rows if (row.side, row.seed) == (side, seed)]


def test_seconds_to_auc_are_steps_alone_by_the_referees_clock(run):
    """A candidate 2.5 times as fast per step that needs twice the steps is there 1.25 times as soon."""
    _, measurement, _ = run(side={"needs": 2.0})
    result = measurement.result
    base, cand = result.baseline.train, result.candidate.train
    assert result.ratio.train == pytest.approx(2.5, rel=0.05)
    for side, train in (("baseline", base), ("candidate", cand)):
        assert [each.seed for each in train.to_auc] == [1, 2, 3] and train.target_auc == TARGET
        for each in train.to_auc:
            assert each.seconds_to_auc == pytest.approx(each.steps_to_auc * STEP_S[side], rel=0.04)
            rows = rows_of(measurement, side, each.seed)
            first = next(row for row in rows if row.valid_auc >= TARGET)
            assert first.first_step + first.steps == each.steps_to_auc > 4
            assert all(row.valid_auc < TARGET for row in rows if row.first_step < first.first_step)
        assert train.seconds_to_auc == np.median([each.seconds_to_auc for each in train.to_auc])
    pairs = list(zip(base.to_auc, cand.to_auc, strict=True))
    assert all(abs(two.steps_to_auc - 2 * one.steps_to_auc) <= 1 for one, two in pairs)
    logs = [np.log(one.seconds_to_auc / two.seconds_to_auc) for one, two in pairs]
    half = stats.t.ppf(0.975, 2) * np.std(logs, ddof=1) / np.sqrt(3)
    assert result.ratio.train_to_auc == pytest.approx(np.exp(np.mean(logs)), rel=1e-12)
    assert result.ratio.train_to_auc == pytest.approx(1.25, rel=0.15)
    np.testing.assert_allclose(result.ratio.train_to_auc_ci, np.exp([np.mean(logs) - half, np.mean(logs) + half]))


@pytest.fixture(scope="module")
def unlearning(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """A candidate that unlearns after step 8, and evaluations of which two without a new best end a training."""
    with pytest.MonkeyPatch.context() as patch:
        simulate = simulation(tmp_path_factory.mktemp("unlearning"), patch)
        return to_the_end(simulate, side={"peak": 8}, training={**END, "patience": 2})


def test_accuracy_is_that_of_the_kept_weights_on_the_test_split(unlearning: Simulated):
    sides, measurement, _ = unlearning
    columns, result = measurement.predictions, measurement.result
    for name in ("baseline", "candidate"):
        side, found = getattr(result, name), []
        for each in side.train.to_auc:
            own = (columns["side"] == name) & (columns["run"] == f"test, seed {each.seed}")
            labels, scores = columns["label"][own], columns["score"][own].astype(np.float64)
            np.testing.assert_array_equal(labels, sides.labels[1])
            assert each.auc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
            assert each.logloss == pytest.approx(log_loss(labels, scores), rel=1e-6)
            assert each.pcoc == pytest.approx(scores.mean() / labels.mean(), rel=1e-6)
            deciding = [row for row in rows_of(measurement, name, each.seed) if row.decides]
            best = max(deciding, key=lambda row: row.valid_auc)
            assert each.valid_auc == best.valid_auc and each.best_step == best.first_step + best.steps
            found.append((each.auc, each.logloss, each.pcoc))
        np.testing.assert_allclose((side.auc, side.logloss, side.pcoc), np.mean(found, 0), rtol=1e-12)
    assert {each.best_step for each in result.candidate.train.to_auc} == {8}
    assert {each.best_step for each in result.baseline.train.to_auc} == {32}


def test_patience_ends_a_training_as_it_ends_the_fit_loop(unlearning: Simulated, tmp_path: Path):
    _, measurement, record = unlearning
    result = measurement.result
    ends = [[each.steps for each in side.train.to_auc] for side in (result.baseline, result.candidate)]
    assert ends == [[32] * 3, [16] * 3]
    assert verify(record).passed, verify(record).problems
    copy = shutil.copytree(record, tmp_path / "impatient")
    for name in ("trial.json", "result.json"):
        data = json.loads((copy / name).read_text())
        (data["trial"] if name == "result.json" else data)["training"]["patience"] = 1
        (copy / name).write_text(json.dumps(data))
    refused(copy, "it does not end where its patience does")


def test_after_the_target_only_the_fit_loops_evaluations_are_made(plain: Simulated):
    _, measurement, _ = plain
    for seed in (1, 2, 3):
        rows = rows_of(measurement, "baseline", seed)
        there = next(number for number, row in enumerate(rows) if row.valid_auc >= TARGET)
        assert [row.first_step + row.steps for row in rows[: there + 1]] == list(range(1, there + 2))
        assert all(row.decides for row in rows[there + 1 :])
        assert [row.first_step + row.steps for row in rows if row.decides] == [4, 8, 12, 16, 20, 24, 28, 32]


def test_the_sides_take_turns_and_begin_with_the_weights_of_each_seed(plain: Simulated):
    sides, measurement, _ = plain
    rows = as_rows(Evaluation, measurement.evaluations)
    order = [row.side[0] for row in rows if row.seed == 2][:8]
    assert order == ["b", "c", "c", "b", "b", "c", "c", "b"]
    begun = [number for number, order in enumerate(sides.orders) if order == ("scorer", "begin")]
    assert len(begun) == 3
    warmed = [("baseline", "train"), ("baseline", "again"), ("candidate", "train"), ("candidate", "again")]
    assert all(sides.orders[number + 1 : number + 5] == warmed for number in begun)


def test_plans_of_the_same_mathematics_keep_their_gate(plain: Simulated):
    _, measurement, record = plain
    result = measurement.result
    assert result.gate.parity is not None and result.gate.seeds is None and result.gate.auc_delta is None
    assert verify(record).passed
    one = to_auc_ratio(result.baseline.train.to_auc[:1], result.candidate.train.to_auc[:1])
    assert one.ratio == pytest.approx(2.5, rel=0.05) and one.ci is None  # one seed


def test_other_mathematics_are_gated_by_paired_seeds(other: Simulated):
    sides, measurement, record = other
    result = measurement.result
    gate, base, cand = result.gate, result.baseline.train, result.candidate.train
    differences = [two.auc - one.auc for one, two in zip(base.to_auc, cand.to_auc, strict=True)]
    low, high = stats.t.interval(0.95, 3, np.mean(differences), stats.sem(differences))
    assert gate.auc_delta == pytest.approx(np.mean(differences), abs=1e-12)
    np.testing.assert_allclose(gate.auc_delta_ci, (low, high), atol=1e-9)
    spread = np.std([each.auc for each in base.to_auc], ddof=1)
    assert gate.seeds.seeds == (1, 2, 3, 4) and gate.seeds.spread == pytest.approx(spread)
    assert gate.margin == pytest.approx(max(0.001, 3 * spread * np.sqrt(2 / 4)))
    assert (gate.verdict, gate.parity, result.exit_code) == ("pass", None, ExitCode.OK)
    assert ("candidate", "save") not in sides.orders
    assert verify(record).passed, verify(record).problems


@pytest.mark.parametrize("side", [{"worse": 0.02}, {"broken": 2}])
def test_a_candidate_that_learns_less_fails(run, side: dict[str, float]):
    _, measurement, record = run(training=DROPOUT, side=side)
    result = measurement.result
    assert (result.gate.verdict, result.exit_code) == ("fail", ExitCode.GATE_FAILED)
    said = "AUC may fall by 0.0" if "worse" in side else "1 of 3 candidates have scores that are not finite"
    assert result.gate.reasons[0].startswith(said)
    if "broken" in side:
        assert result.candidate.auc is None and result.candidate.train.to_auc[1].auc is None
        assert result.ratio.train_to_auc is None
        assert result.ratio.train_to_auc_reason == "the target AUC was not reached by the candidate with 1 of 3 seeds"
    assert json.loads((record / "result.json").read_text())["gate"]["verdict"] == "fail"
    assert verify(record).passed, verify(record).problems


@pytest.mark.parametrize("training", [END, DROPOUT])
def test_steps_that_are_taken_while_weights_are_written_fail(run, training: dict[str, Any]):
    _, measurement, record = run(training=training, side={"lazy": True})
    gate = measurement.result.gate
    assert (gate.verdict, gate.timed_answers) == ("fail", "fail") and "beside the clock" in gate.reasons[-1]
    assert verify(record).passed, verify(record).problems


def test_other_mathematics_that_work_less_where_they_are_timed_fail(run):
    _, measurement, record = run(training=DROPOUT, side={"sprints": True})
    gate = measurement.result.gate
    assert measurement.result.ratio.train == pytest.approx(5.0, rel=0.05)
    assert gate.verdict == "fail" and gate.reasons[-1].endswith("what was timed is not what was judged")
    assert verify(record).passed, verify(record).problems


@pytest.mark.parametrize("seeds", [0, 2])
def test_too_few_seeds_for_other_mathematics_are_refused_before_any_work(run, tmp_path: Path, seeds: int):
    with pytest.raises(ConfigurationError, match=r"'micro_batch' with training.dropout=0.2(.*)say training.seeds=5"):
        run(training=DROPOUT, train_seeds=seeds)


def test_a_target_that_is_never_reached_is_said(run):
    _, measurement, record = run(target_auc=0.95, train_seeds=2)
    result = measurement.result
    assert result.baseline.train.seconds_to_auc is None and result.baseline.auc > 0.7
    reason = "the target AUC was not reached by the baseline with 2 of 2 seeds and the candidate with 2 of 2 seeds"
    assert result.ratio.train_to_auc_reason == reason
    assert reason in text_of(result_table(result))
    assert verify(record).passed


def test_the_baseline_alone_is_trained_to_its_end(run):
    _, measurement, record = run(opts={}, train_seeds=1)
    assert (measurement.result.candidate, measurement.result.gate) == (None, None)
    assert len(measurement.result.baseline.train.to_auc) == 1 and measurement.result.baseline.auc > 0.7
    assert verify(record).passed


def test_the_record_is_whole_and_people_see_it(other: Simulated):
    _, measurement, record = other
    result = measurement.result
    assert record_problems(record) == [] and check_result(result.to_dict()) == []
    assert Result.from_dict(json.loads((record / "result.json").read_text())) == result
    assert read_record(record).evaluations()["side"].size == len(as_rows(Evaluation, measurement.evaluations))
    checked = {finding.what for finding in verify(record).findings}
    assert {"baseline.to_auc.1.seconds_to_auc", "candidate on the test split.auc", "gate.seeds.spread"} <= checked
    shown = text_of(result_table(result))
    for part in ("seconds to AUC 0.7000, 4 seeds", "test AUC", "test logloss", "over 4 seeds, margin -0.0"):
        assert part in shown
    metrics = metrics_of(result)
    assert metrics["train_seconds_to_auc"] == result.candidate.train.seconds_to_auc
    assert metrics["ratio_train_to_auc"] == result.ratio.train_to_auc and metrics["baseline_auc"] == result.baseline.auc


def rewrite_manifest(record: Path) -> None:
    manifest = json.loads((record / "manifest.json").read_text())
    manifest["files"] = {name: file_sha256(record / name) for name in manifest["files"]}
    (record / "manifest.json").write_text(json.dumps(manifest))


TAMPERED = (
    ("result.json", lambda d: d["candidate"].update(auc=0.9), "candidate on the test split.auc"),
    ("result.json", lambda d: d["candidate"]["train"]["to_auc"][0].update(auc=0.9), "to_auc.0.auc"),
    ("result.json", lambda d: d["candidate"]["train"].update(seconds_to_auc=0.1), "seconds_to_auc"),
    ("result.json", lambda d: d["gate"].update(margin=0.5), "gate.margin"),
    ("result.json", lambda d: d["plan"][0].update(claims=[]), "there is nothing to compare"),
    ("environment.json", lambda d: d["run"]["training"]["target"].update(auc=0.6), "the target AUC is 0.6"),
)


def refused(record: Path, said: str) -> None:
    """The record does not verify, and ``said`` tells why."""
    rewrite_manifest(record)
    found = verify(record)
    wrong = [finding.what for finding in found.findings if not finding.agrees]
    assert not found.passed and any(said in text for text in [*found.problems, *wrong]), (said, found.problems, wrong)


def test_changed_records_are_refused(other: Simulated, tmp_path: Path):
    _, _, record = other
    for number, (name, change, said) in enumerate(TAMPERED):
        copy = shutil.copytree(record, tmp_path / f"tampered-{number}")
        data = json.loads((copy / name).read_text())
        change(data)
        (copy / name).write_text(json.dumps(data))
        refused(copy, said)


ROWS = (
    (lambda c: c["ended_ns"].__isub__(np.int64(10**7)), "seconds_to_auc"),
    (lambda c: c["samples"].__iadd__(np.int64(1)), "samples in"),
    (lambda c: c["first_step"].__iadd__(np.int64(1)), "it is not evaluated where a training is"),
    (lambda c: c["decides"].__ixor__(np.int64(1)), "it is not evaluated where a training is"),
    (lambda c: c["seed"].__iadd__(np.int64(1)), "do not hold every seed of every side"),
    (lambda c: c["started_ns"].__iadd__(np.int64(10**12)), "does not begin after"),
)


def test_changed_rows_are_refused(plain: Simulated, tmp_path: Path):
    _, _, record = plain
    for number, (change, said) in enumerate(ROWS):
        copy = shutil.copytree(record, tmp_path / f"changed-{number}")
        columns = {name: np.array(column) for name, column in read_record(record).evaluations().items()}
        change(columns)
        _write_columns(copy / "evaluations.parquet", columns, EVALUATION_TEXTS, EVALUATION_COLUMNS)
        refused(copy, said)


def test_finished_seeds_of_a_run_that_was_ended_are_not_trained_again(run, tmp_path: Path):
    """The first run ends in the third seed; one of the two finished ones is damaged. The second run trains two, and
    leaves nothing in the cache."""
    with pytest.raises(KeyboardInterrupt):
        run(side={"ends": 3})
    seeds = tmp_path / "cache" / "seeds"
    (damaged,) = seeds.rglob("seed-1.npz")
    assert len(list(seeds.rglob("seed-*.npz"))) == 2
    damaged.write_bytes(damaged.read_bytes()[:-200])
    sides, measurement, record = run()
    assert sides.orders.count(("scorer", "begin")) == 2
    (said,) = [call.args[0] for call in sides.observer.warn.call_args_list]
    assert str(damaged) in said and said.endswith("it is trained again")
    assert list(seeds.rglob("*.npz")) == []
    assert [each.seed for each in measurement.result.baseline.train.to_auc] == [1, 2, 3]
    assert verify(record).passed, verify(record).problems
