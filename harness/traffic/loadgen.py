"""MLPerf LoadGen in the place of our own open loop: the only module that imports it (extra ``mlperf``).

LoadGen's Server scenario draws the arrivals and takes the time; its queries go through the same ring to the same
system under test. Its clock is the C++ library's ``high_resolution_clock``, which is the wall clock on Linux: stamps
are moved onto our clock by one constant, latencies are LoadGen's own. Per query they stand in its trace file only,
which is read and removed; summary and detail log stay.

LoadGen knows no failed query and waits for every answer. So what was dropped, or will never be answered, is reported
to it as complete at once; our own status says that it is late.
"""

from __future__ import annotations

import importlib
import re
import select
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.clock import now_ns
from harness.traffic.loops import LOOK_NS, Payloads
from harness.traffic.ring_client import PENDING, QueryLog, RingClient
from harness.traffic.segment import Abort, Status
from zoo.schema import Int64

SWITCH_INTERVAL_S = 5e-5
"""LoadGen issues from one thread and answers are collected by another: the default of 5 ms would be in every tail."""
LOG_FILES = ("mlperf_log_summary.txt", "mlperf_log_detail.txt")
"""What a test leaves in its folder."""
TRACE_FILE = "mlperf_log_trace.json"
SAMPLE = re.compile(
    r'"name":"Sample","cat":"default","ph":"b",.*?"ts":(\d+)\.(\d{3}),"args":\{"sample_seq":(\d+),"query_seq":\d+,'
    r'"sample_idx":(\d+),"issue_start_ns":(\d+),"complete_ns":(\d+)\}'
)
"""One line of the trace. ts: planned arrival (us) since LoadGen started; the rest counts from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadGenPlan:
    """Offer ``rate_qps`` for ``seconds``; ``limit_ns`` and ``percentile`` are for LoadGen's own verdict.

    folder: where its logs go. seed: of its schedule and of its draws from the library of queries.
    """

    rate_qps: float
    seconds: float
    limit_ns: int
    percentile: float
    seed: int
    folder: str


class GrowingLog(QueryLog):
    """The log of a segment whose queries are not known before they arrive."""

    def __init__(self, library: Sequence[int]) -> None:
        super().__init__([])
        self.library = library
        self.chosen: list[int] = []

    def append(self, sample: int) -> int:
        """Add a query for entry ``sample`` of the library; returns its index."""
        size = self.library[sample]
        for column in (self.planned, self.sent, self.done, self.dequeued, self.started, self.worker):
            column.append(-1)
        self.status.append(PENDING)
        self.sizes.append(size)
        self.score_bytes.append(self.score_bytes[-1] + 4 * size)
        self.scores.extend(bytes(4 * size))
        self.chosen.append(sample)
        return len(self.sizes) - 1


class Desk:
    """Between LoadGen's thread, which issues, and the thread that collects answers; ``lock`` guards the client."""

    def __init__(self, client: RingClient, log: GrowingLog, payloads: Payloads, stall_ns: int) -> None:
        self.loadgen = importlib.import_module("mlperf_loadgen")
        self.client, self.log, self.payloads, self.stall_ns = client, log, payloads, stall_ns
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.abort: Abort = ""
        self._waiting: dict[int, int] = {}
        self._progress_ns = now_ns()

    def issue(self, samples: Sequence[Any]) -> None:
        """LoadGen's IssueQuery."""
        finished = []
        with self.lock:
            for sample in samples:
                index = self.log.append(sample.index)
                if not self._waiting:
                    self._progress_ns = now_ns()
                if not self.abort:
                    self.client.send(index, self.payloads[sample.index])
                if self.abort or self.log.status[index] != PENDING:
                    finished.append(sample.id)
                else:
                    self._waiting[index] = sample.id
        self._complete(finished)

    def collect(self) -> None:
        """Take answers until the test is over; the work of the second thread."""
        while not self.ended.is_set():
            ready = select.select([self.client.done], (), (), LOOK_NS * 1e-9)[0]
            with self.lock:
                finished = self._receive() if ready else []
                if not self.abort:
                    self.abort = self._why_it_ended()
                if self.abort:
                    finished += self._waiting.values()
                    self._waiting.clear()
            self._complete(finished)
            if self.abort:
                return

    def _receive(self) -> list[int]:
        if self.client.receive():
            self._progress_ns = now_ns()
        answered = [index for index in self._waiting if self.log.status[index] != PENDING]
        return [self._waiting.pop(index) for index in answered]

    def _why_it_ended(self) -> Abort:
        if self.client.dead:
            return "sut_exit"
        if self.client.duplicates > self.client.shape.slots:
            return "protocol"
        stalled = self._waiting and now_ns() - self._progress_ns > self.stall_ns
        return "stall" if stalled else ""

    def _complete(self, ids: list[int]) -> None:
        if ids:
            self.loadgen.QuerySamplesComplete([self.loadgen.QuerySampleResponse(number, 0, 0) for number in ids])


def loadgen_segment(
    client: RingClient, payloads: Payloads, library: list[int], plan: LoadGenPlan, stall_ns: int
) -> tuple[Abort, Int64]:
    """Run one LoadGen test with ``client``, whose log is replaced. Returns (why it ended early, the chosen entries of
    the library [Q]). Raises ValueError when LoadGen's trace and our log disagree."""
    log = GrowingLog(library)
    client.begin(log)
    desk = Desk(client, log, payloads, stall_ns)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    collector = threading.Thread(target=desk.collect, daemon=True)
    collector.start()
    try:
        _start_test(desk, len(library), plan)
    finally:
        desk.ended.set()
        collector.join()
        sys.setswitchinterval(interval)
    trace = Path(plan.folder) / TRACE_FILE
    _take_stamps(log, read_trace(trace.read_text()))
    for file in set(Path(plan.folder).iterdir()) - {Path(plan.folder) / name for name in LOG_FILES}:
        file.unlink()
    return desk.abort, np.array(log.chosen, np.int64)


def _start_test(desk: Desk, entries: int, plan: LoadGenPlan) -> None:
    loadgen = desk.loadgen
    settings = loadgen.TestSettings()
    settings.scenario, settings.mode = loadgen.TestScenario.Server, loadgen.TestMode.PerformanceOnly
    settings.server_target_qps = plan.rate_qps
    settings.server_target_latency_ns = plan.limit_ns
    settings.server_target_latency_percentile = plan.percentile / 100.0
    settings.min_duration_ms, settings.max_duration_ms = int(plan.seconds * 1e3), 0
    settings.min_query_count, settings.max_query_count = 1, 0
    settings.schedule_rng_seed = settings.sample_index_rng_seed = settings.qsl_rng_seed = plan.seed
    logs = loadgen.LogSettings()
    logs.enable_trace = True
    logs.log_output.outdir, logs.log_output.copy_summary_to_stdout = plan.folder, False
    system = loadgen.ConstructSUT(desk.issue, _nothing)
    library = loadgen.ConstructQSL(entries, entries, _nothing, _nothing)
    try:
        loadgen.StartTestWithLogSettings(system, library, settings, logs, "")
    finally:
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)


def _nothing(*_: Any) -> None:
    """Payloads are in memory before the test; there is nothing to load or to flush."""


def _take_stamps(log: GrowingLog, rows: Int64) -> None:
    """LoadGen's planned arrivals and latencies into ``log``; an answer that came has LoadGen's time of completion."""
    if rows[:, 1].tolist() != log.chosen or rows[:, 0].tolist() != list(range(len(log.chosen))):
        raise ValueError(
            f"LoadGen's trace holds {len(rows)} queries, issued were {len(log.chosen)}, or in another order"
        )
    planned, issued, latency = rows[:, 2], rows[:, 3], rows[:, 4]
    sent = np.array(log.sent, np.int64)
    delivered = sent >= 0
    shift = int((sent - planned - issued)[delivered].min()) if delivered.any() else 0
    log.planned = (planned + shift).tolist()
    done = np.where(np.array(log.status) == Status.ANSWERED, planned + shift + latency, log.done)
    log.done = done.tolist()


def read_trace(text: str) -> Int64:
    """int64 [Q, 5] from a LoadGen trace, by number of the sample: (number, entry of the library, planned ns, issued
    and completed ns after that)."""
    found = [
        (int(number), int(entry), int(whole) * 1000 + int(part), int(issued), int(complete))
        for whole, part, number, entry, issued, complete in SAMPLE.findall(text)
    ]
    return np.array(sorted(found), np.int64).reshape(-1, 5)
