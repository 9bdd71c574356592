"""What happened to the trials of one command line: outcomes, resumption, the summary and the worst exit code."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.console.report import DASH, number, ratio_verdict, with_interval
from harness.errors import ExitCode, worst
from harness.host.environment import hardware_class, source_sha256
from harness.host.software import here
from harness.options import RunOptions
from harness.record.result import Result
from harness.record.resumption import Wanted, find_resumable
from harness.record.side_result import SideResult
from harness.record.tracking import SweepTag
from harness.trial import Trial
from optimizations.registry import third_party_packages

LEVEL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one trial ended: with a result and its record, or with an error."""

    code: ExitCode
    result: Result | None = None
    record: Path | None = None
    error: str = ""
    resumed: bool = False


def finished(result: Result, record: Path) -> Outcome:
    """The outcome of a trial that was measured and recorded."""
    return Outcome(code=result.exit_code, result=result, record=record)


class Sweep:
    """The outcomes of one command line; a single run is a sweep of one that is never resumed."""

    def __init__(self, arguments: Sequence[str], multirun: bool) -> None:
        self._arguments = tuple(arguments)
        self._multirun = multirun
        self.outcomes: list[Outcome] = []

    @property
    def tag(self) -> SweepTag | None:
        """Identity of the sweep for tracking: the same command line has the same one. None for a single run."""
        if not self._multirun:
            return None
        digest = hashlib.sha256(json.dumps(sorted(self._arguments)).encode()).hexdigest()
        return SweepTag(sweep_id=digest[:12], overrides=self._arguments)

    def resume(self, trial: Trial, options: RunOptions, say: Callable[[str], None]) -> Outcome | None:
        """The outcome of a record of this trial that is as good as a new measurement (``harness.record.resumption``),
        and why others were not taken.

        None for a single run, which always measures.
        """
        if not self._multirun:
            return None
        wanted = Wanted(
            trial_id=trial.trial_id,
            source_sha256=source_sha256(plugins=third_party_packages(trial.opts)),
            hardware_class=hardware_class(options.keep_awake),
            versions=self._versions,
        )
        found = find_resumable(options.records_dir, wanted, options.resume)
        if found.passed_over:
            say(f"trial {trial.trial_id}: {found.passed_over}, and is not taken for its result")
        if (record := found.record) is None:
            return None
        say(f"trial {trial.trial_id}: skipped, its valid record is {record.path}")
        return Outcome(code=record.result.exit_code, result=record.result, record=record.path, resumed=True)

    @functools.cached_property
    def _versions(self) -> dict[str, str]:
        """A file of every installed package is read for them, and they stay."""
        return here()

    def add(self, outcome: Outcome) -> None:
        """Keep the outcome of one trial."""
        self.outcomes.append(outcome)

    def close(self, console: Console) -> ExitCode:
        """Print the summary of a sweep and return the worst code."""
        if self._multirun:
            console.print(summary_table(self.outcomes))
        return worst([outcome.code for outcome in self.outcomes])


def summary_table(outcomes: Sequence[Outcome]) -> Table:
    """One row per trial. A ratio counts as a difference only where Holm's adjusted p value is at most 0.05."""
    table = Table(title="sweep", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading, justify in (("trial", "left"), ("opt", "left"), ("baseline qps", "right"), ("candidate qps", "right")):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    table.add_column("ratio", justify="right")
    for heading in ("verdict", "gate", "exit", "record"):
        table.add_column(heading, overflow="fold")
    calls = holm_calls([outcome.result for outcome in outcomes])
    for outcome, call in zip(outcomes, calls, strict=True):
        table.add_row(*_row(outcome, call))
    return table


def holm_calls(results: Sequence[Result | None]) -> list[str]:
    """Verdict on each ratio of a sweep: faster or slower only where it holds for the whole family (Holm 1979), to which
    what is void does not belong."""
    from harness.estimate.stats import holm  # loads scipy, for which a bad command line must not wait

    found = [(None, None, None) if result is None or result.void else result.speedup for result in results]
    p_values = {index: p for index, (_, _, p) in enumerate(found) if p is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    calls = []
    for index, (ratio, bounds, _) in enumerate(found):
        call = ratio_verdict(ratio, bounds)
        calls.append("no difference" if adjusted.get(index, 0.0) > LEVEL else call)
    return ["void" if result is not None and result.void else call for result, call in zip(results, calls, strict=True)]


def _row(outcome: Outcome, call: str) -> list[str]:
    result = outcome.result
    if result is None:
        return ["failed", escape(outcome.error[:60]), "", "", "", "", "", str(int(outcome.code)), ""]
    gate, (ratio, bounds, _) = result.gate, result.speedup
    name = "" if outcome.record is None else outcome.record.name
    return [
        f"{result.trial['model']}/{result.dataset.name}",
        escape(result.plan_name),
        _speed(result, result.baseline),
        _speed(result, result.candidate),
        with_interval(ratio, bounds),
        call,
        DASH if gate is None else gate.verdict,
        str(int(outcome.code)),
        f"{name} (kept)" if outcome.resumed else name,
    ]


def _speed(result: Result, side: SideResult | None) -> str:
    """What a side is compared by."""
    if side is None:
        return DASH
    if result.trains:
        return number(side.train.samples_per_s if side.train else None, unit=" samples/s")
    return number(side.lbt_qps)
