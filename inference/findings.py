"""What a result says in words: findings, each a tag for programs and a sentence for people."""

from __future__ import annotations

__all__ = ["Finding", "Verdict"]

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple, overload


class Finding(NamedTuple):
    """One thing that was found.

    Attributes:
        tag: A short name for programs to read, as "under-dispersed".
        sentence: The same for people, with its numbers and, where there is one, the remedy.
    """

    tag: str
    sentence: str


@dataclass(frozen=True, repr=False)
class Verdict(Sequence[str]):
    """A verdict as a sequence of sentences; `in` looks for words in any of them.

    Attributes:
        findings: The findings, the most important first.
        passes: Whether nothing speaks against what was judged; None where nothing was tested.

    Examples:
        >>> verdict = Verdict((Finding("biased", "the guide's mean is 2 sd off"),), passes=False)
        >>> print(verdict)
        the guide's mean is 2 sd off
        >>> "2 sd" in verdict, verdict.tags, len(verdict)
        (True, ('biased',), 1)
    """

    findings: tuple[Finding, ...]
    passes: bool | None = None

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of all findings, each once, in their order."""
        return tuple(dict.fromkeys(finding.tag for finding in self.findings))

    @property
    def sentences(self) -> list[str]:
        """The sentences of all findings, in their order."""
        return [finding.sentence for finding in self.findings]

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[str]:
        return iter(self.sentences)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self.sentences[index]

    def __contains__(self, words: object) -> bool:
        return any(str(words) in sentence for sentence in self.sentences)

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    def __repr__(self) -> str:
        return str(self) or "nothing was tested"

    def _repr_html_(self) -> str:
        if not self.findings:
            return f"<p>{self!r}</p>"
        items = "".join([f"<li>{escape(sentence)}</li>" for sentence in self.sentences])
        if self.passes is None:
            return f"<ul>{items}</ul>"
        outcome = {True: "passes", False: "does not pass"}[self.passes]
        return f"<em>{outcome}</em><ul>{items}</ul>"
