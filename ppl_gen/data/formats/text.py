"""Data in lines of a text file: sentences, names, molecules in SMILES."""

from __future__ import annotations

__all__ = ["TEXTS", "read_lines"]

from dataclasses import replace
from pathlib import Path

from ppl_gen.contexts import reason
from ppl_gen.data.splits import Dataset, Split, nine_to_one
from ppl_gen.data.words.vocabulary import LEVELS, Vocabulary, shown, split_line
from ppl_gen.memory import expect_memory
from ppl_gen.names import resolve
from ppl_gen.reading import expect_file

TEXTS = (".txt", ".smi")


def read_lines(path: Path, level: str = "characters", length: int | None = None) -> Dataset:
    """The lines of a text file, nine of ten to train and one to test, by a fixed permutation.

    Characters are those of the whole file, words those that occur twice in the lines to train on.
    Empty lines are left out, and spaces in a row are one.

    Args:
        path: Of the file, in UTF-8.
        level: "characters" or "words".
        length: The most tokens that a line may have; as many as the longest has if None.

    Raises:
        ValueError: If the file is no text, has fewer than two lines, or lines that are too long.
    """
    resolve("level", level, LEVELS)
    lines = _lines(path)
    rows = [[lines[i] for i in part] for part in nine_to_one(len(lines), f"the lines of {path}")]
    known = lines
    if level == "words":
        known = rows[0]
    vocabulary = Vocabulary.of(known, level)
    if length is None:
        length = max(map(len, (split_line(line, level) for line in lines)))
    try:
        splits = [Split(vocabulary.encode(part, length)) for part in rows]
    except ValueError as error:
        raise ValueError(f"{error} (in {path})") from error
    stored = f"lines of up to {length} {level}, {len(vocabulary) - 1} different ones"
    made = Dataset.of(path.name, splits[0], splits[1])
    return replace(made, stored=stored, vocabulary=vocabulary)


def _lines(path: Path) -> list[str]:
    """The lines of a file that are not empty, without spaces at their ends."""
    expect_file(path)
    try:
        expect_memory(f"the text of {path}", 4 * path.stat().st_size, "give a shorter file")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected text in UTF-8, got bytes that are none at place {error.start} of {path}; "
            "save it as UTF-8, or name a text file"
        ) from None
    lines = [" ".join(line.split()) for line in text.splitlines()]
    lines = [line for line in lines if line]
    for number, line in enumerate(lines, 1):
        if not line.isprintable():
            raise ValueError(
                f"expected lines of text in {path}, got control characters in {shown(line)}, line "
                f"{number} of those that are not empty; name a text file"
            )
    if len(lines) < 2:
        raise ValueError(
            f"expected at least 2 lines in {path}, to train and to test, got {len(lines)}; give "
            "one sentence, or molecule, a line"
        )
    return lines
