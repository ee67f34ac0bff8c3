"""What every evaluator returns: a verdict in words, a table to read, and every number."""

from __future__ import annotations

__all__ = ["Result"]

from abc import ABC, abstractmethod
from html import escape
from typing import TYPE_CHECKING

from ppl_gen.inference.findings import Verdict

if TYPE_CHECKING:
    import pandas

_MOST_LETTERS = 1800  # that a result is shown with; all of it is what `str` gives
_MOST_ROWS = 60  # of a folded table; of more, the first and last
_MOST_COLUMNS = 20


class Result(ABC):
    """What was found: shown short in a terminal, and as verdict and folded table in a notebook.

    A subclass gives `verdict`, `table` and `to_pandas`, and `headline` if it has numbers that
    belong beside the verdict. A dataclass says `repr=False`, so as not to show its tensors.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> found = sbc(ppca, 50, seed=0)
        >>> isinstance(found, Result), found.table().shape, found.to_pandas().shape
        (True, (2, 3), (50, 2))
    """

    @property
    @abstractmethod
    def verdict(self) -> Verdict:
        """What the numbers mean, in sentences; without any where nothing was tested."""

    @abstractmethod
    def table(self) -> pandas.DataFrame:
        """The numbers to read, a few rows or one for each coordinate."""

    @abstractmethod
    def to_pandas(self) -> pandas.DataFrame:
        """Every number, in the finest rows that there are: by datum, draw or coordinate."""

    @property
    def headline(self) -> str:
        """The numbers in a line or a few, as they stand beside the verdict."""
        return ""

    def __str__(self) -> str:
        return "\n".join(filter(None, [self.headline, str(self.verdict)]))

    def __repr__(self) -> str:
        text = str(self)
        if len(text) <= _MOST_LETTERS:
            return text
        return f"{text[:_MOST_LETTERS]} … (print it to see all)"

    def _repr_html_(self) -> str:
        table = self.table()
        rows = table.to_html(
            max_rows=_MOST_ROWS,
            max_cols=_MOST_COLUMNS,
            float_format="{:.4g}".format,
            border=0,
        )
        parts = [f"<strong>{escape(type(self).__name__)}</strong>", self.verdict._repr_html_()]
        if self.headline:
            parts.append(f"<pre>{escape(self.headline)}</pre>")
        size = " × ".join(map(str, table.shape))
        parts.append(f"<details><summary>table, {size}</summary>{rows}</details>")
        return "<div>" + "\n".join(parts) + "</div>"
