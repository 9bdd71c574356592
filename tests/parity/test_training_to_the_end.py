"""The baseline that is timed to an AUC is the fit loop: on one thread both keep the same weights, to the last bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from harness.backends.torch_training import lower_training
from harness.sut import training_server
from harness.sut.scoring_server import Scorer as ScoringServer
from harness.sut.training_server import Training
from harness.training.scorer import SCORER, Scorer
from harness.training.spec import TrainingPlan, seeds_of
from harness.training.to_auc import ToTheEnd
from optimizations.plan import first_pipeline, resolve
from zoo.configs import DlrmConfig, ModelConfig
from zoo.datasets import load_dataset
from zoo.fitting import fit
from zoo.prediction import predict
from zoo.schema import Dataset
from zoo.split_file import write_split
from zoo.stand_ins import packed_recurrences, standing_in
from zoo.training_config import TrainingConfig

CONFIG = DlrmConfig(embedding_dim=4, bottom_units=(8, 4), top_units=(8,))


class HereSides:
    """``harness.training.sides.TrainingSides`` without processes: the servers' own commands, called."""

    def __init__(self) -> None:
        self.servers: dict[str, Any] = {}

    def start(self, name: str, spec: dict[str, Any], command: tuple[str, ...] = ()) -> None:
        self.servers[name] = ScoringServer(spec) if name == SCORER else Training(spec)

    def stop(self, name: str) -> None:
        del self.servers[name]

    def order(self, name: str, command: str, **values: Any) -> int:
        server = self.servers[name]
        if name == SCORER:
            return {"begin": server.begin, "score": server.score}[command](values)
        if command == "train":
            return server.session.train(values["steps"])
        return {"keep": lambda: server._write(values, server.session.kept()), "again": lambda: server._again(values)}[
            command
        ]()

    def freeze(self, name: str) -> None:
        """Nothing runs here by itself."""

    def thaw(self, name: str) -> None:
        """Nothing runs here by itself."""

    def cpu_ns(self, name: str) -> int:
        return 0

    def liberties(self, name: str) -> tuple[str, ...]:
        return ()


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setattr(training_server, "available_cores", lambda: (0,))
    monkeypatch.setattr(training_server, "load_train_backend", lambda name: Mock(lower_training=lower_training))
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def plan_of(dataset: Dataset, config: ModelConfig, training: TrainingConfig, seeds: int) -> TrainingPlan:
    first = first_pipeline(config, dataset.schema, "torch", "cpu", "train")
    return TrainingPlan(
        trial=Mock(),
        dataset=dataset,
        config=config,
        training=training,
        plans={"baseline": resolve(first, {}, frozenset())},
        split=dataset.train,
        weights=None,
        cache_dir=Path("unused"),
        seeds=seeds_of(training.seed, seeds),
    )


def test_the_baseline_is_the_fit_loop(tmp_path: Path) -> None:
    dataset = load_dataset("planted", {"shape": "pointwise", "size": "tiny"}, tmp_path)
    training = TrainingConfig(
        batch_size=400, max_epochs=2, evaluations=2, patience=2, embedding_lr=0.5, dense_lr=0.02, seed=5, threads=1,
    )  # fmt: skip
    what, sides = plan_of(dataset, CONFIG, training, 2), HereSides()
    write_split(tmp_path / "train.npz", dataset.train)
    trained = ToTheEnd(
        what=what,
        folder=tmp_path,
        split=tmp_path / "train.npz",
        sides=sides,  # type: ignore[arg-type]
        scorer=Scorer(what, tmp_path, sides, []),  # type: ignore[arg-type]
        observer=Mock(),
        target=2.0,
        store=Mock(find=lambda seed: None),
    )
    for seed in what.seeds:
        trained.train(seed, len(dataset.train))
        fitted = fit(CONFIG, dataset, dataclasses.replace(training, seed=seed), lambda _: None)
        rows = [row for row in trained.rows if row.seed == seed and row.decides]
        assert rows[-1].step == fitted.steps
        torch.set_flush_denormal(True)
        layers = packed_recurrences(fitted.model, CONFIG, dataset.schema).layers
        with standing_in(fitted.model, layers):
            scores = predict(fitted.model, dataset.test)
        np.testing.assert_array_equal(trained.scores["baseline", seed], scores)
        assert max(row.valid_auc for row in rows) == fitted.valid_auc
    assert not list(tmp_path.glob("baseline-*")) and not list(tmp_path.glob("start-*"))
