"""What a measurement says of one side: a block of ``result.json`` (keys are added, never renamed)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from optimizations.contract import Dispatch

Interval = tuple[float, float]
LbtStatus = Literal["measured", "few_clumps", "undetermined", "unreachable", "beyond_range", "not_measured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTimes:
    """Median service time (ms) of one query of 1, 10, 32 and 100 samples, alone in the system."""

    n1: float | None
    n10: float | None
    n32: float | None
    n100: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Percentiles (ms, planned arrival to whole answer) at ``offered_qps``, 70 % of the side's own LBT.

    p99 is None below 459 queries and p999 below 4,603.
    """

    p50: float | None
    p90: float | None
    p99: float | None
    p999: float | None
    offered_qps: float | None = None
    queries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleStream:
    """Percentiles (ms) of a client that waits for each answer before it asks again."""

    p50: float | None
    p99: float | None
    queries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedResult:
    """A training to its end with one seed: ``steps`` in ``seconds``, evaluations not timed.

    seconds_to_auc, steps_to_auc: until the validation AUC was first found at the target; None where it never was.
    valid_auc: the best one, at ``best_step``, whose weights were kept; auc, logloss, pcoc: of those on the test split.
    None where scores are not finite numbers.
    """

    seed: int
    seconds_to_auc: float | None
    steps_to_auc: int | None
    seconds: float
    steps: int
    best_step: int
    valid_auc: float | None
    auc: float | None
    logloss: float | None
    pcoc: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """Training speed of a side, over the timed stretches that count: ``steps`` in ``seconds``, inputs included.

    input_rows_per_s: samples whose inputs are prepared, with nothing else to do; compute_samples_per_s: of steps whose
    inputs are there. peak_bytes: largest resident memory in the quads' bursts. seeds: of the batches. threads: of the
    framework. cpu_share: processor time over wall time of the timed stretches. minor_faults_per_step, major_faults:
    page faults in them.

    to_auc: trainings to their end, one per seed; () where none was asked for. seconds_to_auc: their median, where a
    target_auc that was not reached takes for ever; None where that is the median.
    """

    samples_per_s: float | None
    input_rows_per_s: float | None
    seconds: float
    steps: int
    seconds_to_auc: float | None
    peak_bytes: int | None
    seeds: tuple[int, ...]
    compute_samples_per_s: float | None = None
    samples: int = 0
    batch_size: int = 0
    threads: int = 0
    cpu_share: float | None = None
    minor_faults_per_step: float | None = None
    major_faults: int = 0
    target_auc: float | None = None
    to_auc: tuple[SeedResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SideResult:
    """One side (baseline or candidate).

    auc, logloss, pcoc: on the test split; of a training, means over its seeds, None where none went to its end.
    lbt_status: measured | few_clumps (under 10 independent late clumps, interval doubled) | undetermined (no interval)
    | unreachable (late at every rate, LBT 0) | beyond_range (``lbt_qps``, the highest rate that was offered, is a lower
    bound) | not_measured (another scenario).
    slack: SLA limit / p99 service time of a 100-sample query. ``late_clumps``: independent late clumps behind the LBT.
    lbt_slope: d log(late fraction) / d log(rate) at the LBT; lbt_service_scale: mean service in the open loop over that
    of the closed loop; lbt_speed_sd: spread of the log speeds of its segments; lbt_spell_sd: that of spells within
    them; lbt_delay_ms: latency that is neither queueing nor work.
    workers, dispatch, dtypes: what the plan runs with; the twin and the tolerance of timed answers follow from them.
    export_s: what it took to make the graph that it serves, in this run or an earlier one; None where it builds from
    the weights.
    """

    auc: float | None
    logloss: float | None
    pcoc: float | None
    lbt_qps: float | None
    lbt_ci: Interval | None
    lbt_status: LbtStatus
    slack: float | None
    service_ms: ServiceTimes
    latency_ms: Latency
    offline_samples_per_s: float | None
    single_stream_ms: SingleStream
    rss_bytes: int | None
    minor_faults_per_query: float | None
    start_s: float | None
    train: TrainResult | None = None
    lbt_method: str = ""
    lbt_twin_correlation: float | None = None
    lbt_slope: float | None = None
    lbt_service_scale: float | None = None
    lbt_speed_sd: float | None = None
    lbt_spell_sd: float | None = None
    lbt_delay_ms: float | None = None
    late_clumps: int | None = None
    workers: int = 1
    dispatch: Dispatch = field(default_factory=Dispatch)
    dtypes: tuple[str, ...] = ()
    export_s: float | None = None
