"""Late fractions by MLPerf LoadGen and by our own sender, on the same system, beside the exact one:
``python -m tests.bench.loadgen [--rates 105 120 140] [--seconds 20]``.

The system answers after 5 ms, whatever the query asks; the limit is 25 ms. Each rate is offered A B B A. Intervals
are 95 % by blocks of time (late queries clump). The exact columns are stationary queues: M/D/1 of 5 ms, which no system
can be faster than, and M/G/1 of the times that a closed loop measured just before, which hold delays on the way that
keep no worker busy. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

from harness.estimate.mg1 import ServiceAtoms, late_fraction, service_atoms
from harness.measurement.idle_cores import cores_awake, keeps_awake
from harness.measurement.referee import OpenLimits, Referee, ring_shape
from harness.traffic.arrivals import Queries, make_trace
from harness.traffic.loadgen import LoadGenPlan
from harness.traffic.segment import Segment
from zoo.schema import Rows, Split

SERVICE_MS, LIMIT_NS, SAMPLES = 5.0, 25_000_000, 2000
RAMP_NS, BLOCK_NS = 1_000_000_000, 2_000_000_000
Counts = list[tuple[int, int]]
"""(late, queries) of each block of time."""


def main() -> None:
    """Print one line per rate."""
    parser = argparse.ArgumentParser(prog="tests.bench.loadgen", description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[105.0, 120.0, 140.0], metavar="QPS")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of the four stretches of a rate")
    options = parser.parse_args()
    split = _split()
    library = make_trace(1, 1000, "heavy", split.groups).queries(split.groups)
    wanted = keeps_awake("auto")
    with Referee() as referee, cores_awake(wanted, referee.flight), tempfile.TemporaryDirectory() as folder:
        spec = {"kind": "synthetic", "service": {"law": "fixed", "mean_ms": SERVICE_MS}}
        referee.start_side("sut", spec, ring_shape([split], 100))
        heading = f"{'LoadGen late':26}{'own sender late':26}{'exact, from .. to':17}{'difference':22}agree"
        print(f"{'rate qps':11}{heading}")
        for place, rate_qps in enumerate(options.rates):
            exact = [late_fraction(atoms, rate_qps, LIMIT_NS) for atoms in _services(referee, split, library)]
            theirs: Counts = []
            ours: Counts = []
            for turn in range(4):
                if turn in (0, 3):
                    theirs += _blocks(_loadgen(referee, split, library, rate_qps, options.seconds, folder, 7 + turn))
                else:
                    ours += _blocks(_own(referee, split, rate_qps, options.seconds, 100 * place + turn))
            print(_line(rate_qps, theirs, ours, exact), flush=True)


def _split() -> Split:
    return Split(
        user=Rows.empty(SAMPLES),
        item=Rows.empty(SAMPLES),
        history=np.zeros((0, 0), np.int64),
        history_offsets=np.zeros(SAMPLES + 1, np.int64),
        user_of=np.arange(SAMPLES),
        labels=np.zeros(SAMPLES, np.float32),
        groups=np.array([0, SAMPLES]),
    )


def _services(referee: Referee, split: Split, library: Queries) -> tuple[ServiceAtoms, ServiceAtoms]:
    segment = referee.run_closed("sut", split, library, budget_s=2.0)
    service_ns = (segment.done_ns - segment.sent_ns)[segment.answered].astype(np.float64)
    least = service_atoms(np.array([SERVICE_MS * 1e6]), np.ones(1))
    return least, service_atoms(service_ns, np.full(len(service_ns), 1.0 / len(service_ns)))


def _loadgen(
    referee: Referee, split: Split, library: Queries, rate_qps: float, seconds: float, folder: str, seed: int
) -> Segment:
    plan = LoadGenPlan(rate_qps=rate_qps, seconds=seconds, limit_ns=LIMIT_NS, percentile=99.0, seed=seed, folder=folder)
    return referee.run_loadgen("sut", split, library, plan)[0]


def _own(referee: Referee, split: Split, rate_qps: float, seconds: float, seed: int) -> Segment:
    trace = make_trace(seed, int(rate_qps * seconds), "heavy", split.groups)
    return referee.run_open("sut", split, trace, rate_qps, OpenLimits(limit_ns=LIMIT_NS))


def _blocks(segment: Segment) -> Counts:
    """Whole blocks of time after the ramp."""
    since = segment.planned_ns - segment.planned_ns[0] - RAMP_NS
    block = since // BLOCK_NS
    late = segment.late(LIMIT_NS)
    whole = int(since[-1] // BLOCK_NS)
    return [(int(late[block == number].sum()), int((block == number).sum())) for number in range(whole)]


def _fraction(counts: Counts) -> tuple[float, float]:
    """(late share, its standard error): a ratio of two sums over independent blocks (Cochran 1977, section 6.3)."""
    late, asked = np.array(counts, np.float64).T
    share = late.sum() / asked.sum()
    spread = float(np.sum((late - share * asked) ** 2)) * len(late) / (len(late) - 1)
    return float(share), math.sqrt(spread) / float(asked.sum())


def _line(rate_qps: float, theirs: Counts, ours: Counts, exact: Sequence[float]) -> str:
    (p, sp), (q, sq) = _fraction(theirs), _fraction(ours)
    wide_p, wide_q = (float(student.ppf(0.975, len(counts) - 1)) for counts in (theirs, ours))
    both = math.hypot(wide_p * sp, wide_q * sq)
    agree = "yes" if abs(p - q) <= both else "no"
    shown = [f"{100 * m:6.2f} % +- {100 * w * s:5.2f} %" for m, w, s in ((p, wide_p, sp), (q, wide_q, sq))]
    bounds = " .. ".join(f"{100 * share:.2f}" for share in exact)
    return (
        f"{rate_qps:8.1f}   {shown[0]:24}  {shown[1]:24}  {bounds + ' %':15}  "
        f"{100 * (p - q):6.2f} % +- {100 * both:5.2f} %  {agree}"
    )


if __name__ == "__main__":
    main()
