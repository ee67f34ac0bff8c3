"""Parts of the user's own: `module:object`, or `path/to/file.py:object`, in the place of a name.

To name a file is to run its code.
"""

from __future__ import annotations

__all__ = ["absolute", "check_form", "checksum", "is_own", "load_object"]

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ppl_gen.names import nearest
from ppl_gen.reading import expect_file

_SUFFIX = ".py"
# What was loaded from files, by path and checksum: a class is made once.
_LOADED: dict[tuple[str, str], ModuleType] = {}


def is_own(word: str) -> bool:
    """Whether a word names an object of the user's, not a row of a table."""
    return ":" in word


def check_form(flag: str, word: str) -> None:
    """Raises ValueError unless a word is of the form `module:object` or `file.py:object`.

    Args:
        flag: Of the option, for the message.
        word: What was typed.
    """
    place, _, name = word.rpartition(":")
    names = name.split(".")
    if not place.endswith(_SUFFIX):
        names += place.split(".")
    if not all(piece.isidentifier() for piece in names):
        raise ValueError(
            f"expected {flag} as module:object or path/to/file.py:object, got {word!r}; see "
            "ppl-gen parts"
        )


def absolute(flag: str, word: str) -> str:
    """The same word with the absolute path of a file, which any folder can be left for.

    A module that is a file of the current folder is named by its path too.

    Args:
        flag: Of the option, for the message.
        word: `module:object` or `file.py:object`.

    Raises:
        ValueError: If the word is of another form, or there is no such file or module.
    """
    check_form(flag, word)
    place, _, name = word.rpartition(":")
    if place.endswith(_SUFFIX):
        path = Path(place).expanduser().resolve()
    elif Path(place + _SUFFIX).is_file():
        path = Path(place + _SUFFIX).resolve()
    else:
        _source(flag, word)
        return word
    word = f"{path}:{name}"
    _source(flag, word)
    return word


def checksum(flag: str, word: str) -> str:
    """A checksum of the file that an object is defined in.

    Args:
        flag: Of the option, for the message.
        word: `module:object` or `file.py:object`.

    Raises:
        ValueError: If there is no such file.
    """
    return _checksum(_source(flag, word))


def load_object(flag: str, word: str) -> Any:
    """The object that a word names; the code of its file is run.

    Args:
        flag: Of the option, for the message.
        word: `module:object` or `file.py:object`.

    Raises:
        ValueError: If the file or the object is not there, its code fails, or the object cannot be
            called.
    """
    path = _source(flag, word)
    place, _, name = word.rpartition(":")
    found: Any = _module(flag, place, path)
    for piece in name.split("."):
        if not hasattr(found, piece):
            there = [public for public in vars(found) if not public.startswith("_")]
            raise ValueError(f"{flag}: no object {piece!r} in {path}; {nearest(piece, there)}")
        found = getattr(found, piece)
    if not callable(found):
        raise ValueError(
            f"expected {flag} to name a function or a class, got {name} of {path}, a "
            f"{type(found).__name__}; a part is a callable that returns a distribution"
        )
    return found


def _source(flag: str, word: str) -> Path:
    """The file that the object of a word is defined in."""
    place, _, _ = word.rpartition(":")
    if place.endswith(_SUFFIX):
        path = Path(place)
        if not path.exists():
            raise ValueError(
                f"{flag}: no file at {path}; put it (back) there, or name another: "
                "path/to/file.py:object"
            )
        expect_file(path, "name a file of Python code")
        return path
    with _importing_from(Path.cwd()):
        try:
            spec = importlib.util.find_spec(place)
        except (ImportError, ValueError):
            spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise ValueError(
            f"{flag}: no module {place!r} with a file of Python code in this folder or among the "
            "installed ones; name its file: path/to/file.py:object"
        )
    return Path(spec.origin)


def _module(flag: str, place: str, path: Path) -> ModuleType:
    """The module of a file or of a name, its code run once."""
    try:
        if not place.endswith(_SUFFIX):
            with _importing_from(Path.cwd()):
                return importlib.import_module(place)
        key = (str(path), _checksum(path))
        if key not in _LOADED:
            _LOADED[key] = _run(path)
        return _LOADED[key]
    except (Exception, SystemExit) as error:
        what = str(error).splitlines() or [""]
        raise ValueError(
            f"{flag}: the code of {path} stops with {type(error).__name__}: {what[0]}; mend it, "
            f"and try `python {path}`"
        ) from error


def _run(path: Path) -> ModuleType:
    """The module of a file that is not installed."""
    # A name of its own: two files of the same name are two modules.
    name = f"{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()}"
    # Compiled here: Python's cache of compiled files would miss a change within a second.
    code = compile(path.read_bytes(), str(path), "exec")
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # where dataclasses and pickles look
    try:
        with _importing_from(path.parent):
            exec(code, module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Lets imports find the files of a folder, as those of a script are found."""
    place = str(folder)
    sys.path.insert(0, place)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if place in sys.path:
            sys.path.remove(place)


def _checksum(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
