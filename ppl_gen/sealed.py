"""Files of tensors that end in a checksum of every byte before it, and can run no code."""

from __future__ import annotations

__all__ = ["Format", "expect_whole", "open_seal", "read_sealed", "seal", "write_sealed"]

import hashlib
import io
import os
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from ppl_gen.writing import write_atomically

# What stands at the end of a file: its format, the name of the hash, and the checksum.
_SEAL = re.compile(rb"(ppl-gen [a-z]+ [0-9]{1,9}), blake2b ([0-9a-f]{32})\Z")
_DIGEST = 16  # bytes of the checksum
_LONGEST = 128  # bytes of what stands at the end, at most
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of file, of which there are versions.

    Attributes:
        family: What its files are: "ppl-gen checkpoint".
        version: That of the files which are written, the newest that is read.
        oldest: The oldest that is read.
        sealed_since: The first version whose files have a checksum.
        remedy: What helps where a file is damaged, for the message.
    """

    family: str
    version: int
    oldest: int
    sealed_since: int
    remedy: str

    @property
    def name(self) -> str:
        """What a file that is written says of itself: "ppl-gen checkpoint 4"."""
        return f"{self.family} {self.version}"

    def version_of(self, name: object, path: Path) -> int:
        """The version of a file by what it says of itself.

        Args:
            name: What it says: "ppl-gen checkpoint 2".
            path: Of the file, for the message.

        Raises:
            ValueError: If it is a file of another kind, of a newer version, or too old.
        """
        found = None
        if isinstance(name, str):
            found = re.fullmatch(re.escape(self.family) + " ([0-9]{1,9})", name)
        if found is None:
            raise ValueError(
                f"expected a {self.name!r} file, got something else in {path}; {self.remedy}"
            )
        version = int(found[1])
        if version > self.version:
            raise ValueError(
                f"{path} is a {name!r} file, of a newer version of ppl-gen than this one, which "
                f"reads up to {self.name!r}; update ppl-gen"
            )
        if version < self.oldest:
            raise ValueError(
                f"expected a {self.name!r} file, got a {name!r} one in {path}, which is too old to "
                f"be read; {self.remedy}"
            )
        return version


def write_sealed(path: Path, form: Format, state: Mapping[str, Any]) -> None:
    """Writes tensors and plain values with a checksum at the end, whole or not at all.

    The file is a zip archive, as torch writes it, and the checksum is the archive's comment:
    `torch.load(path, weights_only=True)` reads the file too.

    Args:
        path: Of the file.
        form: What kind of file it is.
        state: What is written; "format" is added to it.
    """
    # By way of memory: an interrupt inside torch.save's own file writer ends the process.
    held = io.BytesIO()
    torch.save({"format": form.name, **state}, held)
    begun = _begin(form)
    # The last two bytes of an archive without a comment say how long the comment is.
    held.seek(-2, io.SEEK_END)
    held.write(struct.pack("<H", len(begun) + 2 * _DIGEST) + begun)
    checksum = hashlib.blake2b(held.getbuffer(), digest_size=_DIGEST).hexdigest()
    held.write(checksum.encode())
    write_atomically(path, lambda file: file.write(held.getbuffer()))


def open_seal(form: Format) -> bytes:
    """The comment of a zip archive that is to be sealed, without its checksum as yet.

    Args:
        form: What kind of file it is.
    """
    return _begin(form) + b"0" * (2 * _DIGEST)


def seal(path: Path) -> None:
    """Writes the checksum of every byte before it to the end of an archive with an open seal.

    Args:
        path: Of the archive, whose comment is `open_seal`.
    """
    with open(path, "r+b") as file:
        end = file.seek(0, io.SEEK_END) - 2 * _DIGEST
        checksum = _checksum(file, end)
        file.seek(end)
        file.write(checksum.encode())
        file.flush()
        os.fsync(file.fileno())


def read_sealed(path: Path, form: Format) -> tuple[int, dict[str, Any]]:
    """What `write_sealed` has written, its tensors on the processor.

    Args:
        path: Of a file that is there.
        form: What kind of file is expected.

    Returns:
        The version of the file, and what it holds.

    Raises:
        ValueError: If it cannot be read, is damaged, of another kind, of a newer version, or
            too old.
    """
    try:
        with open(path, "rb") as file:
            sealed = expect_whole(file, path, form)
            held = _loaded(file, path, form, sealed is not None)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"cannot read {path} ({reason}), which may well be whole; see that this user may read "
            "it, and try again"
        ) from error
    name = held.get("format") if isinstance(held, dict) else None
    version = form.version_of(name, path)
    if sealed is None and version >= form.sealed_since:
        raise ValueError(
            f"{path} is damaged: expected a checksum at its end, got none; {form.remedy}"
        )
    return version, held


def expect_whole(file: IO[bytes], path: Path, form: Format) -> str | None:
    """What the end of a file says of its format, if its checksum is right; None if it has none.

    Args:
        file: The file, opened.
        path: Its path, for messages.
        form: What kind of file is expected.

    Raises:
        ValueError: If it is damaged, of another kind, of a newer version, or too old.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(max(0, end - _LONGEST))
    found = _SEAL.search(file.read())
    if found is None:
        return None
    checksum = _checksum(file, end - 2 * _DIGEST)
    written = found[2].decode()
    if checksum != written:
        raise ValueError(
            f"{path} is damaged: expected the checksum {written}, which was written with it, got "
            f"{checksum}; {form.remedy}"
        )
    name = found[1].decode()
    form.version_of(name, path)
    return name


def _begin(form: Format) -> bytes:
    """What a seal says before its checksum."""
    return f"{form.name}, blake2b ".encode()


def _checksum(file: IO[bytes], count: int) -> str:
    """A checksum of the first bytes of a file."""
    checksum = hashlib.blake2b(digest_size=_DIGEST)
    file.seek(0)
    while count > 0:
        piece = file.read(min(count, _MIB))
        if not piece:
            break
        checksum.update(piece)
        count -= len(piece)
    return checksum.hexdigest()


def _loaded(file: IO[bytes], path: Path, form: Format, is_whole: bool) -> Any:
    """What torch makes of a file.

    Args:
        file: The file.
        path: Its path, for messages.
        form: What kind of file is expected.
        is_whole: Whether its checksum has been found right.
    """
    file.seek(0)
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn file makes the unpickler raise anything
        reason = "".join(str(error).splitlines()[:1]) or type(error).__name__
        if isinstance(error, MemoryError) or "memory" in reason:
            size = path.stat().st_size / _MIB
            raise ValueError(
                f"there is not enough memory to read {path}, of {size:,.0f} MiB ({reason}); free "
                "some, and try again"
            ) from error
        if is_whole:
            raise ValueError(
                f"{path} is as it was written, and torch {torch.__version__} does not read it "
                f"({reason}); read it with the version of torch and ppl-gen that wrote it"
            ) from error
        raise ValueError(
            f"{path} is damaged, or not a {form.family} file (tensors and plain values, no code); "
            f"{form.remedy}"
        ) from error
