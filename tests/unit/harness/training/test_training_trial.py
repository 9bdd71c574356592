"""A whole training trial on sides of known speed: what is asked of them, and what the record says."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.console.report import result_table
from harness.edge.sweep import finished, holm_calls, summary_table
from harness.errors import ExitCode
from harness.record.reader import read_record, record_problems
from harness.record.result import Result
from harness.record.tracked_values import metrics_of
from harness.record.training_rows import Chunk, as_rows
from leaderboard.compare import compare, regressed
from leaderboard.result_check import check_result
from leaderboard.show import board_view
from leaderboard.site import render
from leaderboard.store import load_board
from leaderboard.verify import verify
from tests.rendered import text_of
from tests.unit.harness.training.conftest import BATCH, READ_S, SAMPLES, STEP_S, Simulate, Simulated, simulation

PER_STEP = SAMPLES / 8
"""Mean samples of a step: seven batches of 512 and one of 416."""


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """A run in which nothing happens."""
    with pytest.MonkeyPatch.context() as patch:
        return simulation(tmp_path_factory.mktemp("usual"), patch, pictures=True)()


@pytest.fixture
def harmed(usual: Simulated, tmp_path: Path) -> Path:
    """A copy of its record, for a test to change."""
    return Path(shutil.copytree(usual[2], tmp_path / usual[2].name))


def chunks_of(measurement) -> list[Chunk]:
    return as_rows(Chunk, measurement.training)


def test_speeds_and_their_ratio_are_those_of_the_sides(usual: Simulated):
    _, measurement, _ = usual
    result = measurement.result
    base, cand = result.baseline.train, result.candidate.train
    assert base.samples_per_s == pytest.approx(PER_STEP / STEP_S["baseline"], rel=0.03)
    assert cand.samples_per_s == pytest.approx(PER_STEP / STEP_S["candidate"], rel=0.03)
    assert base.input_rows_per_s == pytest.approx(PER_STEP / READ_S, rel=0.05)
    assert cand.compute_samples_per_s == pytest.approx(PER_STEP / (STEP_S["candidate"] - READ_S), rel=0.05)
    low, high = result.ratio.train_ci
    assert low < 2.5 < high and high / low < 1.06 and result.ratio.train_p < 1e-9
    assert (result.gate.verdict, result.gate.timed_answers, result.exit_code) == ("pass", "pass", ExitCode.OK)
    assert result.baseline.train.minor_faults_per_step == 3.0 and base.peak_bytes == 300 * 2**20
    assert (base.batch_size, base.seeds, base.threads, base.seconds_to_auc) == (BATCH, (1,), 2, None)


def test_the_interval_is_students_t_on_the_log_ratios_of_the_quads(usual: Simulated):
    _, measurement, _ = usual
    rows = chunks_of(measurement)
    logs = []
    for quad in range(6):
        rates = {}
        for side in ("baseline", "candidate"):
            own = [c for c in rows if (c.purpose, c.quad, c.side) == ("quad", quad, side)]
            halves = [[c for c in own if c.half == half] for half in (0, 1)]
            rates[side] = [sum(c.samples for c in h) / sum(c.ended_ns - c.started_ns for c in h) for h in halves]
        # the halves of one side run the same steps as those of the other
        logs.append(np.mean(np.log(np.divide(rates["candidate"], rates["baseline"]))))
    half = stats.t.ppf(0.975, 5) * np.std(logs, ddof=1) / np.sqrt(6)
    expected = np.exp([np.mean(logs), np.mean(logs) - half, np.mean(logs) + half])
    ratio = measurement.result.ratio
    np.testing.assert_allclose([ratio.train, *ratio.train_ci], expected, rtol=1e-12)
    np.testing.assert_allclose(ratio.train_quads, np.exp(logs), rtol=1e-12)


def test_both_sides_take_the_same_steps_in_abba_order(simulate: Simulate):
    sides, measurement, _ = simulate(quads=2)
    rows = chunks_of(measurement)
    timed = [c for c in rows if c.purpose == "quad"]
    order = [key for key, _ in itertools.groupby((c.side[0], c.half) for c in timed)]
    assert order == [("b", 0), ("c", 0), ("c", 1), ("b", 1), ("c", 0), ("b", 0), ("b", 1), ("c", 1)]
    places: dict[str, dict[tuple[int, int], list[tuple[int, int]]]] = {"baseline": {}, "candidate": {}}
    for c in timed:
        places[c.side].setdefault((c.quad, c.half), []).append((c.first_step, c.samples))
    assert places["baseline"] == places["candidate"]
    # a half lasts 2.2 s on the slower side
    assert {len(bursts) for bursts in places["baseline"].values()} == {round(2.2 / (10 * STEP_S["baseline"]))}
    settled = [rows[c.chunk - 1] for c in timed]
    assert {(c.purpose, c.steps) for c in settled} == {("settle", 2)} and all(
        (a.side, a.half) == (b.side, b.half) for a, b in zip(settled, timed, strict=True)
    )
    assert sides.position["baseline"] == sides.position["candidate"]


def test_every_burst_begins_from_the_common_state_at_a_place_that_was_drawn(simulate: Simulate):
    sides, measurement, _ = simulate(quads=4)
    own = [command for name, command in sides.orders if name == "candidate"]
    bursts = [k for k, command in enumerate(own) if command == "resume"]
    assert len(bursts) == 4 * 2 * (1 + round(2.2 / (10 * STEP_S["baseline"])))
    assert all(own[k + 1 : k + 3] == ["train", "train"] for k in bursts)
    # one burst of each half is looked at, and which one differs
    saved = [sum(j < k for j in bursts) % 5 for k, command in enumerate(own) if command == "save" and k > bursts[0]]
    assert len(saved) == 8 and len(set(saved)) > 1
    rows = chunks_of(measurement)
    assert len({c.first_step for c in rows if c.purpose == "quad"}) > 2  # of 8 steps in an epoch
    assert "reordered" not in measurement.parity["stage"]  # no burst has to be explained


@pytest.mark.parametrize(
    ("flips", "others", "verdict", "explained"),
    [(0.02, 0.004, "pass", 6), (0.08, 0.004, "fail", 12), (0.08, 0.0, "fail", 12), (0.002, 0.0, "pass", 0)],
)
def test_bursts_apart_are_held_against_other_orders_over_the_same_ones(
    simulate: Simulate, flips: float, others: float, verdict: str, explained: int
):
    """Until six of twelve are close, each by three other orders; one tensor moves."""
    _, measurement, record = simulate(side={"flips": flips, "others": others})
    gate, rows = measurement.result.gate, measurement.parity
    assert (gate.verdict, gate.timed_answers) == (verdict, verdict)
    assert list(rows["stage"]).count("timed") == 12
    bursts = zip(rows["stage"], rows["quad"], rows["half"], strict=True)
    where = [burst for stage, *burst in bursts if stage == "reordered"]
    assert len(where) == 3 * explained and len(set(map(tuple, where))) == explained
    assert verify(record).passed


def test_a_side_that_takes_its_steps_while_it_saves_fails_the_gate(simulate: Simulate):
    _, measurement, record = simulate(side={"lazy": True})
    gate = measurement.result.gate
    assert gate.verdict == "fail" and "beside the clock" in gate.reasons[0]
    assert verify(record).passed


def test_sides_are_told_of_a_folder_for_builds_and_not_of_the_cache(simulate: Simulate, tmp_path: Path):
    sides, _, _ = simulate(quads=1)
    told = {Path(spec["cache_dir"]) for spec in sides.specs}
    assert told == {(tmp_path / "cache" / "builds").resolve()} and len(sides.specs) == 3
    assert all(str((tmp_path / "cache").resolve()) not in json.dumps({**spec, "cache_dir": ""}) for spec in sides.specs)


def test_the_plain_loop_alone_has_neither_ratio_nor_gate(simulate: Simulate):
    sides, measurement, record = simulate(opts={})
    result = measurement.result
    assert (result.candidate, result.ratio, result.gate) == (None, None, None)
    assert not any(row == "save" and name != "origin" for name, row in sides.orders)
    assert verify(record).passed


@pytest.mark.parametrize("wrong", [0.02, -0.5])
def test_other_parameters_fail_the_gate(simulate: Simulate, wrong: float):
    _, measurement, record = simulate(wrong=wrong)
    result = measurement.result
    assert result.gate.verdict == "fail" and result.exit_code == ExitCode.GATE_FAILED
    assert result.gate.reasons[0].startswith("out.linear.weight after 2 steps: ")
    assert result.gate.parity.deviation == pytest.approx(abs(wrong)) and result.gate.parity.share > 1
    assert verify(record).passed
    assert load_board(record.parent).groups.popitem()[1][0].unranked == ("accuracy gate failed",)


@pytest.mark.parametrize("skips", [1.0, 0.5, 0.02])
def test_a_side_that_leaves_steps_out_after_the_gate_fails_it(simulate: Simulate, skips: float):
    _, measurement, record = simulate(skips=skips)
    gate = measurement.result.gate
    assert (gate.verdict, gate.timed_answers) == ("fail", "fail") and gate.parity.share <= 1
    assert verify(record).passed


@pytest.mark.parametrize("evidence", ["steal", "busy_quads"])
def test_void_quads_run_again_on_the_steps_that_follow(simulate: Simulate, evidence: str):
    _, measurement, record = simulate(**{evidence: (1,)})
    rows, result = chunks_of(measurement), measurement.result
    assert sorted({c.quad for c in rows if c.purpose == "quad"}) == list(range(7))
    assert (result.validity.verdict, result.validity.voided_quads) == ("valid", 1)
    assert len(result.ratio.train_quads) == 6 and result.ratio.train_with_voided is not None
    assert result.baseline.train.steps == sum(
        c.steps for c in rows if (c.side, c.purpose) == ("baseline", "quad") and c.quad != 1
    )
    assert verify(record).passed


def test_what_the_referee_works_between_its_orders_is_not_that_of_others(simulate: Simulate, monkeypatch):
    used = itertools.count(step=int(0.3 * 1e9 * (os.cpu_count() or 1)) * 10**9)  # all that the host was busy
    monkeypatch.setattr("harness.training.quads.process_cpu_ns", lambda pid: next(used))
    _, measurement, _ = simulate(quads=2, busy_quads=(0, 1))
    assert measurement.result.validity.voided_quads == 0


def test_a_noisy_host_is_marked(simulate: Simulate):
    _, measurement, _ = simulate(steal=(0, 1, 2))
    assert measurement.result.validity.verdict == "noisy_host" and measurement.result.exit_code == ExitCode.OK


def test_one_quad_gives_a_ratio_without_an_interval(simulate: Simulate):
    _, measurement, record = simulate(quads=1)
    ratio = measurement.result.ratio
    assert ratio.train == pytest.approx(2.5, rel=0.05) and (ratio.train_ci, ratio.train_p) == (None, None)
    assert "verdict: indicative" in text_of(result_table(measurement.result))
    assert verify(record).passed


def test_the_record_is_whole_and_says_everything_again(usual: Simulated):
    _, measurement, record = usual
    assert record_problems(record) == [] and check_result(measurement.result.to_dict()) == []
    assert Result.from_dict(json.loads((record / "result.json").read_text())) == measurement.result
    assert (record / "training_rate.png").stat().st_size > 1000
    assert read_record(record).queries()["side"].size == read_record(record).predictions()["side"].size == 0
    found = verify(record)
    assert found.passed, found.problems
    checked = {finding.what for finding in found.findings}
    assert {"baseline.samples_per_s", "candidate.steps", "ratio.train_ci.0", "gate.parity.share"} <= checked


def test_what_people_see(usual: Simulated):
    _, measurement, record = usual
    table = text_of(result_table(measurement.result))
    for part in (
        "training dlrm on planted",
        "opt=[micro_batch]",
        "batch 512",
        "training, samples/s",
        "verdict: faster",
    ):
        assert part in table
    assert "gate: pass, 1,000 of 1,000 moved parameters compared after 2 steps" in table and "qps" not in table
    metrics = metrics_of(measurement.result)
    assert metrics["ratio_train"] == measurement.result.ratio.train and metrics["gate_passed"] == 1.0
    assert metrics["baseline_train_samples_per_s"] == measurement.result.baseline.train.samples_per_s
    board = load_board(record.parent)
    ((workload, (entry,)),) = board.groups.items()
    assert workload.title.startswith("dlrm on planted") and "training, batch 512" in workload.title
    assert entry.unranked == ()
    assert "compute alone" in text_of(board_view(board)) and "samples/s" in render(board)


def test_a_sweep_shows_what_training_gained(usual: Simulated):
    _, measurement, record = usual
    shown = text_of(summary_table([finished(measurement.result, record)]))
    assert "samples/s" in shown and "faster" in shown and holm_calls([measurement.result, None]) == ["faster", "-"]


def test_records_of_trainings_are_compared_by_their_ratio(usual: Simulated):
    _, _, record = usual
    before, after = read_record(record), read_record(record)
    slower = dataclasses.replace(after.result.ratio, train=1.5, train_ci=(1.45, 1.55))
    after = dataclasses.replace(after, result=dataclasses.replace(after.result, ratio=slower))
    lines = {line.metric: line.verdict for line in compare(before, after)}
    assert lines["training speed over that of opt=[]"] == "worse" and regressed(compare(before, after))
    assert not regressed(compare(before, before))


TAMPERED = {
    "a rate": ("result.json", lambda d: d["candidate"]["train"].update(samples_per_s=1e6), "candidate.samples_per_s"),
    "the ratio": ("result.json", lambda d: d["ratio"].update(train=9.0, train_ci=[8.9, 9.1]), "ratio.train"),
    "the gate": ("result.json", lambda d: d["gate"]["parity"].update(share=0.01), "gate.parity.share"),
    "the batch": ("environment.json", lambda d: d["run"]["training"].update(batch_size=64), "disagree on batch_size"),
    "the epoch": ("environment.json", lambda d: d["run"]["training"].update(epoch_samples=4001), "samples in"),
    "a quad": ("environment.json", lambda d: d["run"]["quads"].pop(), "the host was watched in"),
}


@pytest.mark.parametrize("what", list(TAMPERED))
def test_a_changed_record_is_refused(harmed: Path, what: str):
    name, change, said = TAMPERED[what]
    data = json.loads((harmed / name).read_text())
    change(data)
    (harmed / name).write_text(json.dumps(data))
    rewrite_manifest(harmed)
    found = verify(harmed)
    wrong = [finding.what for finding in found.findings if not finding.agrees]
    assert not found.passed and any(said in text for text in [*found.problems, *wrong]), (found.problems, wrong)


ROWS = {
    "time": (lambda c: c["ended_ns"].__isub__(10**7 * (c["purpose"] == "quad")), "samples_per_s"),
    "order": (lambda c: c["started_ns"].__imul__(-1), "does not begin after"),
    "samples": (lambda c: c["samples"].__iadd__(np.int64(1)), "samples in"),
    "steps": (lambda c: c["first_step"].__iadd__(np.int64(1)), "begins at step"),
}


@pytest.mark.parametrize("what", list(ROWS))
def test_changed_rows_are_refused(harmed: Path, what: str):
    from harness.record.training_rows import CHUNK_COLUMNS, CHUNK_TEXTS
    from harness.record.writer import _write_columns

    change, said = ROWS[what]
    columns = {name: np.array(column) for name, column in read_record(harmed).training().items()}
    change(columns)
    _write_columns(harmed / "training.parquet", columns, CHUNK_TEXTS, CHUNK_COLUMNS)
    rewrite_manifest(harmed)
    found = verify(harmed)
    wrong = [finding.what for finding in found.findings if not finding.agrees]
    assert not found.passed and any(said in text for text in [*found.problems, *wrong]), (found.problems, wrong)


PARITY = {
    "a half": (lambda rows: rows["half"] != 1, "parameters were compared and not saved there, or saved and not"),
    "a tensor": (lambda rows: ~((rows["half"] == 1) & (rows["tensor"] == "other")), "in the same tensors"),
}


@pytest.mark.parametrize("what", list(PARITY))
def test_a_comparison_that_went_badly_cannot_be_left_out(harmed: Path, what: str):
    """Each timed half ends in a burst after which both sides save what they have; every tensor of it is compared."""
    from harness.record.training_rows import PARITY_COLUMNS, PARITY_TEXTS
    from harness.record.writer import _write_columns

    keep, said = PARITY[what]
    columns = read_record(harmed).parity()
    again = {name: np.concatenate([column, column]) for name, column in columns.items()}
    columns = again | {"tensor": np.concatenate([columns["tensor"], np.full(len(columns["tensor"]), "other")])}
    inside = keep(columns) | (columns["stage"] != "timed")
    assert 0 < np.count_nonzero(~inside) < len(inside)
    left = {name: column[inside] for name, column in columns.items()}
    _write_columns(harmed / "parity.parquet", left, PARITY_TEXTS, PARITY_COLUMNS)
    rewrite_manifest(harmed)
    assert any(said in problem for problem in verify(harmed).problems)


def rewrite_manifest(record: Path) -> None:
    from harness.record.reader import file_sha256

    manifest = json.loads((record / "manifest.json").read_text())
    manifest["files"] = {name: file_sha256(record / name) for name in manifest["files"]}
    (record / "manifest.json").write_text(json.dumps(manifest))
