"""The certificate's load: a fresh process of the measured side, offered its claim on held-out traces (R8)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from harness.estimate.lbt import LbtEstimate
from harness.estimate.replay import SegmentObservation
from harness.measurement.bench import Bench, Stretch
from harness.record.certificate import PURPOSE, certify, claimed_qps
from harness.transport.slots import RingShape

SpecOf = Callable[[], AbstractContextManager[dict[str, Any]]]


def issue_certificate(bench: Bench, side: str, estimate: LbtEstimate | None, spec_of: SpecOf, shape: RingShape) -> None:
    """Offer what ``side`` claims by ``estimate``, each time in a fresh process, until one attempt passes or none is
    left.

    Nothing is returned: the certificate follows from the segments that this leaves. No load without an interval.
    """
    if estimate is None or estimate.ci is None or not estimate.lbt_qps:
        return
    seconds = bench.budget.settle_s + bench.budget.certificate_s
    bench.observer.stage("certificate (fresh process, held-out trace)", total=seconds)

    def offer(rate_qps: float, number: int) -> SegmentObservation:
        with spec_of() as spec:
            bench.restart(side, spec, shape)
        runaway_ns = max(50 * bench.limit_ns, 5_000_000_000)
        stretch = Stretch(purpose=PURPOSE, index=number, rate_qps=rate_qps, seconds=seconds, max_age_ns=runaway_ns)
        return bench.open_loop(side, stretch)

    certify(claimed_qps(estimate.lbt_qps, estimate.ci), offer, bench.trial.sla)
