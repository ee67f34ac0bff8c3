"""What a user sees: words from outside printed as they are, and warnings as plain lines."""

from __future__ import annotations

__all__ = ["Terminal", "warnings_as_lines", "widened"]

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ppl_gen.app.wording import in_options
from ppl_gen.names import spelled_out


class Terminal(Console):
    """A console that takes every string literally, in lines and tables alike.

    Names of files, folders, labels and columns come from users: square brackets are no markup,
    words between colons no emoji, and control characters are spelled out.

    Args:
        **options: Those of rich's `Console`, such as `file` and `width`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Text with its style, as all that is printed goes through here.

        Args:
            text: What is printed.
            **options: Those of rich, such as `style`; `markup` and `emoji` have no effect.
        """
        return super().render_str(spelled_out(text), **{**options, "markup": False, "emoji": False})


def widened(console: Console, width: int) -> Terminal:
    """A console to the same place that has at least so many columns, for a wide table.

    Args:
        console: Where else is printed.
        width: The least number of columns.
    """
    return Terminal(file=console.file, width=max(console.width, width))


@contextmanager
def warnings_as_lines(console: Console) -> Iterator[None]:
    """Prints warnings as single lines, each text once, those of other libraries under their name.

    Args:
        console: Where they are printed.
    """
    said: set[str] = set()

    def show(
        message: Warning | str, category: type[Warning], filename: str, *place: Any, **more: Any
    ) -> None:
        text = in_options(" ".join(str(message).split()))
        if text in said:
            return
        said.add(text)
        console.print(f"warning{_of_library(filename)}: {text}", soft_wrap=True)

    with warnings.catch_warnings():
        # A letter that the font of pictures does not have is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        warnings.showwarning = show
        yield


def _of_library(filename: str) -> str:
    """The name of another library that a warning comes from, as " of NAME"; empty for our own."""
    parts = Path(filename).parts
    if "site-packages" not in parts[:-1]:
        return ""
    name = parts[parts.index("site-packages") + 1]
    if name == "ppl_gen":
        return ""
    return f" of {name.removesuffix('.py')}"
