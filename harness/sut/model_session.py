"""From a model's spec to a warm session, inside the system under test: the only place where a framework is loaded."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.backends.catalogue import load_backend
from harness.backends.protocol import LoweringContext, Predict, Session
from harness.host.scheduling import available_cores
from harness.sut.batching import cut_batch
from harness.sut.pipelined_parts import PipelinedParts
from harness.sut.steps import Steps
from harness.transport.wire import decode, encode
from optimizations.contract import Dispatch, Pipeline
from optimizations.plan import plan_from_json
from zoo.checkpoint import load_weights
from zoo.configs import model_config
from zoo.frequencies import load_frequencies
from zoo.schema import Batch, Float32, Schema

WARM_SIZES = (100, 64, 32, 16, 8, 4, 2, 1)
WARM_ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSession:
    """A warm model. report: {"plan": the session's report per step, "workers": queries at a time, "threads": within
    one query}."""

    steps: Steps
    pipeline: Pipeline
    report: dict[str, Any]


def open_model(spec: Mapping[str, Any]) -> ModelSession:
    """Lower and warm the model of ``spec``.

    spec: "plan" and "schema" (their JSON), "model" (sizes with "name"), "weights" (path), "calibration" (path of one
    payload: unlabelled rows of the training split), "cache_dir" (folder for its builds); "graph" (path, or none: of
    what the weights were exported to; they are not read then); "frequencies" (path, or none: of how often the training
    split looks each row up); for a plan under executor=auto "query_sizes" and "sla" of the trial, too. Raises whatever
    the backend or the files raise.
    """
    plan, cores = plan_from_json(spec["plan"]), len(available_cores())
    graph = Path(spec["graph"]) if spec.get("graph") else None
    calibration = decode(Path(spec["calibration"]).read_bytes())
    context = LoweringContext(
        schema=Schema.from_json(spec["schema"]),
        config=model_config(spec["model"]["name"], spec["model"]),
        weights=load_weights(Path(spec["weights"])) if graph is None else {},
        calibration=calibration,
        cache_dir=Path(spec["cache_dir"]),
        device=plan.pipeline.device,
        threads=cores,
        frequencies=load_frequencies(Path(spec["frequencies"])) if spec.get("frequencies") else None,
        graph=graph,
    )
    backend, dispatch = load_backend(plan.pipeline.backend), plan.pipeline.dispatch
    built: dict[str, Any] = {}
    if plan.pipeline.runtime.undecided:
        from harness.sut.executor_choice import Load, choose_executor, with_setting

        choice = choose_executor(
            plan, lambda tried: steps_of(backend.lower(tried, context), dispatch), calibration, Load.of(spec), cores
        )
        plan, built = with_setting(plan, choice.setting), choice.report()
    runtime = plan.pipeline.runtime.on(cores)
    plan = dataclasses.replace(plan, pipeline=dataclasses.replace(plan.pipeline, runtime=runtime))
    session = backend.lower(plan, context)
    steps = steps_of(session, dispatch)
    warm_up(predict_of(steps), calibration, dispatch.batch)
    lines = json.loads(json.dumps(session.report))
    for step, line in zip(plan.steps, lines, strict=True):
        if built and "runtime.executor" in step.claims:
            line["built"] = built
    report = {"plan": lines, "workers": runtime.workers, "threads": runtime.threads}
    return ModelSession(steps=steps, pipeline=plan.pipeline, report=report)


def steps_of(session: Session, dispatch: Dispatch) -> Steps:
    """The steps of a lowered model, of queries in pipelined parts where the plan says so, and in their slots where
    nothing is to be done with a query but to score it."""
    bind = session.bind if dispatch.as_they_come else None
    whole = Steps(look_up=session.look_up, compute=session.compute, bind=bind)
    if dispatch.parts == 1:
        return whole
    pipelined = PipelinedParts(whole, dispatch.parts)
    return Steps(look_up=pipelined.look_up, compute=pipelined.compute)


def predict_of(steps: Steps) -> Predict:
    """How queries will be scored: from a payload, where that is so."""
    bind = steps.bind
    if bind is None:
        return steps.predict

    def predict(batch: Batch) -> Float32:
        payload, scores = encode(batch), np.empty(len(batch), np.float32)
        given = bind(memoryview(payload), scores.data)(len(payload))
        return steps.predict(batch) if given < 0 else scores[:given]

    return predict


def warm_up(predict: Predict, calibration: Batch, merged: int) -> None:
    """Run every size of query through ``predict``, largest first: samples of one user, as they are served, and of
    many users where the dispatcher merges. Raises ValueError when an answer is not one finite score per sample."""
    for batch in warm_batches(calibration, merged):
        for _ in range(WARM_ROUNDS):
            scores = predict(batch)
            if scores.shape != (len(batch),) or not np.isfinite(scores).all():
                raise ValueError(f"the warm-up of {len(batch)} samples got {scores.shape} scores, or not finite ones")


def warm_batches(calibration: Batch, merged: int) -> Iterator[Batch]:
    """Batches of ``WARM_SIZES`` samples of one user each; with ``merged`` > 1 as many samples of many users, too."""
    one = cut_batch(calibration, 0, 1)
    for size in WARM_SIZES:
        if merged > 1:
            yield cut_batch(calibration, 0, min(size, len(calibration)))
        items = calibration.item.take(np.arange(size) % len(calibration))
        yield Batch(one.user, items, one.history, one.history_offsets, np.zeros(size, np.int64))
