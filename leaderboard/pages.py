"""Tables in Markdown, and the place of one in a page of the docs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import ConfigurationError

LINES_OF_HEADINGS = 2


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table of ``rows``, the first of which are the headings."""
    head, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body))


def into_page(table: str, page: Path, mark: str) -> None:
    """Put ``table`` between the two lines of ``page`` for ``mark``.

    Raises ConfigurationError where it lacks them, or where a table without a row would take the place of another.
    """
    if table.count("\n") < LINES_OF_HEADINGS:
        raise ConfigurationError(
            f"no record belongs in this table, and {page} stays as it is; --records-dir DIR, before the command, says "
            "where the records are"
        )
    first, last = marks(mark)
    try:
        text = page.read_text("utf-8") if page.is_file() else ""
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"--into {page}: it is not text in UTF-8 ({error.reason})") from error
    lines = text.split("\n")
    if first not in lines or last not in lines[lines.index(first) :]:
        raise ConfigurationError(f"--into {page}: there is no page with the lines {first} and {last}; add them to it")
    start = lines.index(first)
    end = lines.index(last, start)
    page.write_text("\n".join([*lines[: start + 1], table, *lines[end:]]), "utf-8")


def marks(mark: str) -> tuple[str, str]:
    """The lines between which a table stands."""
    return f"<!-- {mark} -->", f"<!-- end of {mark} -->"
