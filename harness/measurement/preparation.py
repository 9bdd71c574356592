"""Everything that is settled before a system under test starts: data, sizes, weights, and the plans of both sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from harness.backends.catalogue import BACKENDS, Graph
from harness.backends.peers.catalogue import peer_named, same_weights, setting_named
from harness.backends.peers.plans import peer_plan
from harness.console.observer import Observer
from harness.errors import ConfigurationError
from harness.estimate.accuracy import answer_tolerance, labelled
from harness.host.environment import capabilities
from harness.measurement.graphs import ensure_graph, ensure_quantized
from harness.measurement.peer_models import ensure_peer_model
from harness.measurement.weights import ensure_weights, in_copies
from harness.options import RunOptions
from harness.trial import Trial
from optimizations.contract import Plan, Scope
from optimizations.plan import first_pipeline, resolve
from zoo.configs import ModelConfig, model_config
from zoo.datasets import load_dataset
from zoo.schema import Dataset

BASELINE, CANDIDATE = "baseline", "candidate"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What both sides share, and the plan of each. ``plans`` has no candidate for ``opt=[]``.

    weights: the file that is served. trained: the one that training left, or the user's own; ``weights`` itself, but
    for tables in copies. graphs: by side, what ``weights`` were exported to; None where a backend serves no graph.
    own: by side, the file of a peer that brings a model of its own.
    """

    trial: Trial
    dataset: Dataset
    config: ModelConfig
    weights: Path
    trained: Path
    plans: dict[str, Plan]
    graphs: Mapping[str, Path | None] = field(default_factory=dict)
    own: Mapping[str, Path] = field(default_factory=dict)

    def served_by(self, side: str) -> Path:
        """The file of the weights that ``side`` serves."""
        return self.own.get(side, self.weights)


def resolve_plans(trial: Trial, config: ModelConfig, dataset: Dataset) -> dict[str, Plan]:
    """Plan of the baseline, and of the candidate where the trial has one. ConfigurationError as one text."""
    return {side: _plan(one, config, dataset) for side, one in sides_of(trial).items()}


def sides_of(trial: Trial) -> dict[str, Trial]:
    """The sides that are measured, both or the baseline alone, each as a trial of its own."""
    sides = {BASELINE: trial.baseline()}
    return {**sides, CANDIDATE: trial.candidate()} if trial.compares else sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a trial is about, in either scope: its data, and the plan of each side."""

    dataset: Dataset
    config: ModelConfig
    plans: dict[str, Plan]


def load_and_plan(trial: Trial, options: RunOptions, observer: Observer) -> Planned:
    """Load the data and resolve the plans: bad ones end here, before anything is trained."""
    observer.stage(f"data set {trial.dataset}", total=1.0, unit="")
    config = _checked(lambda: model_config(trial.model, trial.sizes))
    dataset = _checked(lambda: load_dataset(trial.dataset, trial.dataset_options, options.cache_dir, _share(observer)))
    return Planned(dataset=dataset, config=config, plans=resolve_plans(trial, config, dataset))


def prepare(trial: Trial, options: RunOptions, observer: Observer) -> Prepared:
    """Load the data, resolve the plans, then find the weights and what they are exported to."""
    planned = load_and_plan(trial, options, observer)
    config, dataset, plans = planned.config, planned.dataset, planned.plans
    check_verdict(dataset, plans)
    trained = ensure_weights(trial, config, dataset, options, observer)
    weights = in_copies(trial, config, dataset, trained, options, observer)
    graphs, own = {}, {}
    for side, one in sides_of(trial).items():
        graph = ensure_graph(
            form_of(one),
            config,
            dataset.schema,
            weights,
            options.cache_dir,
            observer,
            expand_first=plans[side].pipeline.expand == "first",
        )
        if graph is not None and one.peer:
            graph = ensure_quantized(graph, setting_named(one.peer["name"], one.peer["settings"]), observer)
        graphs[side] = graph
        if not same_weights(one.peer):
            own[side] = ensure_peer_model(one, config, dataset, options, observer)
    return Prepared(
        trial=trial,
        dataset=dataset,
        config=config,
        weights=weights,
        trained=trained,
        plans=plans,
        graphs=graphs,
        own=own,
    )


def check_verdict(dataset: Dataset, plans: Mapping[str, Plan]) -> None:
    """What leaves the gate without a verdict is known before anything is measured. Raises ConfigurationError."""
    (labels,) = _checked(lambda: labelled(dataset.test.labels))
    if len(np.unique(labels)) < 2:
        raise ConfigurationError(
            f"dataset={dataset.name}: the {len(labels)} labels of the test split are not of both kinds, which an AUC "
            "needs; use more of the data set"
        )
    dtypes = {block.dtype for plan in plans.values() for block in plan.pipeline.blocks}
    _checked(lambda: answer_tolerance(dtypes))


def form_of(trial: Trial) -> Graph | None:
    """The form of the exported graph that one side serves; None where it is built from weights."""
    return peer_named(trial.peer["name"]).graph if trial.peer else BACKENDS[trial.backend].graph


def _plan(trial: Trial, config: ModelConfig, dataset: Dataset) -> Plan:
    def build() -> Plan:
        if trial.peer:
            return peer_plan(trial.peer, config, dataset.schema, capabilities())
        scope: Scope = "train" if trial.scope == "train" else "serve"
        first = first_pipeline(config, dataset.schema, trial.backend, trial.device, scope)
        return resolve(first, trial.opts, capabilities())

    return _checked(build)


def _checked(action: Callable[[], T]) -> T:
    """Bad input below the harness is a ValueError; a user sees it as a configuration error."""
    try:
        return action()
    except ConfigurationError:
        raise
    except (ValueError, FileNotFoundError) as error:
        raise ConfigurationError(str(error)) from error


def _share(observer: Observer) -> Callable[[str, float], None]:
    """Progress of a reader as shares of the stage."""
    seen = 0.0

    def report(note: str, share: float) -> None:
        nonlocal seen
        observer.advance(max(0.0, share - seen), note)
        seen = max(seen, share)

    return report
