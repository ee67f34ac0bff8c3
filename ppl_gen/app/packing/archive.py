"""Archives of files with a checksum of each, which are looked at before anything is unpacked.

An archive is a zip file. Its manifest names every other file with its size and its checksum, and
at its end stands a checksum of every byte before it.
"""

from __future__ import annotations

__all__ = ["Archive", "write"]

import hashlib
import json
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ppl_gen.app.run import documents
from ppl_gen.app.run.documents import is_count
from ppl_gen.reading import expect_file
from ppl_gen.sealed import Format, expect_whole, open_seal, seal
from ppl_gen.writing import write_beside

FORMAT = Format(
    family="ppl-gen pack",
    version=1,
    oldest=1,
    sealed_since=1,
    remedy="get the file anew, or pack the run anew",
)
MANIFEST = "manifest.json"
_DIGEST = 16  # bytes of a checksum
_MIB = 2**20
_MOST_MANIFEST = 16 * _MIB
_MOST_PARTS = 2  # of a name: a file of the run, or of one folder in it
_PART = re.compile(r"\w[\w. -]*(?<![. ])")
_COMPRESSED = (".json", ".jsonl", ".csv", ".txt", ".md")  # the others hardly become smaller
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip file can say
_MODE = stat.S_IFREG | 0o644
# What reading a damaged zip file raises.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    UnicodeError,
)


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What the manifest says of a file.

    Attributes:
        size: In bytes.
        checksum: Of its content.
    """

    size: int
    checksum: str


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An archive whose manifest was found whole.

    Attributes:
        path: Of the file.
        notes: What was written beside the files, by name.
        files: What the manifest says of each file.
    """

    path: Path
    notes: dict[str, Any]
    files: dict[str, _Held]

    @classmethod
    def read(cls, path: Path) -> Archive:
        """The archive of a file, of which nothing is unpacked yet.

        Args:
            path: Of the file.

        Raises:
            ValueError: If it is missing, none of `write`'s, damaged, of a newer version, or would
                lay files elsewhere than into one folder.
        """
        expect_file(path)
        if not path.exists():
            raise ValueError(f"no file at {path}; `ppl-gen pack RUN {path}` makes one")
        with open(path, "rb") as file:
            if expect_whole(file, path, FORMAT) is None:
                raise _not_one(path)
        with _opened(path) as packed:
            notes, files = _said(_manifest(packed, path), path)
            _expect_files(packed, files, path)
        return cls(path=path, notes=notes, files=files)

    def unpack(self, folder: Path) -> None:
        """Writes all files into a folder.

        Args:
            folder: Which is there, and empty.

        Raises:
            ValueError: If the content of a file is not what was packed, or there is no room for
                all of it.
        """
        size = sum(held.size for held in self.files.values())
        free = shutil.disk_usage(folder).free
        if size > free:
            raise ValueError(
                f"{self.path} holds {size / _MIB:,.0f} MiB, and the disk of {folder.parent} has "
                f"room for {free / _MIB:,.0f} MiB; make room, or say another --out"
            )
        with _opened(self.path) as packed:
            for name, held in self.files.items():
                place = folder / name
                place.parent.mkdir(exist_ok=True)
                with packed.open(name) as source, open(place, "xb") as target:
                    found = _copy(source, target, held.size)
                if found != held:
                    raise _damaged(self.path, f"{name} is not what was packed")


def write(path: Path, folder: Path, names: Sequence[str], notes: Mapping[str, Any]) -> None:
    """Writes files of a folder into an archive, whole or not at all.

    The same files and notes give the same bytes.

    Args:
        path: Of the archive.
        folder: That the files lie in.
        names: Of the files, in the folder or in one inside of it: "compare/traces.png".
        notes: What is written beside them: strings, numbers, lists and dicts of these.
    """
    with write_beside(path) as part:
        with zipfile.ZipFile(part, "w") as packed:
            files = {}
            for name in names:
                held = _put(packed, folder, name)
                files[name] = {"bytes": held.size, "blake2b": held.checksum}
            said = {"format": FORMAT.name, **notes, "files": files}
            manifest = json.dumps(said, indent=2, allow_nan=False) + "\n"
            packed.writestr(_entry(MANIFEST), manifest.encode())
            packed.comment = open_seal(FORMAT)
        seal(part)


def _put(packed: zipfile.ZipFile, folder: Path, name: str) -> _Held:
    """Puts a file of a folder into an archive."""
    place = folder / name
    with open(place, "rb") as source:
        size = place.stat().st_size
        with packed.open(_entry(name), "w", force_zip64=True) as target:
            return _copy(source, target, size)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EARLIEST)
    entry.external_attr = _MODE << 16
    if name.endswith(_COMPRESSED):
        entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _copy(source: IO[bytes], target: IO[bytes], most: int) -> _Held:
    """Copies a file, no more than one byte beyond what there may be; its size and checksum."""
    checksum = hashlib.blake2b(digest_size=_DIGEST)
    size = 0
    while size <= most:
        piece = source.read(min(_MIB, most + 1 - size))
        if not piece:
            break
        target.write(piece)
        checksum.update(piece)
        size += len(piece)
    return _Held(size=size, checksum=checksum.hexdigest())


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip file, whose damage is named."""
    try:
        with zipfile.ZipFile(path) as packed:
            yield packed
    except _DAMAGE as error:
        raise _damaged(path, str(error) or type(error).__name__) from error


def _manifest(packed: zipfile.ZipFile, path: Path) -> bytes:
    """The bytes of the manifest."""
    try:
        entry = packed.getinfo(MANIFEST)
    except KeyError:
        raise _not_one(path) from None
    if entry.file_size > _MOST_MANIFEST:
        raise _damaged(path, f"its manifest has {entry.file_size:,} bytes")
    with packed.open(entry) as file:
        return file.read(_MOST_MANIFEST)


def _said(manifest: bytes, path: Path) -> tuple[dict[str, Any], dict[str, _Held]]:
    """What a manifest says: its notes, and each file."""
    try:
        said = documents.parse(manifest)
        listed = said.pop("files")
        said.pop("format")
        files = {}
        for name, held in listed.items():
            if not is_count(held["bytes"]) or not isinstance(held["blake2b"], str):
                raise ValueError(f"no size or checksum of {name}")
            files[name] = _Held(size=held["bytes"], checksum=held["blake2b"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, f"its manifest says {error}") from error
    return said, files


def _expect_files(packed: zipfile.ZipFile, files: Mapping[str, _Held], path: Path) -> None:
    """Raises ValueError unless an archive holds the files of its manifest, and nothing else."""
    entries = packed.infolist()
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names) or set(names) != {MANIFEST, *files}:
        raise _damaged(path, "its files are not those of its manifest")
    for entry in entries:
        _expect_inside(entry.filename, path)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if entry.is_dir() or kind not in (0, stat.S_IFREG):
            raise _hostile(path, f"{entry.filename} is a link, or no file")
        if entry.flag_bits & 1:
            raise _hostile(path, f"{entry.filename} is encrypted")
        if entry.filename != MANIFEST and entry.file_size != files[entry.filename].size:
            raise _damaged(path, f"{entry.filename} has {entry.file_size} bytes")


def _expect_inside(name: str, path: Path) -> None:
    """Raises ValueError unless a name is that of a file in a folder, or in one inside of it."""
    parts = PurePosixPath(name).parts
    is_plain = "/".join(parts) == name and 1 <= len(parts) <= _MOST_PARTS
    if not is_plain or not all(map(_PART.fullmatch, parts)):
        raise _hostile(path, f"{name!r} would lie elsewhere than in the folder of a run")


def _not_one(path: Path) -> ValueError:
    return ValueError(f"{path} is not what `ppl-gen pack` writes; name another file")


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} is damaged ({why}); {FORMAT.remedy}")


def _hostile(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} is not what `ppl-gen pack` writes ({why}); do not trust it")
