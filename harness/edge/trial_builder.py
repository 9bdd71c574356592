"""From a composed configuration (plain values, no Hydra) to a frozen ``Trial`` and its ``RunOptions``."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.backends.catalogue import BACKENDS, require_backend, require_weights
from harness.edge.peer_choice import check_peer_choice, peer_of, require_comparable
from harness.edge.plugin_packages import require_packages
from harness.edge.settings import ScenarioSettings, Settings, nearest, read_settings, refuse_unknown, strict
from harness.edge.training_choice import TO_AUC, check_gate, check_training, to_auc
from harness.errors import ConfigurationError
from harness.host.environment import capabilities
from harness.measurement.idle_cores import keeps_awake
from harness.options import Budget, RunOptions, budget_named, require_counted
from harness.record.reader import file_sha256
from harness.traffic import query_sizes
from harness.trial import Sla, Trial
from optimizations.best_plans import TRAINING, best_plan
from optimizations.contract import Optimization, PlanError, Scope
from optimizations.plan import available, check_fits
from zoo.configs import MODELS, NEEDS_HISTORY
from zoo.datasets import DATASETS, fingerprint
from zoo.training_config import TrainingConfig, training_config

MODEL_EXTRAS = ("name", "weights", "default_sla_ms")
DEVICES = ("cpu", "cuda")


def build(config: Mapping[str, Any]) -> tuple[Trial, RunOptions]:
    """Check everything that can be checked before any work. Raises ConfigurationError, one paragraph each."""
    settings = read_settings(config)
    check_peer_choice(settings)
    options = _run_options(settings)
    model = _known("model", settings.model.get("name"), MODELS)
    dataset = _known("dataset", settings.dataset.get("name"), DATASETS)
    dataset_options = _dataset_options(settings.dataset, model)
    trial = Trial(
        model=model,
        sizes=_sizes(settings.model, model),
        dataset=dataset,
        dataset_options=dataset_options,
        dataset_fingerprint=_fingerprint(dataset, dataset_options, options.cache_dir),
        training=_training(settings.training, model, dataset),
        weights=_weights_sha256(options.weights_file),
        backend=_known("backend", settings.backend, BACKENDS),
        device=_device(settings.device),
        scope=settings.scope,
        opts=_opts(_chosen(settings, model, users=DATASETS[dataset].users)),
        scenario=settings.scenario.name,
        query_sizes=_query_sizes(settings.scenario.query_sizes),
        sla=_sla(settings),
        seed=settings.seed,
        budget=options.budget.name,
        rate_qps=_rate_qps(settings.scenario),
        **to_auc(settings.training, settings.scope, options.weights_file),
        peer=peer_of(settings),
    )
    if trial.scope == "train":
        check_training(trial, settings, options.budget)
    _check_opts(trial, settings.scope)
    require_packages(trial.opts)
    if trial.scope == "train":
        check_gate(trial)
    require_backend(trial.backend, trial.device)
    require_weights(trial.backend, options.weights_file)
    if trial.peer:
        require_comparable(trial)
    if options.budget.certificate_s and trial.scenario != "server":
        raise ConfigurationError(
            f"budget={options.budget.name} scenario={trial.scenario}: a certificate is for a rate that is held, so it "
            "needs scenario=server; use budget=standard here"
        )
    return trial, options


def default_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/recarena``, or ``~/.cache/recarena``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recarena"


def _run_options(settings: Settings) -> RunOptions:
    weights = settings.model.get("weights")
    if weights is not None and not Path(str(weights)).is_file():
        raise ConfigurationError(f"model.weights={weights}: there is no such file; give the path of your checkpoint")
    budget = _budget(settings.budget)
    if settings.scope == "serve":
        require_counted(budget)
    return RunOptions(
        budget=budget,
        records_dir=Path(settings.records_dir).absolute(),
        cache_dir=Path(settings.cache_dir).absolute() if settings.cache_dir else default_cache_dir(),
        tracking_uri=settings.tracking.uri or None,
        weights_file="" if weights is None else str(Path(str(weights)).absolute()),
        keep_awake=keeps_awake(str(settings.keep_awake)) and settings.scope == "serve",
        resume=settings.resume,
    )


def _budget(section: Mapping[str, Any]) -> Budget:
    name, changes = str(section.get("name")), {key: value for key, value in section.items() if key != "name"}
    base = budget_named(name)
    strict(Budget, {**dataclasses.asdict(base), **section}, "budget")
    return budget_named(name, changes)


def _sizes(section: Mapping[str, Any], model: str) -> dict[str, Any]:
    kind = MODELS[model]
    refuse_unknown("model", section, {f.name for f in dataclasses.fields(kind)} | {*MODEL_EXTRAS})
    given = {key: value for key, value in section.items() if key not in ("weights", "default_sla_ms")}
    sizes = dataclasses.asdict(strict(kind, given, "model"))
    for key, value in sizes.items():
        counts = [n for n in (value if isinstance(value, tuple) else (value,)) if isinstance(n, (int, float))]
        if any((isinstance(n, int) and n < 1) or n < 0 for n in counts):
            raise ConfigurationError(f"model.{key}={given[key]}: a size must be at least 1, a weight at least 0")
    return {key: list(value) if isinstance(value, tuple) else value for key, value in sizes.items() if key != "name"}


def _dataset_options(section: Mapping[str, Any], model: str) -> dict[str, Any]:
    chosen = {key: value for key, value in section.items() if key != "name"}
    if chosen.get("shape") == "auto":
        chosen["shape"] = "sequence" if model in NEEDS_HISTORY else "pointwise"
    return chosen


def _fingerprint(dataset: str, options: Mapping[str, Any], cache_dir: Path) -> str:
    try:
        return fingerprint(dataset, options, cache_dir)
    except (ValueError, OSError) as error:
        raise ConfigurationError(str(error)) from error


def _training(section: Mapping[str, Any], model: str, dataset: str) -> dict[str, Any]:
    changes = {key: value for key, value in section.items() if value is not None and key not in TO_AUC}
    strict(TrainingConfig, changes, "training")
    return dataclasses.asdict(training_config(model, changes, dataset))


def _chosen(settings: Settings, model: str, users: bool) -> Mapping[str, Any]:
    """The optimizations of the command line, else those of the experiment."""
    if settings.opt or settings.plan is None:
        return settings.opt
    if settings.plan == TRAINING and settings.scope != "train":
        raise ConfigurationError(
            f"scope={settings.scope} experiment={TRAINING}: its plans are of training; say scope=train, or "
            "experiment=best to serve"
        )
    try:
        return {name: {} for name in best_plan(settings.plan, model, capabilities(), settings.backend, users=users)}
    except PlanError as error:
        raise ConfigurationError(str(error)) from error


def _opts(section: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    try:
        plugins = available()
        return {name: _options_of(plugins, name, given) for name, given in sorted(section.items())}
    except PlanError as error:
        raise ConfigurationError(str(error)) from error


def _options_of(plugins: Mapping[str, Optimization], name: str, given: Any) -> dict[str, Any]:
    spec = plugins[_known("opt", name, plugins)]
    if spec.coming is not None:
        raise ConfigurationError(
            f"opt: {name!r} is a known name without an implementation yet: {spec.coming}; leave it out"
        )
    if given is not None and not isinstance(given, Mapping):
        raise ConfigurationError(f"opt.{name}={given}: the options of an optimization are set one by one, as opt.x.y=z")
    return dict(dataclasses.asdict(strict(spec.options, given or {}, f"opt.{name}")))


def _check_opts(trial: Trial, scope: Scope) -> None:
    """Whether the optimizations go together on backend, device and scope: known before there are data."""
    try:
        check_fits(trial.backend, trial.device, scope, trial.opts)
    except PlanError as error:
        raise ConfigurationError(str(error)) from error


def _sla(settings: Settings) -> Sla:
    default_ms = settings.model.get("default_sla_ms")
    if isinstance(default_ms, bool) or not isinstance(default_ms, (int, float)) or not default_ms > 0:
        raise ConfigurationError(f"model.default_sla_ms={default_ms} must be a latency limit above 0 milliseconds")
    scenario = settings.scenario
    return Sla(limit_ms=float(scenario.limit_ms(float(default_ms))), percentile=scenario.checked_percentile())


def _query_sizes(name: str) -> str:
    query_sizes.pmf(name)
    return name


def _rate_qps(scenario: ScenarioSettings) -> float:
    rate = float(scenario.checked_rate_qps())
    if rate and importlib.util.find_spec("mlperf_loadgen") is None:
        raise ConfigurationError(
            "scenario=mlperf_server: MLPerf LoadGen is not installed; pip install 'recarena[mlperf]', or say "
            "scenario=server"
        )
    return rate


def _device(name: str) -> str:
    _known("device", name, DEVICES)
    if name == "cuda" and "cuda" not in capabilities():
        raise ConfigurationError("device=cuda: this machine shows no NVIDIA device; use device=cpu")
    return name


def _weights_sha256(path: str) -> str:
    return file_sha256(Path(path)) if path else ""


def _known(what: str, name: Any, choices: Mapping[str, Any] | list[str] | tuple[str, ...]) -> str:
    if name not in choices:
        listed = ", ".join(sorted(choices))
        raise ConfigurationError(f"{what}={name} is unknown{nearest(str(name), choices)}; available: {listed}")
    return str(name)
