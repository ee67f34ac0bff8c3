"""Files that are written whole or not at all: bytes, strict JSON, pictures, folders of files.

What is written has a name of its own, which nobody can foresee, until it is whole. So a reader sees
the old file or the new one; and a symbolic link in the place of a file is replaced by the file, and
never written through.
"""

from __future__ import annotations

__all__ = [
    "append_line",
    "is_part",
    "plain",
    "uninterrupted",
    "write_atomically",
    "write_beside",
    "write_folder",
    "write_json",
    "write_picture",
]

import errno
import io
import json
import math
import os
import re
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What ends a process unless it is heeded; not all systems have all of them.
_INTERRUPTS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_NAMED = 50  # letters of a file's name in the name of its parts
_PART = re.compile(r"\..*\.(?P<process>\d+)-[0-9a-f]{8}\.part")
_REMEDIES = {
    "ENOSPC": "make room on its disk",
    "EDQUOT": "make room in your quota of its disk",
    "EFBIG": "raise the limit of file sizes (`ulimit -f`)",
    "EACCES": "say a place that you may write to",
    "EPERM": "say a place that you may write to",
    "EROFS": "say a place that you may write to",
    "ELOOP": "it is a symbolic link, which is not written through: move it away",
}


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Writes a file so that a reader sees the old one or the new one, whole.

    What is written goes into a file beside it, and to disk, before that is renamed.

    Args:
        path: Of the file.
        write: Writes into the open file that it is given.

    Raises:
        OSError: If it cannot be written, with its name and a remedy; what was there stays.
    """
    with _errors_named(path), _part_of(path) as part:
        raw = io.FileIO(part, "x")
        with _Written(raw) as file:
            write(file)
            file.flush()
            os.fsync(raw.fileno())
        os.replace(part, path)


class _Written(io.BufferedWriter):
    """A file that is written by Python alone.

    Given its number, Pillow writes by itself, and takes no notice of what a full disk cuts off.
    """

    def fileno(self) -> int:
        raise io.UnsupportedOperation("this file is written by Python alone")


@contextmanager
def write_beside(path: Path, room: int = 0) -> Iterator[Path]:
    """The path of a file to write, which takes the place of another when it is whole.

    For what opens its file by name; else see `write_atomically`.

    Args:
        path: Of the file to replace.
        room: How many bytes the disk has to have for it, where a writer ends badly without.

    Raises:
        OSError: If it cannot be written, with its name and a remedy; what was there stays.
    """
    with _errors_named(path), _part_of(path) as part:
        with open(part, "xb") as file:
            if room and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, room)
            file.truncate()
        yield part
        os.replace(part, path)


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """A new folder to write into, whose files come into another one when all are there.

    Where there is no such folder yet, it comes into being with all of its files at once; of one
    that is there, files of the same names are replaced.

    Args:
        path: Of the folder that the files are for.

    Raises:
        OSError: If something cannot be written, with the name of the folder and a remedy.
    """
    top = path
    if not path.is_dir():
        while not top.parent.exists():
            top = top.parent
    with _part_of(top, inside=path.is_dir()) as part:
        new = part / path.relative_to(top)
        with _errors_named(path):
            new.mkdir(parents=True)
        try:
            yield new
        except OSError as error:
            if str(new) not in str(error):
                raise
            raise _copy_of(error, str(error).replace(str(new), str(path))) from error
        with _errors_named(path), uninterrupted():
            if path.is_dir():
                _move_files(new, path)
            else:
                os.rename(part, top)


def _move_files(source: Path, target: Path) -> None:
    """Moves all files of a folder, and of the folders in it, to the same places in another."""
    for file in sorted(source.rglob("*")):
        place = target / file.relative_to(source)
        if not file.is_dir():
            os.replace(file, place)
        elif place.is_symlink():
            raise OSError(errno.ELOOP, "a symbolic link", str(place))
        else:
            place.mkdir(exist_ok=True)


def append_line(path: Path, line: str) -> None:
    """Writes at the end of a file, which is made if it is missing.

    Args:
        path: Of the file.
        line: What is written.

    Raises:
        OSError: If it cannot be written, or is a symbolic link.
    """
    with _errors_named(path), open(path, "ab", opener=_open_itself) as file:
        file.write(line.encode())


def _open_itself(path: str, flags: int) -> int:
    for name in ("O_NOFOLLOW", "O_NONBLOCK"):  # no link; a pipe that nobody reads is an error
        flags |= getattr(os, name, 0)
    return os.open(path, flags, 0o666)


def write_json(path: Path, value: Any) -> None:
    """Writes strict JSON, whole or not at all.

    Args:
        path: Of the file.
        value: What is written; numbers that are not finite become null.
    """
    text = json.dumps(plain(value), indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def write_picture(path: Path, figure: Figure, words: Mapping[str, str] | None = None) -> None:
    """Writes a figure as PNG, whole or not at all.

    Args:
        path: Of the file.
        figure: What is drawn.
        words: What the file says besides, by keyword; nothing if left out.
    """
    said = dict(words or {})
    write_atomically(path, lambda file: figure.savefig(file, format="png", metadata=said))


def plain(value: Any) -> Any:
    """With None for numbers that are not finite, which JSON does not have.

    Args:
        value: Numbers, strings, and lists and dicts of these.
    """
    if isinstance(value, dict):
        return {key: plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [plain(held) for held in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Lets what is inside come to its end: signals that would interrupt it are heeded after it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # where no signal interrupts
        return
    came: list[int] = []
    handlers = {}
    for number in _INTERRUPTS:
        if callable(signal.getsignal(number)):
            handlers[number] = signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


@contextmanager
def _part_of(path: Path, inside: bool = False) -> Iterator[Path]:
    """A name for what is to become a file or folder; what is left of it in the end is deleted.

    Args:
        path: Of the file or folder.
        inside: Whether it is to lie in the folder, not beside it.
    """
    folder = path.parent
    if inside:
        folder = path
    begin = f".{path.name[:_NAMED]}"
    _delete_leftovers(folder, begin)
    part = folder / f"{begin}.{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        yield part
    finally:
        _delete(part)


def is_part(name: str) -> bool:
    """Whether a name is that of a file or folder on its way, or left by a process that was killed.

    Args:
        name: Of the file or folder, without the folder that it lies in.
    """
    return _PART.fullmatch(name) is not None


def _delete_leftovers(folder: Path, begin: str) -> None:
    """Deletes parts of a file that a process has left which was killed."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if not name.startswith(begin):
                continue
            found = _PART.fullmatch(name)
            if found and not _is_running(int(found["process"])):
                _delete(folder / name)


def _is_running(process: int) -> bool:
    if os.name != "posix":
        return True  # elsewhere the signal 0 is no question
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _delete(path: Path) -> None:
    """Deletes a file, a link, or a folder with all that is in it, if it is there."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Gives an OSError the name of the file that could not be written, and a remedy."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise OSError(errno.EINVAL, "it is a device or a pipe")
        yield
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "")
        remedy = _REMEDIES.get(code, "look at its disk, or say another place")
        reason = error.strerror or " ".join(str(error).split())
        raise _copy_of(error, f"{path} cannot be written ({reason}); {remedy}") from error


def _copy_of(error: OSError, message: str) -> OSError:
    """The error with another message."""
    copy = OSError(message)
    copy.errno = error.errno
    return copy
