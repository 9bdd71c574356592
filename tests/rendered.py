"""What a terminal would show."""

from __future__ import annotations

from rich.console import Console, RenderableType


def text_of(view: RenderableType, width: int = 260) -> str:
    """A rendered view as plain text, on a terminal of so many columns."""
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(view)
    return capture.get()
