"""Lines of a run over text: samples, reconstructions, and a path from one sentence to another."""

from __future__ import annotations

__all__ = ["LINES", "all_lines", "reconstructions", "write_lines"]

from collections.abc import Sequence
from pathlib import Path

import torch

from ppl_gen.app.run.opened import Fitted
from ppl_gen.paths import path
from ppl_gen.program import reconstruct, simulate
from ppl_gen.writing import write_atomically

LINES = ".txt"


def write_lines(place: Path, lines: Sequence[str]) -> Path:
    """Writes lines of text, whole or not at all.

    Args:
        place: The path of the file.
        lines: What it gets.

    Returns:
        The path of the file.
    """
    text = "\n".join(lines) + "\n"
    write_atomically(place, lambda file: file.write(text.encode()))
    return place


def all_lines(fitted: Fitted) -> list[Path]:
    """Writes samples, reconstructions and a path between two sentences of a new fit.

    Args:
        fitted: A run over text.

    Returns:
        The paths of the files.
    """
    written = [_samples(fitted), reconstructions(fitted)]
    if len(fitted.data.test) > 1:
        written.append(_sentence_path(fitted))
    return written


def _samples(fitted: Fitted, count: int = 100) -> Path:
    """Lines from the run's own seed, in samples.txt."""
    torch.manual_seed(fitted.config.seed)
    drawn = fitted.data.vocabulary.decode(simulate(fitted.program, count))
    return write_lines(fitted.run.folder / "samples.txt", drawn)


def reconstructions(fitted: Fitted, count: int = 36) -> Path:
    """Test lines, each above the likeliest line at z from the guide, into reconstructions.txt.

    Args:
        fitted: A run over text.
        count: How many test lines, counted from the first.

    Returns:
        The path of the file.
    """
    x = fitted.data.test.fixed(0, count).x
    vocabulary = fitted.data.vocabulary
    lines: list[str] = []
    drawn = reconstruct(fitted.program, x)
    for line, again in zip(vocabulary.decode(x), vocabulary.decode(drawn), strict=True):
        lines += [line, again, ""]
    return write_lines(fitted.run.folder / "reconstructions.txt", lines)


def _sentence_path(fitted: Fitted, steps: int = 11) -> Path:
    """The first test line, what lies between its latent and that of the second, and that."""
    ends = fitted.data.test.fixed(0, 2).x
    vocabulary = fitted.data.vocabulary
    first, last = vocabulary.decode(ends)
    between = vocabulary.decode(path(fitted.program, ends, steps=steps))
    return write_lines(fitted.run.folder / "path.txt", [first, "", *between, "", last])
