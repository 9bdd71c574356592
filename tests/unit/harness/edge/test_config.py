"""From the command line to a trial: defaults, overrides, and the paragraph for everything that is wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.backends import catalogue
from harness.backends.catalogue import BACKENDS
from harness.edge.config import CONF, plan_runs
from harness.edge.help import help_page
from harness.edge.training_choice import TO_AUC
from harness.edge.trial_builder import build
from harness.errors import ConfigurationError
from harness.options import BUDGETS
from optimizations.best_plans import best_plan
from optimizations.plan import available
from zoo.configs import MODELS
from zoo.datasets import DATASETS, load_dataset
from zoo.training_config import TrainingConfig, default_training


def trial_of(*overrides):
    (values,) = plan_runs(overrides, multirun=False)
    return build(values)


def read(path):
    return yaml.safe_load((CONF / path).read_text())


def plain(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", sorted(available()))
def test_option_files_mirror_the_plug_ins(name):
    text = (CONF / "opt" / f"{name}.yaml").read_text()
    assert text.startswith(f"# @package opt.{name}\n")
    expected = {key: plain(value) for key, value in dataclasses.asdict(available()[name].options()).items()}
    assert yaml.safe_load(text) == expected


def test_no_option_file_without_a_plug_in():
    assert {p.stem for p in (CONF / "opt").glob("*.yaml")} <= set(available())


@pytest.mark.parametrize("name", sorted(MODELS))
def test_model_files_mirror_the_sizes(name):
    values = read(f"model/{name}.yaml")
    extras = {key: values.pop(key) for key in ("weights", "default_sla_ms")}
    assert values == {key: plain(value) for key, value in dataclasses.asdict(MODELS[name]()).items()}
    assert extras == {"weights": None, "default_sla_ms": {"wdl": 25, "dlrm": 25, "din": 50, "dien": 100}[name]}


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_dataset_files_mirror_the_options(name):
    values = read(f"dataset/{name}.yaml")
    expected = {"name": name, **dataclasses.asdict(DATASETS[name].options_type())}
    if name == "planted":
        expected["shape"] = "auto"
    assert values == expected


@pytest.mark.parametrize("name", sorted(BUDGETS))
def test_budget_files_mirror_the_budgets(name):
    (values,) = plan_runs([f"budget={name}"], multirun=False)
    assert values["budget"] == dataclasses.asdict(BUDGETS[name])


def test_training_section_lists_every_setting():
    settings = [field.name for field in dataclasses.fields(TrainingConfig)]
    assert read("config.yaml")["training"] == dict.fromkeys([*TO_AUC, *settings])


@pytest.mark.parametrize("flags", [frozenset(), frozenset({"amx_bf16", "amx_int8", "avx512_vnni"})])
@pytest.mark.parametrize("which", ["best", "best_open"])
@pytest.mark.parametrize("model", sorted(MODELS))
def test_the_best_plan_depends_on_model_and_processor(monkeypatch, model, which, flags):
    """It is the trial that its list of optimizations makes, and "best" leaves the closed division for no model."""
    monkeypatch.setattr("harness.edge.trial_builder.capabilities", lambda: flags)
    trial, _ = trial_of(f"experiment={which}", f"model={model}")
    named = best_plan(which, model, flags)
    assert trial == trial_of(f"model={model}", f"opt=[{','.join(named)}]")[0]
    assert ("bf16" in named) <= ("amx_bf16" in flags)
    if which == "best":
        assert all(available()[name].division == "closed" for name in named)


@pytest.mark.parametrize("name", sorted(p.stem for p in (CONF / "experiment").glob("*.yaml")))
def test_every_experiment_builds(name):
    trial, _ = trial_of(f"experiment={name}")
    assert trial.trial_id == trial_of(f"experiment={name}")[0].trial_id


def test_big_tables_hold_more_than_any_cache():
    trial, _ = trial_of("experiment=big_tables", "opt=[fusion]")
    few = {**trial.dataset_options, "train_users": 2, "valid_users": 1, "test_users": 1}
    rows = sum(load_dataset(trial.dataset, few, Path("unused")).schema.tables().values())
    assert trial.model == "dlrm" and rows * trial.sizes["embedding_dim"] * 4 > 1.5e9


def test_defaults():
    trial, options = trial_of()
    assert (trial.model, trial.dataset, trial.opts, trial.scenario) == ("dien", "planted", {}, "server")
    assert (trial.sla.limit_ms, trial.sla.percentile, trial.query_sizes) == (100.0, 99.0, "heavy")
    assert trial.dataset_options["shape"] == "sequence"
    assert trial.sizes["hidden_units"] == 36 and "name" not in trial.sizes and trial.weights == ""
    assert trial.training == dataclasses.asdict(default_training("dien"))
    assert options.budget == BUDGETS["quick"] and trial.budget == "quick"
    assert options.tracking_uri == "sqlite:///mlflow.db"
    assert options.records_dir == Path("records").absolute()


@pytest.mark.parametrize(
    ("overrides", "limit_ms"),
    [
        (("model=wdl",), 25.0),
        (("model=dlrm", "scenario.sla_level=low"), 12.5),
        (("model=din", "scenario.sla_level=high"), 75.0),
        (("model=dien", "scenario.sla_ms=7"), 7.0),
    ],
)
def test_latency_limits(overrides, limit_ms):
    assert trial_of(*overrides)[0].sla.limit_ms == limit_ms


def test_planted_shape_follows_the_model_unless_told():
    assert trial_of("model=dlrm")[0].dataset_options["shape"] == "pointwise"
    assert trial_of("model=din")[0].dataset_options["shape"] == "sequence"
    assert trial_of("model=wdl", "dataset.shape=sequence")[0].dataset_options["shape"] == "sequence"


def test_order_of_optimizations_and_spelled_out_defaults_do_not_change_the_trial():
    ids = {
        trial_of("opt=[fusion,bf16]")[0].trial_id,
        trial_of("opt=[bf16,fusion]")[0].trial_id,
        trial_of("opt=[bf16,fusion]", "opt.fusion.fc=true", "seed=1", "budget.quads=6")[0].trial_id,
    }
    assert len(ids) == 1


@pytest.mark.parametrize(
    "override", ["seed=2", "opt.fusion.fc=false", "scenario.sla_ms=99", "dataset.seed=2", "model.top_units=[200,81]",
                 "training.dropout=0.1", "scenario.query_sizes=fixed:32", "budget=smoke", "budget.quads=7"],
)  # fmt: skip
def test_whatever_is_measured_differently_is_another_trial(override):
    assert trial_of("opt=[fusion]", override)[0].trial_id != trial_of("opt=[fusion]")[0].trial_id


def test_a_backend_is_part_of_the_trial_and_has_to_be_installed(monkeypatch):
    monkeypatch.setattr(catalogue, "missing_packages", lambda name: [])
    trial, _ = trial_of("backend=onnxruntime", "opt=[executor]")
    assert trial.backend == "onnxruntime" == trial.baseline().backend
    assert trial.trial_id != trial_of("opt=[executor]")[0].trial_id
    monkeypatch.setattr(catalogue, "missing_packages", lambda name: [] if name == "torch" else ["onnx"])
    with pytest.raises(ConfigurationError, match=r"pip install 'recarena\[onnx\]', or say backend=torch"):
        trial_of("backend=onnxruntime")
    assert trial_of()[0].backend == "torch"


@pytest.mark.parametrize("override", ["records_dir=elsewhere", "tracking=none", "cache_dir=/tmp/elsewhere"])
def test_where_the_answer_goes_is_not_part_of_the_trial(override):
    assert trial_of(override)[0].trial_id == trial_of()[0].trial_id


def test_a_changed_budget_carries_its_changes():
    trial, options = trial_of("budget=smoke", "budget.quads=3", "budget.segment_s=2")
    assert trial.budget == "smoke,quads=3,segment_s=2"
    assert (options.budget.quads, options.budget.segment_s, options.budget.search_s) == (
        3,
        2,
        BUDGETS["smoke"].search_s,
    )


@pytest.mark.parametrize("key", ["search_s", "segment_s", "latency_s"])
def test_a_stretch_of_load_of_which_nothing_counts_is_refused(key):
    with pytest.raises(ConfigurationError, match=f"budget.settle_s=0.5 budget.{key}=0.5: the first 1 s of load"):
        trial_of("budget=smoke", f"budget.{key}=0.5")
    assert trial_of("budget=smoke", f"budget.{key}=0.6")[1].budget.settle_s == 0.5
    assert trial_of("scope=train", "budget=smoke", f"budget.{key}=0.2")[1].budget.name == f"smoke,{key}=0.2"


def test_seeds_and_a_target_are_the_trials_and_no_setting_of_the_fit_loop():
    trial, _ = trial_of("scope=train", "training.seeds=5", "training.target_auc=0.74", "training.batch_size=64")
    assert (trial.train_seeds, trial.target_auc, trial.training["batch_size"]) == (5, 0.74, 64)
    assert not {"seeds", "target_auc"} & set(trial.training)
    plain, _ = trial_of("scope=train")
    assert (plain.train_seeds, plain.target_auc) == (0, None) and plain.trial_id != trial.trial_id


def test_weights_are_known_by_their_content(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"weights")
    trial, options = trial_of(f"model.weights={tmp_path / 'a.npz'}")
    assert trial.weights == hashlib.sha256(b"weights").hexdigest()
    assert options.weights_file == str(tmp_path / "a.npz")


def test_an_experiment_yields_to_the_command_line(tmp_path):
    assert "fusion" in trial_of("experiment=best")[0].opts
    assert set(trial_of("experiment=best", "opt=[bf16]")[0].opts) == {"bf16"}
    (tmp_path / "train.txt").write_text("\t".join(["1", *("3",) * 13, *("68fd1e64",) * 26]) + "\n")
    without_users = trial_of("experiment=best", "model=wdl", "dataset=criteo", f"dataset.path={tmp_path / 'train.txt'}")
    assert set(without_users[0].opts) == set(trial_of("experiment=best", "model=wdl")[0].opts) - {"dedup"}
    trained = trial_of("experiment=best_training")[0]
    assert (trained.scope, set(trained.opts)) == ("train", {"fusion"})
    assert trial_of("experiment=quick_demo", "dataset.size=default")[0].dataset_options["size"] == "default"


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["model=diem"], ["model=diem is unknown", "did you mean 'dien'?", "dien, din, dlrm, wdl"]),
        (["opt=[fusin]"], ["opt=fusin is unknown", "did you mean 'fusion'?", "embedding_tier, executor, fusion"]),
        (["dataset=critoe"], ["dataset=critoe", "did you mean 'criteo'?", "amazon, criteo, movielens, planted"]),
        (["budget=quik"], ["did you mean 'quick'?", "official, quick, smoke, standard"]),
        (["opt=[fusion,fusion]"], ["'fusion' is listed 2 times"]),
        (["opt=[fusion]", "opt.fusion.levl=3"], ["opt.fusion.levl=3", "no option 'levl'", "attention, embedding, fc"]),
        (["opt=[fusion]", "+opt.fusion.zz=1"], ["+opt.fusion.zz=1", "no option 'zz'"]),
        (["opt=[fusion]", "++opt.fusion.zz=1"], ["no option 'zz'"]),
        (["opt=[fusion]", "opt.fusion.attentoin=false"], ["did you mean 'attention'?"]),
        (["opt=[fusion]", "opt.fusion.fc=7"], ["opt.fusion.fc is 7, expected true or false"]),
        (["opt=[fusion]", "opt.fusion=3"], ["opt.fusion"]),
        (["opt=[executor]", "opt.executor.workers=-1"], ["opt.executor", "workers"]),
        (["opt.bf16.fc=false"], ["bf16 is not switched on", "opt=[bf16]"]),
        (["opt=[micro_batch]", "opt.micro_batch.parts=1"], ["opt.micro_batch", "parts must be 2 to 16, got 1"]),
        (["opt=null"], ["opt=[]"]),
        (["opt=[],[fusion]"], ["add -m"]),
        (["model=[din,dien]"], ["model takes one of"]),
        (["model.hiden=3"], ["no option 'hiden'", "did you mean 'hidden_units'?"]),
        (["model.hidden_units=-3"], ["model.hidden_units=-3"]),
        (["model.hidden_units=x"], ["model.hidden_units is 'x', expected a whole number"]),
        (["model.top_units=[200,0]"], ["model.top_units"]),
        (["model.weights=/no/such/file"], ["model.weights=/no/such/file", "no such file"]),
        (["model.name=wdl"], ["model.hidden_units=36 is not an option"]),
        (["scenario.sla_ms=-1"], ["scenario.sla_ms=-1", "above 0"]),
        (["scenario.sla_ms=0"], ["above 0"]),
        (["scenario.sla_ms=inf"], ["scenario.sla_ms=inf"]),
        (["scenario.sla_ms=fast"], ["scenario.sla_ms is 'fast', expected a number"]),
        (["scenario.sla_ms=9", "scenario.sla_level=low"], ["both set the latency limit"]),
        (["scenario.sla_level=tiny"], ["expected one of low, medium, high"]),
        (["scenario=mlperf_server"], ["scenario.rate_qps=None", "scenario=server finds the highest"]),
        (["scenario=mlperf_server", "scenario.rate_qps=0"], ["scenario.rate_qps=0", "above 0"]),
        (["+scenario.rate_qps=50"], ["no option 'rate_qps'"]),
        (["scenario.percentile=100"], ["scenario.percentile=100", "[50, 100)"]),
        (["scenario.query_sizes=hvy"], ["scenario.query_sizes='hvy'", "fixed:N"]),
        (["scenario.query_sizes=fixed:1000"], ["from 1 to 100"]),
        (["training.max_epochs=0"], ["training.max_epochs=0 has to be at least 1"]),
        (["training.lr=1"], ["no option 'lr'", "dense_lr"]),
        (["dataset.size=huge"], ["dataset.size='huge'", "tiny, default, large"]),
        (["dataset=criteo", "dataset.path=/no/such/file"], ["/no/such/file"]),
        (["dataset=movielens"], ["dataset.path"]),
        (["budget.quads=-2"], ["budget.quads=-2 must be above 0"]),
        (["budget.quads=1.5"], ["budget.quads is 1.5, expected a whole number"]),
        (["device=gpu"], ["device=gpu is unknown", "cpu, cuda"]),
        (["backend=trch"], ["backend=trch is unknown", "did you mean 'torch'?", "peer, tensorflow, torch"]),
        (["backend=onnxruntime", "opt=[fusion]"], ["'fusion' cannot", "onnxruntime; it can on: tensorflow, torch"]),
        (["backend=openvino", "opt=[executor]", "opt.executor.mode=inter_op"], ["mode=inter_op", "on: onnxruntime"]),
        (["opt=[embedding_tier]"], ["requires fusion"]),
        (["scope=both"], ["expected one of serve, train"]),
        (["scope=train", "scenario=offline"], ["scope=train scenario=offline", "leave scenario out"]),
        (["scope=train", "budget=official"], ["scope=train budget=official", "use budget=standard"]),
        (["scope=train", "experiment=best"], ["experiment=best:", "best_training", "opt=[micro_batch,stage]"]),
        (["experiment=best_training", "scope=serve"], ["scope=serve experiment=best_training", "say scope=train"]),
        (["experiment=best_training", "backend=onnxruntime"], ["no best plan is known for backend=onnxruntime"]),
        (["scope=train", "dataset.table_copies=3"], ["scope=train dataset.table_copies"]),
        (["training.seeds=3"], ["training.seeds=3", "with scope=train only"]),
        (["training.target_auc=0.7"], ["training.target_auc=0.7", "with scope=train only"]),
        (["scope=train", "training.seeds=0"], ["training.seeds=0", "at least 1"]),
        (["scope=train", "training.seeds=2.5"], ["training.seeds=2.5", "a whole number"]),
        (["scope=train", "training.seeds=3", "training.target_auc=74"], ["training.target_auc=74", "below 1"]),
        (["scope=train", "training.target_auc=0.7"], ["training.target_auc=0.7", "say training.seeds=1"]),
        (["scope=train", "training.seeds=1", f"model.weights={__file__}"], ["leave one of the two out"]),
        (["scope=train", "opt=[bf16]"], ["'bf16' trains with other mathematics", "say training.seeds=5"]),
        (["scope=train", "opt=[bf16]", "training.seeds=2"], ["say training.seeds=5 (at least 3)"]),
        (["scope=train", "opt=[micro_batch]", "training.dropout=0.2"], ["'micro_batch' with training.dropout=0.2"]),
        (["opt=[stage]", "opt.stage.depth=-1"], ["opt.stage", "depth must be 0 (its default) to 64, got -1"]),
        (["seed=-1"], ["seed=-1"]),
        (["resume=yes"], ["resume is 'yes', expected one of auto, quiet, never"]),
        (["sed=1"], ["no option 'sed'", "did you mean 'seed'?"]),
        (["+anything=1"], ["no option 'anything'"]),
        (["+seed=3"], ["seed is there already"]),
        (["~seed"], ["cannot be removed"]),
        (["records_dir=null"], ["records_dir is None, expected text"]),
        (["seed=${nothing}"], ["'nothing' not found"]),
        (["dien"], ["'dien' cannot be read", "KEY=VALUE"]),
        (["opt=[fusion"], ["cannot be read"]),
        (["experiment=bst"], ["did you mean 'best'?"]),
        (["model@other=din"], ["model@other"]),
    ],
)  # fmt: skip
def test_bad_input_is_one_paragraph(overrides, parts):
    with pytest.raises(ConfigurationError) as caught:
        trial_of(*overrides)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    for part in parts:
        assert part in message


def test_sweeps_multiply_and_are_checked_as_a_whole():
    runs = plan_runs(["model=wdl,din", "opt=[],[fusion],[fusion,bf16]", "seed=range(1,3)"], multirun=True)
    seen = {(r["model"]["name"], tuple(sorted(r["opt"])), r["seed"]) for r in runs}
    assert len(runs) == len(seen) == 12
    assert ("din", ("bf16", "fusion"), 2) in seen and ("wdl", (), 1) in seen
    assert [r["model"]["name"] for r in plan_runs(["model=glob(d*)"], multirun=True)] == ["dien", "din", "dlrm"]
    for overrides, part in (
        (["model=wdl,dein"], "model=dein is unknown"),
        (["opt=[],[fusion,fusion]"], "listed 2 times"),
        (["seed=interval(1,2)"], "only lists and ranges"),
    ):
        with pytest.raises(ConfigurationError, match=part):
            plan_runs(overrides, multirun=True)


def test_help_lists_everything_that_can_be_chosen():
    page = help_page()
    names = [*MODELS, *available(), *DATASETS, *BUDGETS, *BACKENDS]
    assert [name for name in names if name not in page] == []
    for spec in (*available().values(), *BACKENDS.values()):
        assert spec.summary in page


def test_help_needs_no_framework():
    code = (
        "import sys; sys.argv = ['run.py', '--help']; import run; assert run.main() == 0\n"
        "heavy = {'torch', 'tensorflow', 'mlflow', 'hydra', 'matplotlib', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CONF.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "python run.py -m" in done.stdout
