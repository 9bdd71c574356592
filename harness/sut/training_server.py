"""A training under test: ``python -m harness.sut.training_server --control FD --parent PID``.

It sees the training split and no other. The first message holds ``spec`` (see ``open_training``); it answers
``{"ready": report}``. Each later message is a command, answered when it is done, with counts alone: when it began and
ended is for the referee to say.

* ``train`` (steps): take the next steps; with ``at``, those from that step of the first epoch on. ``read`` (steps):
  prepare their inputs and forget them. ``hold`` (steps): prepare and keep them. ``compute``: take the steps whose
  inputs are held. Answer: ``{"samples": N}``.
* ``save`` (path): write parameters and buffers. ``keep`` (path): the weights as they are judged and kept.
  ``checkpoint`` (path): write all that a step changes; ``resume`` (path): go on from what another side has written so.
  ``again`` (changes): the training anew, from its start, with these changes of the spec. Answer: ``{"samples": 0}``.

Any exception is sent as ``{"error": traceback}`` and ends the process with code 1.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from harness.backends.catalogue import load_train_backend
from harness.backends.protocol import TrainingContext, TrainSession
from harness.host.child import channel_to_parent
from harness.host.scheduling import available_cores
from harness.sut.error_report import ErrorReport
from harness.sut.threads import SWITCH_INTERVAL_S
from harness.transport.channel import Channel, ChannelClosedError
from optimizations.plan import plan_from_json
from zoo.checkpoint import load_weights, save_weights
from zoo.configs import model_config
from zoo.schema import Schema
from zoo.split_file import map_split
from zoo.training_config import TrainingConfig

Open = Callable[[Mapping[str, Any]], TrainSession]


def open_training(spec: Mapping[str, Any]) -> TrainSession:
    """Lower the training of ``spec``: "plan" and "schema" (their JSON), "model" (sizes with "name"), "training" (all
    settings), "split" (path), "start" (path of the weights before the first step, or none), "reordering" (of the
    samples of each batch, or none), "cache_dir" (for its builds).

    Raises whatever the backend or the files raise.
    """
    plan = plan_from_json(spec["plan"])
    way = plan.pipeline.train
    if way is not None and (way.parts > 1 or way.prefetch):
        sys.setswitchinterval(SWITCH_INTERVAL_S)
    context = TrainingContext(
        schema=Schema.from_json(spec["schema"]),
        config=model_config(spec["model"]["name"], spec["model"]),
        training=TrainingConfig(**spec["training"]),
        split=map_split(Path(spec["split"])),
        start=load_weights(Path(spec["start"])) if spec["start"] else None,
        cache_dir=Path(spec["cache_dir"]),
        device=plan.pipeline.device,
        threads=len(available_cores()),
        reordering=spec["reordering"],
    )
    return load_train_backend(plan.pipeline.backend).lower_training(plan, context)


def opener(spec: Mapping[str, Any]) -> Open:
    """``open_training``, or what opens it in as many processes as the plan of ``spec`` has ranks."""
    way = plan_from_json(spec["plan"]).pipeline.train
    if way is None or way.ranks == 1:
        return open_training
    from harness.sut.ranked_training import RankedOpener

    return RankedOpener(way.ranks)


class Training:
    """The training of ``spec``, at the orders of the other end of ``control``."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec, self._open = spec, opener(spec)
        self.session = self._opened({})

    @property
    def ready(self) -> dict[str, Any]:
        """What the process says when it has opened its first training."""
        session = self.session
        return {"plan": session.report, "threads": session.threads, "samples": session.samples}

    def serve(self, control: Channel) -> None:
        """Obey until the other end is closed."""
        commands: dict[str, Callable[[Mapping[str, Any]], int]] = {
            "train": lambda order: self.session.train(order["steps"], order.get("at")),
            "read": lambda order: self.session.read(order["steps"]),
            "hold": lambda order: self.session.hold(order["steps"]),
            "compute": lambda order: self.session.compute(),
            "save": lambda order: self._write(order, self.session.state()),
            "keep": lambda order: self._write(order, self.session.kept()),
            "checkpoint": lambda order: self._told(self.session.checkpoint, order),
            "resume": lambda order: self._told(self.session.resume, order),
            "again": self._again,
        }
        while True:
            try:
                order, _ = control.receive()
            except ChannelClosedError:
                return
            control.send({"samples": commands[order["command"]](order)})

    @staticmethod
    def _write(order: Mapping[str, Any], weights: Mapping[str, npt.NDArray[Any]]) -> int:
        save_weights(Path(order["path"]), weights)
        return 0

    @staticmethod
    def _told(to_do: Callable[[Path], None], order: Mapping[str, Any]) -> int:
        to_do(Path(order["path"]))
        return 0

    def _again(self, order: Mapping[str, Any]) -> int:
        del self.session
        gc.unfreeze()
        gc.collect()  # the model of the training before it is gone before the new one comes
        self.session = self._opened(order["changes"])
        return 0

    def _opened(self, changes: Mapping[str, Any]) -> TrainSession:
        """The session of the spec with ``changes``; what lives from here on is no matter of the collector's."""
        session = self._open({**self._spec, **changes})
        gc.collect()
        gc.freeze()
        return session


def main() -> None:
    """Entry point of the process."""
    control = channel_to_parent("harness.sut.training_server")
    failed = ErrorReport(control)
    try:
        order, _ = control.receive()
        training = Training(order["spec"])
        control.send({"ready": training.ready})
        training.serve(control)
    except Exception as error:
        failed(error)


if __name__ == "__main__":
    main()
