"""Files that are read: regular ones, since a pipe or a device in their place never ends."""

from __future__ import annotations

__all__ = ["expect_file"]

import stat
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def expect_file(path: Path, remedy: str = "name another") -> None:
    """Raises ValueError if something that is no regular file stands in the place of one.

    A missing file is left to whoever reads it, who knows what is missing.

    Args:
        path: Of the file; links are followed.
        remedy: What helps, for the message.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if stat.S_ISREG(mode):
        return
    kind = _KINDS.get(stat.S_IFMT(mode), "something else")
    raise ValueError(f"expected a regular file, got {kind} at {path}; {remedy}")
