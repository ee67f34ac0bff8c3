"""The lock of a run: one process at a time fits it, or adds to what was found of it."""

from __future__ import annotations

__all__ = ["FILE", "locked"]

import errno
import os
import re
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows, where no run is locked
    fcntl = None  # type: ignore[assignment]

FILE = ".ppl-gen-lock"

# What file systems say that have no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)

_open_here: set[int] = set()


def _leave_to_parent() -> None:
    """Closes the locks in a process that was forked, so that they end with its parent."""
    for number in _open_here:
        with suppress(OSError):
            os.close(number)
    _open_here.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


@contextmanager
def locked(folder: Path, what: str = "run") -> Iterator[None]:
    """Holds the run of a folder, which is made if it is missing, for this process alone.

    The system gives the lock back when the process ends, however it ends. A folder that was made
    and is still empty in the end is removed.

    Args:
        folder: Of the run.
        what: What lies in it, for the message: "run", "sweep".

    Raises:
        ValueError: If another process holds it.
    """
    made = _make(folder)
    number = None
    try:
        number = _take(folder, what)
        yield
    finally:
        if number is not None:
            with suppress(OSError):
                os.unlink(folder / FILE)
            _open_here.discard(number)
            os.close(number)
        with suppress(OSError):  # what has become of them is not empty
            for path in made:
                path.rmdir()


def _make(folder: Path) -> list[Path]:
    """Makes a folder, and returns it and those above it that were missing as well."""
    missing: list[Path] = []
    path = folder
    while not path.exists():
        missing.append(path)
        path = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _take(folder: Path, what: str) -> int | None:
    """The number of the open file that is locked; None where there are no locks."""
    if fcntl is None:
        return None
    path = folder / FILE
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = _holder(number)
            os.close(number)
            raise ValueError(
                f"the {what} {folder} is in use by {holder}; wait until that ends, or take another "
                "folder"
            ) from None
        except OSError as error:
            os.close(number)
            if error.errno not in _NO_LOCKS:
                raise
            warnings.warn(
                f"the file system of {folder} has no locks: see to it that no other process uses "
                f"the {what}",
                RuntimeWarning,
                stacklevel=4,
            )
            return None
        if _is_still_there(path, number):
            break
        os.close(number)  # who held it has removed it
    _open_here.add(number)
    with suppress(OSError):  # the lock holds without it
        os.truncate(number, 0)
        os.write(number, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return number


def _holder(number: int) -> str:
    """Who holds a lock, as far as its file says."""
    said = os.read(number, 200).decode(errors="replace")
    if re.fullmatch(r"process \d+ on [\w.-]+", said):
        return said
    return "another process"


def _is_still_there(path: Path, number: int) -> bool:
    """Whether an open file has still its name."""
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(number))
