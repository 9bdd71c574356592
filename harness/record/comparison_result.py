"""What a result says of both sides together, beside the gate: their ratio, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.record.gate_result import Passed
from harness.record.side_result import Interval

DOUBTFUL = 2.0
"""A gain on known queries of so many times that on new ones in every round, or of so little of it, is no computation's:
what the content of queries does to it, rows that already lie in a cache, or a busy host stays below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Candidate over baseline, above 1 is a gain (service: baseline time / candidate time).

    ``lbt`` is None with the ``reason`` where a side has no LBT. ``lbt_p``: two-sided p value of "no difference" (t on
    the log ratios of the quads). ``lbt_with_voided`` holds the same over all quads, voided ones included. ``train``:
    samples per second of training, inputs included; ``train_input``, ``train_compute``: inputs alone, and steps whose
    inputs are there. ``train_p`` and ``train_quads`` as ``lbt_p`` and ``quads``. ``train_to_auc``: baseline's seconds
    to the target AUC over the candidate's, over all seeds; None with ``train_to_auc_reason`` where one of them did not
    reach it. ``service_new``, ``service_known``: as ``service``, on queries of one size, of samples that were never
    asked for and of samples of the accuracy run (``harness.record.new_queries``); ``known_over_new``: the one over the
    other, round by round.
    """

    lbt: float | None
    lbt_ci: Interval | None
    service: float | None
    offline: float | None
    train: float | None = None
    train_ci: Interval | None = None
    service_ci: Interval | None = None
    lbt_p: float | None = None
    quads: tuple[float, ...] = ()
    reason: str = ""
    lbt_with_voided: float | None = None
    lbt_with_voided_ci: Interval | None = None
    train_p: float | None = None
    train_quads: tuple[float, ...] = ()
    train_input: float | None = None
    train_compute: float | None = None
    train_with_voided: float | None = None
    train_with_voided_ci: Interval | None = None
    train_to_auc: float | None = None
    train_to_auc_ci: Interval | None = None
    train_to_auc_reason: str = ""
    service_new: float | None = None
    service_known: float | None = None
    known_over_new: tuple[float, ...] = ()

    @property
    def doubt(self) -> str:
        """Why a side may remember answers; "" where nothing says so."""
        if self.service_new is None or self.service_known is None or not self.known_over_new:
            return ""
        if max(self.known_over_new) >= 1.0 / DOUBTFUL and min(self.known_over_new) <= DOUBTFUL:
            return ""
        who = "candidate" if self.service_known > self.service_new else "baseline"
        return (
            f"beside the baseline the candidate is {self.service_known:.3g} times as fast on queries that were asked "
            f"before, and {self.service_new:.3g} times on new ones: the {who} may remember answers"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The same load against a system that does nothing. ``referee_bound``: its LBT is under 5x a reported one."""

    p50_ms: float | None
    p99_ms: float | None
    lbt_qps: float | None
    referee_bound: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A rate, offered to a fresh process on a held-out trace; ``bound``: upper 95 % bound of the late fraction."""

    rate_qps: float
    late_fraction: float
    bound: float
    queries: int
    verdict: Passed


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What ``budget=official`` adds (R8): the rate that was held, None if every attempt failed."""

    verdict: Passed
    rate_qps: float | None
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """Whether the host was quiet enough; ``reasons`` says what was seen."""

    verdict: Literal["valid", "noisy_host", "void"]
    reasons: tuple[str, ...]
    voided_quads: int
