"""Queues in virtual time in the place of processes: what the referee offers load to in a simulated trial."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from harness.estimate.twin import simulate
from harness.sut.process import SideInfo
from harness.traffic.segment import Segment, Status

MS = 1_000_000


class SimulatedReferee:
    """Stands for ``harness.measurement.referee.Referee``: single-server queues with 5 % service noise in virtual time.

    The candidate is twice as fast; the null system takes 0.1 ms. Scores depend on the sample alone. ``hesitates``: the
    first open segment of each side is served ten times slower, so that the search cuts it short. ``remembers``: the
    candidate answers queries of samples that it was asked for before in a fifth of the time.
    """

    def __init__(self, hesitates: bool = False, remembers: bool = False) -> None:
        self.hesitates, self.remembers = hesitates, remembers
        self.asked: dict[int, np.ndarray] = {}
        self.rng = np.random.default_rng(3)
        self.now = 10**12
        self.speed: dict[str, float] = {"baseline": 1.0, "candidate": 2.0}
        self.cpus = SimpleNamespace(sender=(0,), sut=(0,))
        self.sender = SimpleNamespace(priority="simulated", group=SimpleNamespace(pid=0))
        self.frozen_by: dict[str, str] = {}
        self.collections: dict[str, object] = {}
        self.met: set[str] = set()
        self.stopped: list[str] = []
        self.flight = None  # no loop keeps cores awake in virtual time

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def start_side(self, name, spec, shape):
        return SideInfo(report={}, start_s=1.0, pid=0, rss_bytes=10**8)

    def stop_side(self, name):
        self.stopped.append(name)

    def freeze(self, name):
        pass

    thaw = freeze

    def cpu_ns(self, name):
        return 0

    def pids(self, name):
        return ()

    def own_cpu_ns(self):
        return 0

    def liberties(self, name):
        return ()

    def rss_bytes(self, name):
        return 10**8

    def run_open(self, name, split, trace, rate_qps, limits):
        planned, queries = self.now + 2 * MS + trace.planned_ns(rate_qps), trace.queries(split.groups)
        service = self._service(name, trace.sizes) * (10 if self.hesitates and name not in self.met else 1)
        service = service / self._remembered(name, split, queries)
        self.met.add(name)
        done = planned + simulate(planned, service).astype(np.int64)
        late = np.flatnonzero((done - planned > limits.limit_ns) & (np.arange(len(done)) >= limits.count_from))
        cut = 0 <= limits.max_late < len(late)
        end = int(planned[late[limits.max_late]]) + limits.limit_ns if cut else None
        return self._segment(name, "open", rate_qps, queries, planned, planned + 5000, done, end)

    def run_closed(self, name, split, queries, concurrency=1, budget_s=600.0):
        service = (self._service(name, queries.sizes) / self._remembered(name, split, queries)).astype(np.int64)
        planned = self.now + np.concatenate([[0], np.cumsum(service)[:-1]])
        asked = int(np.searchsorted(planned, self.now + budget_s * 1e9))
        cut = type(queries)(queries.query_id[:asked], queries.samples, queries.offsets[: asked + 1])
        planned, service = planned[:asked], service[:asked]
        return self._segment(name, "closed", float("nan"), cut, planned, planned, planned + service)

    def _remembered(self, name, split, queries):
        """Of each query: 5 where the candidate knows its samples (those of a split, which its length tells), else 1."""
        if not self.remembers or name != "candidate":
            return 1.0
        asked = self.asked.setdefault(len(split), np.zeros(len(split), bool))
        known = np.logical_and.reduceat(asked[queries.samples], queries.offsets[:-1])
        asked[queries.samples] = True
        return np.where(known, 5.0, 1.0)

    def _service(self, name, sizes):
        if name == "floor":
            return np.full(len(sizes), 0.1 * MS)
        return (1.0 + 0.15 * sizes) * MS / self.speed[name] * np.exp(self.rng.normal(0.0, 0.05, len(sizes)))

    def _segment(self, name, mode, rate_qps, queries, planned, sent, done, end=None):
        """``end``: the moment at which the segment was cut short."""
        end_ns = end or int(max(done.max(), planned.max()))
        self.now = end_ns + MS
        samples = queries.samples[: queries.offsets[-1]]
        done = np.maximum(done, sent)
        status = np.select([sent > end_ns, done > end_ns], [Status.NOT_SENT, Status.UNFINISHED], Status.ANSWERED)
        scores = np.where(
            np.repeat(status == Status.ANSWERED, queries.sizes), _scores(name, samples), np.float32(np.nan)
        )
        return Segment(
            side=name,
            mode=mode,
            offered_qps=rate_qps,
            query_id=queries.query_id,
            size=queries.sizes,
            planned_ns=planned,
            sent_ns=np.where(status == Status.NOT_SENT, -1, sent),
            done_ns=np.where(status == Status.ANSWERED, done, -1),
            status=status.astype(np.int64),
            dequeued_ns=sent,
            started_ns=sent,
            worker=np.zeros(len(planned), np.int64),
            scores=scores,
            score_offsets=queries.offsets,
            aborted="late" if end else "",
            duplicates=0,
            sender_cpu_ns=0,
        )


def _scores(name, samples):
    """A chance between 0.05 and 0.6 by sample; the candidate's differs in the fourth digit."""
    base = 0.05 + 0.55 * ((samples * 2654435761) % 1_000_003) / 1_000_003
    return (base + (1e-4 * (samples % 3 - 1) if name == "candidate" else 0.0)).astype(np.float32)
