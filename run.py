"""RecArena: configuration -> trial -> measurement -> record -> tracking. ``python run.py --help`` lists the choices.

Imports stand where they are needed: the help page must not wait for what only a run needs.
"""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING

from harness.edge.help import help_page, wants_help

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from harness.edge.sweep import Outcome, Sweep


def run_trial(config: DictConfig, sweep: Sweep) -> Outcome:
    """The hops of one trial; ``harness.edge.failures`` explains what it raises."""
    from harness.console.observer import observer_for
    from harness.edge.config import build_trial
    from harness.edge.sweep import finished
    from harness.measure import measure
    from harness.record.tracking import track
    from harness.record.writer import RecordWriter

    trial, options = build_trial(config)
    with closing(observer_for()) as observer:
        if known := sweep.resume(trial, options, observer.note):
            return known
        with RecordWriter(options.records_dir, trial) as writer:
            measurement = measure(trial, options, observer)
            record = writer.write(measurement)
        observer.note(f"record: {record}")
        tracked = track(record, options.tracking_uri, sweep.tag, measurement.weights_path)
        observer.note(tracked.sentence)
    return finished(measurement.result, record)


def main() -> int:
    """Run one trial, or with -m a sweep; returns the exit code."""
    if wants_help(sys.argv[1:]):
        print(help_page())
        return 0
    import hydra

    from harness.edge.command import Command
    from harness.edge.config import CONF, PRIMARY

    command = Command(sys.argv[1:], run_trial)
    return command.run(hydra.main(version_base="1.3", config_path=str(CONF), config_name=PRIMARY)(command.trial))


if __name__ == "__main__":
    sys.exit(main())
