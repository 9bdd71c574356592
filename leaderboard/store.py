"""What the board is made of: the records of a folder, each with the reasons that keep it from a rank."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.options import BUDGETS
from harness.record.reader import RecordError, find_records, read_record, record_problems
from harness.record.result import Result
from harness.trial import PEER
from zoo.configs import MODELS
from zoo.training_config import default_training

RANKED_BUDGETS = frozenset(BUDGETS) - {"smoke"}
MINIMUM_SLACK = 2.0
"""Below it an LBT ratio explodes: a workload is ranked only if its baseline has at least this slack."""
OF_NO_STEP = frozenset({"batch_size", "seed", "max_epochs", "evaluations", "patience"})
"""Settings of a training that change no step of it, and the size of the batch, which the workload has by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What must agree before two results may be ranked against each other.

    sizes, settings: of the model and (in training) of its steps, where they are not the defaults.
    """

    model: str
    dataset: str
    fingerprint: str
    scenario: str
    query_sizes: str
    limit_ms: float
    percentile: float
    hardware_class: str
    scope: str = "serve"
    batch_size: int = 0
    sizes: str = ""
    settings: str = ""

    @staticmethod
    def of(result: Result) -> Workload:
        """The workload of a result."""
        trial = result.trial
        kind = MODELS.get(trial["model"])
        return Workload(
            model=trial["model"],
            dataset=result.dataset.name,
            fingerprint=result.dataset.fingerprint,
            scenario=trial["scenario"],
            query_sizes=trial["query_sizes"],
            limit_ms=float(trial["sla"]["limit_ms"]),
            percentile=float(trial["sla"]["percentile"]),
            hardware_class=result.hardware_class,
            scope=trial["scope"],
            batch_size=trial["training"]["batch_size"] if result.trains else 0,
            sizes=_changes(trial["sizes"], dataclasses.asdict(kind()) if kind else {}),
            settings=_settings(trial) if result.trains else "",
        )

    @property
    def title(self) -> str:
        """One line for people."""
        rows = f"{self.sized_model} on {self.dataset} ({self.fingerprint[:8]})"
        if self.scope == "train":
            settings = f" ({self.settings})" if self.settings else ""
            return f"{rows}, training{settings}, batch {self.batch_size}, {self.hardware_class}"
        return (
            f"{rows}, {self.scenario}, {self.query_sizes} queries, p{self.percentile:g} <= {self.limit_ms:g} ms, "
            f"{self.hardware_class}"
        )

    @property
    def sized_model(self) -> str:
        """The model's name, with its sizes where they are not the defaults."""
        return f"{self.model} ({self.sizes})" if self.sizes else self.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One readable record. ``unranked``: why it has no rank, empty if it has one."""

    path: Path
    result: Result
    unranked: tuple[str, ...]

    @property
    def lbt_qps(self) -> float:
        """What entries that serve are ranked by; 0 where there is none."""
        return self.result.measured.lbt_qps or 0.0

    @property
    def samples_per_s(self) -> float:
        """What entries that train are ranked by; 0 where there is none."""
        train = self.result.measured.train
        return (train.samples_per_s or 0.0) if train is not None else 0.0

    @property
    def kind(self) -> str:
        """Whether it is a peer, a candidate of ours, or opt=[]."""
        if self.result.is_peer:
            return PEER
        return "baseline" if self.result.candidate is None else "candidate"

    @property
    def gate_passed(self) -> bool:
        """A baseline has no gate to pass."""
        return self.result.gate is None or self.result.gate.verdict == "pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Entries by workload, best first, and the folders that cannot be read with what is wrong."""

    groups: dict[Workload, list[Entry]]
    unreadable: dict[Path, str]


def load_board(records_dir: Path) -> Board:
    """Read every record under ``records_dir``."""
    entries: list[tuple[Workload, Entry]] = []
    unreadable: dict[Path, str] = {}
    for path in find_records(records_dir):
        try:
            result = read_record(path).result
            entry = Entry(path=path, result=result, unranked=reasons_against(result, record_problems(path)))
            entries.append((Workload.of(result), entry))
        except RecordError as error:
            unreadable[path] = str(error)
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:  # sizes or settings that no model has
            unreadable[path] = f"{path} is not a record of this version ({type(error).__name__}: {error})"
    groups: dict[Workload, list[Entry]] = {}
    for workload, entry in sorted(entries, key=lambda item: _order(item[1])):
        groups.setdefault(workload, []).append(entry)
    return Board(groups=dict(sorted(groups.items(), key=lambda item: item[0].title)), unreadable=unreadable)


def reasons_against(result: Result, problems: list[str]) -> tuple[str, ...]:
    """Why a result has no rank: harmed files, a budget that is too short, a failed gate, a host that was not quiet."""
    reasons = [f"record: {problem}" for problem in problems]
    if result.trial["budget"] not in RANKED_BUDGETS:
        reasons.append(f"budget {result.trial['budget']}")
    if result.gate is not None and result.gate.verdict == "fail":
        reasons.append("accuracy gate failed")
    if result.official and not result.certified:
        reasons.append("no certificate")
    if result.validity.verdict != "valid":
        reasons.append(result.validity.verdict.replace("_", " "))
    if result.trains:
        return tuple(reasons)
    if result.ratio is not None and result.ratio.doubt:
        reasons.append("may remember answers")
    if result.floor.referee_bound:
        reasons.append("bound by the referee")
    if result.baseline.slack is not None and result.baseline.slack < MINIMUM_SLACK:
        reasons.append(f"baseline slack {result.baseline.slack:.2f} below {MINIMUM_SLACK:g}")
    if result.measured.lbt_status not in ("measured", "few_clumps"):
        reasons.append(f"LBT {result.measured.lbt_status.replace('_', ' ')}")
    return tuple(reasons)


def _order(entry: Entry) -> tuple[bool, bool, float, str]:
    speed = entry.samples_per_s if entry.result.trains else entry.lbt_qps
    return (not entry.gate_passed, bool(entry.unranked), -speed, entry.path.name)


def _settings(trial: Mapping[str, Any]) -> str:
    defaults = default_training(trial["model"], trial["dataset"]) if trial["model"] in MODELS else None
    given = {name: value for name, value in trial["training"].items() if name not in OF_NO_STEP}
    return _changes(given, dataclasses.asdict(defaults) if defaults else {})


def _changes(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """``name=value`` of everything that is not as by default, in order of the names."""
    changed = {name: _plain(value) for name, value in given.items()}
    same = {name: _plain(value) for name, value in defaults.items()}
    return ", ".join(f"{name}={value}" for name, value in sorted(changed.items()) if same.get(name, _UNKNOWN) != value)


def _plain(value: Any) -> Any:
    """As JSON has it."""
    return list(value) if isinstance(value, tuple) else value


_UNKNOWN = object()
