"""The system under test: ``python -m harness.sut.server --control FD --parent PID``. It never sees a label.

The first message on the control channel holds ``spec``, ``shape`` and the inherited ``descriptors``. Kinds of spec:

* "null": answers zeros at once. Loads no framework.
* "synthetic": known service times; see ``harness.sut.synthetic``; "workers" and "dispatch" as for a model.
* "model": see ``harness.sut.model_session``.

When it is warm it answers ``{"ready": report}``; any exception, then or later, is sent as ``{"error": traceback}`` and
ends the process with code 1. At the end of its input it ends with code 0, after its last answer.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.host.child import channel_to_parent
from harness.host.garbage import watch_collections
from harness.sut.dispatch import Dispatcher
from harness.sut.error_report import ErrorReport
from harness.sut.in_place import InPlace
from harness.sut.ring_server import RingServer
from harness.sut.steps import Steps, one_step
from harness.sut.synthetic import SyntheticPredict, bind_null, null_predict
from harness.transport.slots import RingShape
from optimizations.contract import Dispatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What answers: ``steps`` under ``dispatch`` with ``workers`` queries at a time; ``report`` goes to the main
    process."""

    steps: Steps
    dispatch: Dispatch = field(default_factory=Dispatch)
    workers: int = 1
    report: dict[str, Any] = field(default_factory=dict)


def build_null(spec: Mapping[str, Any]) -> Served:
    """The floor: it answers in place, as the fastest models do."""
    return Served(steps=one_step(null_predict, bind_null))


def build_synthetic(spec: Mapping[str, Any]) -> Served:
    """A queue with known service times."""
    dispatch = Dispatch(**spec.get("dispatch", {}))
    return Served(steps=one_step(SyntheticPredict(spec)), dispatch=dispatch, workers=spec.get("workers", 1))


def build_model(spec: Mapping[str, Any]) -> Served:
    """A lowered and warmed model; this is where a framework is loaded."""
    from harness.sut.model_session import open_model

    model = open_model(spec)
    runtime = model.pipeline.runtime
    return Served(steps=model.steps, dispatch=model.pipeline.dispatch, workers=runtime.workers, report=model.report)


KINDS = {"null": build_null, "synthetic": build_synthetic, "model": build_model}


def loop_of(server: RingServer, served: Served) -> Dispatcher | InPlace:
    """What serves the ring: in its slots where ``served`` can, else through batches."""
    if served.steps.bind is not None and served.dispatch.as_they_come:
        return InPlace(server, served.steps, served.steps.bind, served.workers)
    return Dispatcher(server, served.steps, served.dispatch, served.workers)


def main() -> None:
    """Entry point of a SUT process."""
    control = channel_to_parent("harness.sut.server")
    failed = ErrorReport(control)
    try:
        order, _ = control.receive()
        served = KINDS[order["spec"]["kind"]](order["spec"])
        server = RingServer(RingShape(**order["shape"]), **order["descriptors"])
        loop = loop_of(server, served)
        gc.collect()
        gc.freeze()
        watch_collections(server.collected)
        control.send({"ready": served.report})
    except Exception as error:
        failed(error)
        return
    loop.run(failed)


if __name__ == "__main__":
    main()
