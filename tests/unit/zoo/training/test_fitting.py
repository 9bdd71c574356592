from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from zoo.configs import DienConfig, DinConfig, DlrmConfig, ModelConfig, WdlConfig
from zoo.fitting import EarlyStopping, Fitted, Progress, fit
from zoo.layers.features import to_tensors
from zoo.losses import training_loss
from zoo.metrics import auc
from zoo.models import build_model
from zoo.prediction import predict
from zoo.schema import Dataset, DenseField, HistoryField, IdField, Rows, Schema, Split
from zoo.training import weights_of
from zoo.training_config import TrainingConfig

CATEGORIES = 6
SCHEMA = Schema(
    name="clear",
    dense=(DenseField(name="length", side="user", mean=3.0, std=1.5),),
    ids=(IdField(name="category", side="item", column=0, table="category", rows=CATEGORIES + 1, hashed=False),),
    history=(HistoryField(name="h", target="category", table="category", rows=CATEGORIES + 1, hashed=False),),
    max_history=5,
)


def _clear_split(count: int, seed: int) -> Split:
    """A click is likely (0.9 against 0.1) for candidates of an even category."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 6, count)
    category = rng.integers(1, CATEGORIES + 1, count)
    probability = np.where(category % 2 == 0, 0.9, 0.1).astype(np.float32)
    no_bags = (np.zeros(0, np.int64), np.zeros(1, np.int64))
    return Split(
        user=Rows(lengths[:, None].astype(np.float32), np.zeros((count, 0), np.int64), *no_bags),
        item=Rows(np.zeros((count, 0), np.float32), category[:, None], *no_bags),
        history=rng.integers(1, CATEGORIES + 1, (int(lengths.sum()), 1)),
        history_offsets=np.concatenate([[0], lengths.cumsum()]).astype(np.int64),
        user_of=np.arange(count, dtype=np.int64),
        labels=(rng.random(count) < probability).astype(np.float32),
        groups=np.arange(count + 1, dtype=np.int64),
        probability=probability,
    )


@pytest.fixture(scope="module")
def clear() -> Dataset:
    splits = [_clear_split(count, seed) for seed, count in enumerate((3000, 1000, 1000))]
    # P(even and clicked beats odd and not) + half the ties: (0.81 + 2 * 0.5 * 0.09) = 0.9
    return Dataset(
        name="clear",
        schema=SCHEMA,
        train=splits[0],
        valid=splits[1],
        test=splits[2],
        fingerprint="clear",
        bayes_auc=0.9,
    )


CONFIGS: list[ModelConfig] = [
    WdlConfig(embedding_dim=4, deep_units=(16,)),
    DinConfig(embedding_dim=4, attention_units=(8,), top_units=(16,)),
    DienConfig(embedding_dim=4, hidden_units=5, attention_units=(8,), auxiliary_units=(8,), top_units=(16,)),
    DlrmConfig(embedding_dim=4, bottom_units=(8, 4), top_units=(16,)),
]
QUICK = TrainingConfig(
    batch_size=50, max_epochs=3, evaluations=2, patience=6, dense_lr=0.01, embedding_lr=0.1, wide_lr=0.1, threads=1
)


def _fit(config: ModelConfig, dataset: Dataset, training: TrainingConfig = QUICK) -> tuple[Fitted, list[Progress]]:
    reports: list[Progress] = []
    return fit(config, dataset, training, reports.append), reports


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_every_model_comes_near_the_ceiling(config: ModelConfig, clear: Dataset) -> None:
    fitted, _ = _fit(config, clear)
    reached, ceiling = (
        auc(clear.test.labels, predict(fitted.model, clear.test)),
        auc(clear.test.labels, clear.test.probability),
    )
    assert ceiling == pytest.approx(clear.bayes_auc, abs=0.03)
    assert ceiling - 0.02 < reached


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_the_same_seed_gives_the_same_bits(config: ModelConfig, clear: Dataset) -> None:
    training = TrainingConfig(batch_size=200, max_epochs=1, dropout=0.2, threads=1)
    first, second = (weights_of(_fit(config, clear, training)[0].model) for _ in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_another_seed_gives_other_weights(clear: Dataset) -> None:
    one, two = (
        weights_of(_fit(CONFIGS[1], clear, TrainingConfig(max_epochs=1, threads=1, seed=s))[0].model) for s in (1, 2)
    )
    assert not np.array_equal(one["out.linear.weight"], two["out.linear.weight"])


def test_reports_and_result_hold_the_best_evaluation(clear: Dataset) -> None:
    fitted, reports = _fit(CONFIGS[3], clear)
    aucs = {report.step: report.valid_auc for report in reports if report.step % 30 == 0}
    assert fitted.best_step in aucs and fitted.valid_auc == max(aucs.values())
    assert auc(clear.valid.labels, predict(fitted.model, clear.valid)) == fitted.valid_auc
    assert [report.steps for report in reports] == [180] * len(reports)
    assert reports[-1].step == fitted.steps == 180 and fitted.epochs == 3


def test_training_stops_when_patience_is_spent(clear: Dataset) -> None:
    wild = TrainingConfig(
        batch_size=50, max_epochs=50, evaluations=2, patience=2, dense_lr=0.1, embedding_lr=1.0, threads=1
    )
    fitted, reports = _fit(CONFIGS[3], clear, wild)
    assert fitted.steps == fitted.best_step + 2 * 30 < 50 * 60
    later = [report.valid_auc for report in reports if report.step > fitted.best_step and report.step % 30 == 0]
    assert len(later) == 2 and max(later) <= fitted.valid_auc


def test_early_stopping_restores_the_best_weights() -> None:
    model = torch.nn.Linear(2, 1)
    stopping = EarlyStopping(model)
    for step, value in enumerate((0.6, 0.8, 0.7, 0.8), start=1):
        model.weight.data.fill_(step)
        stopping.observe(value, step)
    assert (stopping.best_auc, stopping.best_step, stopping.stale) == (0.8, 2, 2)
    stopping.restore()
    assert model.weight.data.unique().tolist() == [2.0]


def test_samples_without_a_label_teach_nothing(clear: Dataset) -> None:
    """Turning every second label to NaN equals leaving those samples out of the split's labels altogether."""
    poisoned = clear.train.labels.copy()
    poisoned[::2] = np.nan
    split = Split(
        *(getattr(clear.train, name) for name in ("user", "item", "history", "history_offsets", "user_of")),
        labels=poisoned,
        groups=clear.train.groups,
    )
    dataset = Dataset(name="p", schema=SCHEMA, train=split, valid=clear.valid, test=clear.test, fingerprint="p")
    fitted, reports = _fit(CONFIGS[3], dataset)
    assert reports[-1].steps == 90
    assert all(np.isfinite(report.loss) for report in reports) and fitted.valid_auc > 0.85


def test_the_padding_row_ends_at_zero_and_not_in_the_slow_range_below_it(clear: Dataset) -> None:
    """Only ``embedding_l2`` moves the row: it shrinks step by step and would be stuck at some 1e-45."""
    training = dataclasses.replace(QUICK, max_epochs=6, patience=12, embedding_l2=1e-2, batch_size=20)
    for name, array in weights_of(_fit(CONFIGS[1], clear, training)[0].model).items():
        assert not np.any((array != 0) & (np.abs(array) < np.finfo(np.float32).tiny)), name


def test_loss_is_the_cross_entropy(mixed: Schema, mixed_split: Split) -> None:
    model = build_model(CONFIGS[0], mixed)
    raw, labels = to_tensors(mixed_split.batch(np.arange(7))), torch.from_numpy(mixed_split.labels)
    p = model.score(raw).detach().numpy().astype(np.float64)
    y = mixed_split.labels
    wanted = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert training_loss(model, model.training_input(raw), labels).item() == pytest.approx(wanted, abs=1e-6)


def test_dien_adds_its_weighted_auxiliary_loss(clear: Dataset) -> None:
    raw = to_tensors(clear.train.training_batch(np.arange(40)))._replace(user_of=None)
    labels = torch.from_numpy(clear.train.labels[:40])
    places = np.random.default_rng(0).integers(0, len(clear.train.history), len(raw.history))
    model = build_model(CONFIGS[2], SCHEMA)
    given = model.training_input(raw, torch.from_numpy(clear.train.history[places]))
    both = training_loss(model, given, labels).item()
    model.auxiliary_weight = 0.0
    alone = training_loss(model, given, labels).item()
    assert both - alone == pytest.approx(2 * np.log(2), abs=0.15)  # an untrained net says one half to everything
    with pytest.raises(ValueError, match="pass negatives"):
        model.training_input(raw)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_predictions_do_not_depend_on_chunks_or_mode(config: ModelConfig, clear: Dataset) -> None:
    model = build_model(config, SCHEMA)
    model.train()
    got = predict(model, clear.test)
    assert model.training and model.expand_first
    model.eval()
    with torch.no_grad():
        pieces = [model.score(to_tensors(clear.test.batch(np.arange(k, k + 10)))) for k in range(0, 1000, 10)]
    np.testing.assert_allclose(got, torch.cat(pieces), atol=1e-6)
