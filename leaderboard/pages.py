"""Tables in Markdown, and the place of one in a page of the docs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import ConfigurationError


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table of ``rows``, the first of which are the headings."""
    head, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body))


def into_page(table: str, page: Path, mark: str) -> None:
    """Put ``table`` between the two lines of ``page`` for ``mark``. Raises ConfigurationError where it lacks them."""
    first, last = marks(mark)
    text = page.read_text("utf-8") if page.is_file() else ""
    before, start, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not (start and end):
        raise ConfigurationError(f"--into {page}: there is no page with the lines {first} and {last}; add them to it")
    page.write_text(f"{before}{first}\n{table}\n{last}{after}", "utf-8")


def marks(mark: str) -> tuple[str, str]:
    """The lines between which a table stands."""
    return f"<!-- {mark} -->", f"<!-- end of {mark} -->"
