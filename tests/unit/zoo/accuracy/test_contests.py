from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from zoo.accuracy.contests import Contender, Contest, criteo_contest
from zoo.accuracy.logistic import logistic_scores
from zoo.accuracy.runs import hold
from zoo.accuracy.table import page
from zoo.schema import Dataset, IdField, Rows, Schema, Split

SMALL = {"embedding_dim": 4, "bottom_units": [8, 4], "top_units": [8]}
OPTIONS = {"shape": "pointwise", "size": "tiny"}


@pytest.fixture
def contest() -> Contest:
    one = Contender(label="small", model="dlrm", sizes=SMALL)
    other = Contender(label="wider", model="dlrm", sizes={**SMALL, "top_units": [16]})
    return Contest(name="t", title="tiny planted", dataset="planted", options=OPTIONS, contenders=(one, other))


def test_a_contest_is_held_once_and_then_read_from_the_cache(contest: Contest, tmp_path: Path) -> None:
    said: list[str] = []
    first = hold(contest, range(1, 3), tmp_path, said.append)
    assert {line.split(",")[0] for line in said} == {"t: small", "t: wider"}
    assert 8 <= len(said) <= 2 * 2 * 4  # at most two evaluations in each of two epochs, each said once
    said.clear()
    assert hold(contest, range(1, 3), tmp_path, said.append) == first
    assert said == []
    assert len(list((tmp_path / "weights").iterdir())) == 4
    assert first.samples == (4000, 800, 4000) and first.seeds == 2
    one, other = first.rows
    assert one.difference is None and other.difference is not None
    assert other.difference.value == pytest.approx(other.auc.value - one.auc.value, abs=1e-12)
    assert other.difference.low < other.difference.value < other.difference.high


def test_the_page_shows_what_was_measured(contest: Contest, tmp_path: Path) -> None:
    outcome = hold(contest, range(1, 2), tmp_path, lambda line: None)
    text = page([outcome], "python -m zoo.accuracy --seeds 1", "Notes.")
    assert "4,000 training, 800 validation and 4,000 test samples; 1 seeds." in text
    assert f"Bayes AUC **{outcome.bayes_auc:.4f}**" in text
    line = next(line for line in text.splitlines() if line.startswith("| wider"))
    assert f"| {outcome.rows[1].auc.value:.4f} [" in line and f"| {outcome.rows[1].difference.value:+.4f} [" in line


def test_a_sample_of_criteo_says_so_above_its_table(contest: Contest, tmp_path: Path) -> None:
    assert criteo_contest(Path("train.txt")).note == ""
    note = criteo_contest(Path("dac_sample_80k.txt.gz")).note
    outcome = hold(dataclasses.replace(contest, note=note), range(1, 2), tmp_path, lambda line: None)
    text = page([outcome], "c", "n")
    assert "\n\nAn 80k hashed sample: not comparable with published Criteo AUCs.\n\n4,000 training" in text


def test_settings_of_a_contest_train_every_contender(contest: Contest, tmp_path: Path) -> None:
    said: list[str] = []
    changed = dataclasses.replace(contest, training={"max_epochs": 3, "batch_size": 400, "patience": 9})
    hold(changed, range(1, 2), tmp_path, said.append)
    assert {line.split(",")[2].strip() for line in said if "step 30 of 30" in line} == {"step 30 of 30"}
    assert sum("step 30 of 30" in line for line in said) == 2


def test_settings_of_a_contender_come_before_those_of_the_contest(contest: Contest, tmp_path: Path) -> None:
    said: list[str] = []
    one, other = contest.contenders
    contenders = (dataclasses.replace(one, training={"batch_size": 500}), other)
    changed = dataclasses.replace(contest, contenders=contenders, training={"max_epochs": 1, "batch_size": 400})
    hold(changed, range(1, 2), tmp_path, said.append)
    steps = {(line.split(",")[0], line.split(",")[2].split(" of ")[1]) for line in said}
    assert steps == {("t: small", "8"), ("t: wider", "10")}


def _by_category(count: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    category = rng.integers(1, 4, count)
    no_bags = (np.zeros(0, np.int64), np.zeros(1, np.int64))
    return Split(
        user=Rows.empty(count),
        item=Rows(rng.normal(size=(count, 1)).astype(np.float32), category[:, None], *no_bags),
        history=np.zeros((0, 0), np.int64),
        history_offsets=np.zeros(count + 1, np.int64),
        user_of=np.arange(count, dtype=np.int64),
        labels=(rng.random(count) < np.array([0.5, 0.9, 0.1])[category - 1]).astype(np.float32),
        groups=np.arange(count + 1, dtype=np.int64),
    )


def test_logistic_regression_ranks_by_the_share_of_clicks() -> None:
    schema = Schema(name="categories", ids=(IdField(name="c", side="item", column=0, table="c", rows=4, hashed=False),))
    train, valid, test = (_by_category(count, seed) for seed, count in enumerate((40_000, 2_000, 2_000)))
    dataset = Dataset(name="c", schema=schema, train=train, valid=valid, test=test, fingerprint="c")
    scores = logistic_scores(dataset)
    by_category = [np.unique(scores[test.item.ids[:, 0] == category]) for category in (1, 2, 3)]
    assert [len(values) for values in by_category] == [1, 1, 1]
    np.testing.assert_allclose(np.concatenate(by_category), [0.5, 0.9, 0.1], atol=0.02)
