"""``python -m leaderboard``: the board, single records, the page, comparisons, late uploads and re-verification."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness.console.observer import console_for
from harness.edge.failures import INTERRUPTED, explain
from harness.errors import ConfigurationError, ExitCode
from harness.record.reader import RecordError, find_records, read_record
from leaderboard.backends import MARK as MATRIX
from leaderboard.backends import matrix
from leaderboard.compare import compare, comparison_view, regressed
from leaderboard.pages import into_page
from leaderboard.peers import MARK as PEERS
from leaderboard.peers import over_peers
from leaderboard.show import board_view, record_view
from leaderboard.site import write_site
from leaderboard.store import Entry, load_board
from leaderboard.sync import sync
from leaderboard.training_sum import training_sums
from leaderboard.training_view import training_view
from leaderboard.verify import verify
from leaderboard.verify_view import verification_view
from optimizations.contract import PlanError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code: 0 fine, 1 a finding (regression, disagreement), 2 bad input."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options, console_for())
    except (ConfigurationError, PlanError, RecordError) as error:
        print(explain(error), file=sys.stderr)
        return int(ExitCode.BAD_CONFIGURATION)
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _show(options: argparse.Namespace, console: Console) -> int:
    if options.record is None:
        console.print(board_view(load_board(options.records_dir)))
    else:
        console.print(record_view(read_record(_found(options.record, options.records_dir))))
    return 0


def _site(options: argparse.Namespace, console: Console) -> int:
    try:
        page = write_site(load_board(options.records_dir), options.out)
    except OSError as error:
        raise ConfigurationError(f"--out {options.out} cannot be written ({error.strerror or error})") from error
    console.print(f"page: {escape(str(page))}", soft_wrap=True)
    return 0


def _compare(options: argparse.Namespace, console: Console) -> int:
    before, after = (read_record(_found(name, options.records_dir)) for name in (options.a, options.b))
    lines = compare(before, after, options.force)
    console.print(comparison_view(before, after, lines))
    return 1 if regressed(lines) else 0


def _sync(options: argparse.Namespace, console: Console) -> int:
    outcome = sync(options.records_dir, options.uri, lambda text: console.print(escape(text), soft_wrap=True))
    return 1 if outcome.failed else 0


def _verify(options: argparse.Namespace, console: Console) -> int:
    verification = verify(_found(options.record, options.records_dir))
    console.print(verification_view(verification))
    return 0 if verification.passed else 1


def _backends(options: argparse.Namespace, console: Console) -> int:
    return _told(matrix(_entries(options)), options, MATRIX)


def _peers(options: argparse.Namespace, console: Console) -> int:
    return _told(over_peers(_entries(options)), options, PEERS)


def _entries(options: argparse.Namespace) -> list[Entry]:
    return [entry for group in load_board(options.records_dir).groups.values() for entry in group]


def _told(table: str, options: argparse.Namespace, mark: str) -> int:
    """Print a table, or put it into the page that is asked for."""
    if options.into is None:
        print(table)
    else:
        into_page(table, options.into, mark)
    return 0


def _training(options: argparse.Namespace, console: Console) -> int:
    console.print(training_view(training_sums(load_board(options.records_dir))))
    return 0


def _found(name: str, records_dir: Path) -> Path:
    """A record by its folder, its name in the records folder, or the start of its trial id (the newest of these)."""
    for path in (Path(name), records_dir / name):
        if path.is_dir():
            return path
    matches = [path for path in find_records(records_dir) if path.name.rpartition("_")[2].startswith(name)]
    if not matches:
        raise ConfigurationError(
            f"there is no record {name!r}: give its folder, its name in {records_dir}, or the start of its trial id"
        )
    return matches[-1]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m leaderboard", description=__doc__)
    parser.add_argument("--records-dir", type=Path, default=Path("records"), help="folder of the records (%(default)s)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    show = commands.add_parser("show", help="the board, or one record", description="Print the board or one record.")
    show.add_argument("record", nargs="?", help="folder, name or trial id; without it the whole board")
    show.set_defaults(command=_show)

    site = commands.add_parser("site", help="the board as a page", description="Write the board as one offline page.")
    site.add_argument("--out", type=Path, default=Path("site"), help="folder of index.html (%(default)s)")
    site.set_defaults(command=_site)

    compare_ = commands.add_parser(
        "compare",
        help="two records; exit code 1 on a regression",
        description="Compare record B with record A. Exit code 0: nothing got worse beyond the 95 %% intervals; 1: "
        "something did; 2: the two cannot be compared (other hardware, data, SLA or model).",
    )
    compare_.add_argument("a", metavar="A", help="the record before")
    compare_.add_argument("b", metavar="B", help="the record after")
    compare_.add_argument("--force", action="store_true", help="compare although workload or hardware differ")
    compare_.set_defaults(command=_compare)

    sync_ = commands.add_parser(
        "sync",
        help="upload what the tracking server missed",
        description="Upload records whose run is not on the MLflow server yet.",
    )
    sync_.add_argument("--uri", help="upload to this tracking URI (default: the one of the run)")
    sync_.set_defaults(command=_sync)

    backends = commands.add_parser(
        "backends",
        help="models on backends, as a Markdown table",
        description="Each model on each backend as a Markdown table: as it comes, and by the fastest plan on record.",
    )
    backends.add_argument("--into", type=Path, help="a page, whose table between its two marks is replaced")
    backends.set_defaults(command=_backends)

    training = commands.add_parser(
        "training",
        help="training plans by the sum of their seconds over all models",
        description="Of every training plan: seconds of fixed steps by model, which are such that each model's "
        "baseline costs about the same, their sum, and the geometric mean of the ratios (docs/training.md).",
    )
    training.set_defaults(command=_training)

    peers = commands.add_parser(
        "peers",
        help="our plans over other packages, as a Markdown table",
        description="The newest record of each plan over each peer as a Markdown table, least ratio first. A peer that "
        "was measured by itself has a row on the board; compare A B tells its ratio to another record's.",
    )
    peers.add_argument("--into", type=Path, help="a page, whose table between its two marks is replaced")
    peers.set_defaults(command=_peers)

    verify_ = commands.add_parser(
        "verify",
        help="recompute a record's numbers",
        description="Check a record's files, its columns against the published traces, and every number of it against "
        "its raw columns. Exit code 1: refused, with the reasons (docs/verifying.md).",
    )
    verify_.add_argument("record", help="folder, name or trial id")
    verify_.set_defaults(command=_verify)
    return parser


if __name__ == "__main__":
    sys.exit(main())
