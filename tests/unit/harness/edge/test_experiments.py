"""An experiment that is a sweep runs as the command line that it stands for."""

from __future__ import annotations

from pathlib import Path

from harness.edge.config import CONF, plan_runs
from harness.edge.experiments import GROUP, with_sweep

SWEEP = "hydra: {sweeper: {params: {model: 'wdl,din', seed: 'range(1,3)'}}}\nplan: best\n"


def test_what_the_file_sweeps_stands_behind_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "both.yaml").write_text(SWEEP)
    (tmp_path / "plain.yaml").write_text("plan: best\n")
    assert with_sweep(["experiment=both"], tmp_path) == ["experiment=both", "model=wdl,din", "seed=range(1,3)"]
    assert with_sweep(["seed=7", "experiment=both"], tmp_path) == ["seed=7", "experiment=both", "model=wdl,din"]
    for unswept in (["experiment=plain"], ["experiment=nowhere"], ["model=wdl", "opt=[fusion,bf16]"], []):
        assert with_sweep(unswept, tmp_path) == unswept


def test_the_matrix_of_backends_has_every_cell_by_its_best_plan() -> None:
    def cells(*overrides: str) -> dict[tuple[str, str], bool]:
        runs = plan_runs(with_sweep(["experiment=backends", *overrides], CONF / GROUP), multirun=True)
        return {(run["model"]["name"], run["backend"]): run["plan"] == "best" for run in runs}

    every = cells()
    assert len(every) == 16 and all(every.values())
    assert set(cells("backend=torch,openvino", "model=dien")) == {("dien", "torch"), ("dien", "openvino")}
