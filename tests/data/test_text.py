"""Lines of text as data: what has a number, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ppl_gen import data
from ppl_gen.data import Vocabulary, tokens_per_line


def _file(folder: Path, lines: Sequence[str]) -> Path:
    path = folder / "lines.txt"
    path.write_text("\n".join(lines), encoding="utf8")
    return path


def test_lines_come_back(tmp_path: Path) -> None:
    lines = [f"Satz {i}: größer" for i in range(30)]
    found = data.load(_file(tmp_path, ["", *lines, "  "]))
    assert (len(found.train), len(found.test), found.shape) == (27, 3, (15,))
    assert found.train.x.dtype == torch.long
    read = found.vocabulary.decode(torch.cat([found.train.x, found.test.x]))
    assert sorted(read) == sorted(lines)
    assert found.stored == "lines of up to 15 characters, 21 different ones"


def test_rare_words_are_one(tmp_path: Path) -> None:
    lines = ["a b c"] * 20 + [f"a rare{i} c" for i in range(5)]
    found = data.load(_file(tmp_path, lines), level="words")
    assert len(found.vocabulary) == 5
    shown = found.vocabulary.decode(found.vocabulary.encode(["a strange c"]))
    assert shown == ["a ⟨unknown⟩ c"]


def test_the_end_is_counted_where_there_is_one() -> None:
    x = Vocabulary(("a", "b")).encode(["", "a", "ab", "aba"], 3)
    assert tokens_per_line(x).tolist() == [1, 2, 3, 3]


def test_a_length_of_ones_own_leaves_room(tmp_path: Path) -> None:
    assert data.load(_file(tmp_path, ["ab", "b"]), length=7).shape == (7,)


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (b"", {}, "expected at least 2 lines in .*, got 0; give one sentence"),
        (b"one line\n", {}, "expected at least 2 lines in .*, got 1"),
        (b"aaa\naa\n", {}, "at least two different characters, got 1: nothing is uncertain"),
        (b"\x89PNG\r\n\xff\xfe", {}, "expected text in UTF-8, got bytes that are none at place 0"),
        (b"a\x00b\nab\n", {}, "got control characters in"),
        (b"abc\nabcde\n", {"length": 4}, "lines of at most 4 characters, got one of 5, 'abcde'"),
        (b"abc\nabcde\n", {"length": 0}, "expected a line's length of at least 1, got 0"),
        (b"abc\nabcde\n", {"level": "letters"}, "characters"),
        (b"a b\nc d\n", {"level": "words"}, "words that occur twice, got 2 words that occur once"),
        (b"abc\nab\n", {"binarize": "static"}, "expected lines of text as they are"),
    ],
)
def test_what_is_no_text_is_refused(
    content: bytes, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        data.load(path, **options)


def test_other_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no text file"):
        data.load(tmp_path / "nowhere.txt")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(ValueError, match="expected a regular file, got a folder"):
        data.load(tmp_path / "folder.txt")
    path = _file(tmp_path, ["ab", "b"])
    with pytest.raises(ValueError, match="leave it out"):
        data.load(f"{path}:inverted")


def test_unknown_characters_are_named() -> None:
    letters = Vocabulary(("a", "b"))
    with pytest.raises(ValueError, match="of the 2 that are known, got the character 'ß' in 'aßb'"):
        letters.encode(["aßb"])
    with pytest.raises(ValueError, match=r"lines of at most 2 characters, got one of 3, 'abb'"):
        letters.encode(["a", "abb"], 2)
    with pytest.raises(ValueError, match="one of them twice"):
        Vocabulary(("a", "a"))
