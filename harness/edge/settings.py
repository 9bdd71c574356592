"""Sections of a configuration as frozen values, and the one strict way from a plain mapping into a dataclass."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from harness.errors import ConfigurationError
from harness.options import Resume
from harness.record.jsonable import from_plain, mismatches
from optimizations.best_plans import BestPlan

T = TypeVar("T")
SLA_LEVELS: Mapping[str, float] = {"low": 0.5, "medium": 1.0, "high": 1.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioSettings:
    """How queries arrive and what is late. ``sla_ms`` None: the model's default times that of ``sla_level``."""

    name: Literal["server", "single_stream", "offline", "mlperf_server"]
    sla_ms: float | None
    sla_level: Literal["low", "medium", "high"]
    percentile: float
    query_sizes: str
    rate_qps: float | None = None

    def limit_ms(self, default_ms: float) -> float:
        """The latency limit. ConfigurationError for one that no query can meet, or for two ways to say it."""
        if self.sla_ms is None:
            return default_ms * SLA_LEVELS[self.sla_level]
        if self.sla_level != "medium":
            raise ConfigurationError(
                f"scenario.sla_ms={self.sla_ms:g} and scenario.sla_level={self.sla_level} both set the latency limit: "
                "give one of them"
            )
        if not (math.isfinite(self.sla_ms) and self.sla_ms > 0):
            raise ConfigurationError(f"scenario.sla_ms={self.sla_ms:g} must be a latency limit above 0 milliseconds")
        return self.sla_ms

    def checked_percentile(self) -> float:
        """The percentile of the SLA, in [50, 100)."""
        if not 50 <= self.percentile < 100:
            raise ConfigurationError(
                f"scenario.percentile={self.percentile:g} must lie in [50, 100): 99 allows one late query in a hundred"
            )
        return self.percentile

    def checked_rate_qps(self) -> float:
        """The rate of mlperf_server, above 0; 0 for the others, which find or need none."""
        rate = self.rate_qps
        if self.name != "mlperf_server":
            return 0.0
        if rate is None or not (math.isfinite(rate) and rate > 0):
            raise ConfigurationError(
                f"scenario.rate_qps={rate}: scenario=mlperf_server offers the one rate that you give, in queries per "
                "second, above 0 (scenario=server finds the highest)"
            )
        return rate


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingSettings:
    """Where MLflow keeps runs; None for no tracking."""

    uri: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerChoice:
    """A package of other people, "none" for no one, and how it is set."""

    name: str
    settings: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration. The open mappings are checked against the dataclass of what they configure.

    ``plan`` stands in for ``opt`` where that is empty.
    """

    model: Mapping[str, Any]
    dataset: Mapping[str, Any]
    opt: Mapping[str, Any]
    plan: BestPlan | None
    scenario: ScenarioSettings
    budget: Mapping[str, Any]
    tracking: TrackingSettings
    backend: str
    peer: PeerChoice
    device: str
    scope: Literal["serve", "train"]
    seed: int
    records_dir: str
    keep_awake: str
    resume: Resume
    cache_dir: str | None
    training: Mapping[str, Any]


def read_settings(config: Mapping[str, Any]) -> Settings:
    """The composed configuration as ``Settings``. ConfigurationError for what is left over, missing or mistyped."""
    refuse_unknown("", config, _names(Settings))
    for section, kind in (("scenario", ScenarioSettings), ("tracking", TrackingSettings), ("peer", PeerChoice)):
        if isinstance(config.get(section), Mapping):
            refuse_unknown(section, config[section], _names(kind))
    settings = strict(Settings, config, "")
    if settings.seed < 0:
        raise ConfigurationError(f"seed={settings.seed} must not be negative")
    return settings


def strict(kind: type[T], given: Mapping[str, Any], where: str) -> T:
    """``kind`` from a plain mapping whose every key it knows and whose every value has its type.

    Keys that are not given keep their defaults. ``where`` is the dotted path for messages. Raises ConfigurationError.
    """
    refuse_unknown(where, given, _names(kind))
    if problems := mismatches(kind, given, where):
        raise ConfigurationError("; ".join(problems))
    try:
        return from_plain(kind, given)
    except ValueError as error:
        raise ConfigurationError(str(error) if where in str(error) else f"{where}: {error}") from error


def refuse_unknown(where: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise ConfigurationError for the first key of ``given`` that is not ``known``."""
    names = sorted(known)
    for key, value in given.items():
        if key not in names:
            path = f"{where}.{key}" if where else str(key)
            raise ConfigurationError(
                f"{path}={value} is not an option{nearest(str(key), names)}; {where or 'the configuration'} has: "
                f"{', '.join(names) or 'no options'}"
            )


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known word that is most like ``word``, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _names(kind: type[Any]) -> list[str]:
    return [item.name for item in dataclasses.fields(cast(Any, kind))]
