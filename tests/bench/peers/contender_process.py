"""The process of one contender: ``python -m tests.bench.peers.contender_process``. Frozen while others are timed.

Messages in: {"kind": "build", model, contender, sizes, threads, folder}, answered by {"kind": "ready", build_s, note,
error, service_ns} or {"kind": "unfit", reason}; then {"kind": "turn", size, cycles}, answered by the array "times_ns".
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.clock import now_ns
from harness.host.child import channel_to_parent
from harness.transport.channel import Channel, ChannelClosedError
from tests.bench.peers.contender import Contender, UnfitError, build
from tests.bench.peers.workload import Workload, make_workload

CALIBRATION_CYCLES = 3
FEWEST_TOLERANCES = 4
"""In the range of the reference's scores: else those of another model might agree with them."""


def main() -> None:
    """Build the contender, hold its scores against the reference's, then answer turns until the channel closes."""
    channel = channel_to_parent("tests.bench.peers.contender_process")
    order, _ = channel.receive()
    try:
        prepared = _built(channel, order)
    except UnfitError as unfit:
        channel.send({"kind": "unfit", "reason": str(unfit)})
        return
    except Exception as failure:
        channel.send({"kind": "unfit", "reason": f"{type(failure).__name__}: {_first_lines(failure)}"})
        raise
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection is no part of anybody's model
    while True:
        try:
            turn, _ = channel.receive()
        except ChannelClosedError:
            return
        contender, queries = prepared
        channel.send({"kind": "turned"}, {"times_ns": _timed(contender, queries[turn["size"]], turn["cycles"])})


def _built(channel: Channel, order: Mapping[str, Any]) -> tuple[Contender, dict[int, list[Any]]]:
    torch.set_num_threads(order["threads"])
    workload = make_workload(order["model"], tuple(order["sizes"]))
    started = now_ns()
    contender = build(order["contender"], workload, order["threads"], Path(order["folder"]))
    queries = {size: [contender.prepare(batch) for batch in batches] for size, batches in workload.queries.items()}
    for of_size in queries.values():
        contender.predict(of_size[0])
    build_s = (now_ns() - started) / 1e9
    error = largest_error(contender, workload, queries)
    service_ns = {
        size: float(np.median(_timed(contender, of_size, CALIBRATION_CYCLES))) for size, of_size in queries.items()
    }
    ready = {"kind": "ready", "build_s": build_s, "note": contender.note, "error": error}
    channel.send({**ready, "service_ns": [service_ns[size] for size in order["sizes"]]})
    return contender, queries


def largest_error(contender: Contender, workload: Workload, queries: Mapping[int, list[Any]]) -> float | None:
    """Largest difference from the eager reference's scores; None for a model with weights of its own.

    Raises UnfitError beyond the contender's tolerance, for scores that are no probabilities, and where the
    reference's scores are too much alike to tell models apart.
    """
    worst, expected = 0.0, []
    for size, of_size in queries.items():
        for batch, prepared in zip(workload.queries[size], of_size, strict=True):
            scores = np.asarray(contender.predict(prepared))
            if scores.shape != (size,) or not np.all((scores >= 0) & (scores <= 1)):
                raise UnfitError(f"{size} samples give scores of shape {scores.shape}, not all of them in [0, 1]")
            expected.append(workload.expected(batch))
            worst = max(worst, float(np.abs(scores - expected[-1]).max()))
    if contender.tolerance is None:
        return None
    if worst > contender.tolerance:
        raise UnfitError(f"scores differ from eager's by {worst:.1e}; {contender.tolerance:.0e} is allowed")
    spread = float(np.ptp(np.concatenate(expected)))
    if spread < FEWEST_TOLERANCES * contender.tolerance:
        raise UnfitError(f"the reference's scores lie within {spread:.1e}: that they agree would mean nothing")
    return worst


def _timed(contender: Contender, queries: list[Any], cycles: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """ns of each query, ``cycles`` times all of them; one untimed query first, which wakes pools and caches."""
    predict = contender.predict
    predict(queries[-1])
    times = np.empty(cycles * len(queries), np.int64)
    for place in range(len(times)):
        query = queries[place % len(queries)]
        started = now_ns()
        predict(query)
        times[place] = now_ns() - started
    return times


def _first_lines(failure: Exception) -> str:
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    return " ".join(lines[:3])[:400]


if __name__ == "__main__":
    main()
