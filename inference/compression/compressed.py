"""Compressed data: what they are of, how long they are, and the bytes that hold them."""

from __future__ import annotations

__all__ = ["Compressed", "expect_note"]

import hashlib
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ppl_gen.inference.findings import Verdict
from ppl_gen.inference.result import Result

if TYPE_CHECKING:
    import pandas

_MAGIC = b"ppl-gen compressed "
_VERSION = 1
_HEAD = struct.Struct("<8s8sIIBHHIBBH")
_FIELDS = (
    "weights",
    "arithmetic",
    "count",
    "latents",
    "precision",
    "rows",
    "growth",
    "initial_words",
    "dtype",
    "axes",
    "letters",
)
_MOST_LETTERS = 2**16 - 1  # of a note, in bytes
_DIGEST = 8  # bytes of the checksum at the end
_WORD = 32  # bits
_DTYPES = ("float16", "float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
_AGAIN = "copy it again from where it was written, or compress the data anew"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Compressed(Result):
    """Data as bits, which the program that they were compressed with gives back.

    Attributes:
        words: The bits, in words of 32, the initial ones included.
        count: N, the number of data.
        shape: Of a datum.
        dtype: Of the data: "float32".
        latents: D, the number of latents.
        precision: P, bits of a latent.
        rows: Data of a batch of the networks.
        growth: How many data have to be done for one more in a batch.
        initial_words: How many words were there before the first datum.
        weights: A checksum of the program's weights.
        arithmetic: A checksum of what its networks put out.
        note: What else whoever decompresses is to know.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> x = torch.rand(20, 4).round()
        >>> file = compress(vae, x).to_bytes()
        >>> Compressed.from_bytes(file).count
        20
    """

    words: np.ndarray
    count: int
    shape: tuple[int, ...]
    dtype: str
    latents: int
    precision: int
    rows: int
    growth: int
    initial_words: int
    weights: bytes
    arithmetic: bytes
    note: str = ""

    @property
    def bits(self) -> int:
        """The length of all data, in bits, without what a file says besides (`header_bits`)."""
        return _WORD * len(self.words)

    @property
    def initial_bits(self) -> int:
        """How many of them were there before the first datum, to draw its latents by."""
        return _WORD * self.initial_words

    @property
    def header_bits(self) -> int:
        """What `to_bytes` adds: shapes, counts and checksums."""
        return 8 * len(self.to_bytes()) - self.bits

    @property
    def bits_per_datum(self) -> float:
        """The length of a datum on average, the initial bits included."""
        return self.bits / self.count

    @property
    def bits_per_dimension(self) -> float:
        """The length of an entry of a datum on average, the initial bits included."""
        return self.bits_per_datum / math.prod(self.shape)

    @property
    def verdict(self) -> Verdict:
        """Without findings: nothing is tested. `decompress` tells whether the data come back."""
        return Verdict(())

    @property
    def headline(self) -> str:
        """How long the data are."""
        return (
            f"{self.count} data in {self.bits_per_datum:.2f} bits each, "
            f"{self.bits_per_dimension:.4f} per dimension, {self.initial_bits} initial bits of all "
            "included"
        )

    def table(self) -> pandas.DataFrame:
        """One row: data, bits of each and of each dimension, initial bits and those of a header."""
        import pandas

        row = {
            "data": self.count,
            "bits per datum": self.bits_per_datum,
            "bits per dimension": self.bits_per_dimension,
            "initial bits": self.initial_bits,
            "header bits": self.header_bits,
        }
        return pandas.DataFrame([row], index=["compressed"])

    def to_pandas(self) -> pandas.DataFrame:
        """The same row as `table`."""
        return self.table()

    def to_bytes(self) -> bytes:
        """All of it, with a checksum at the end."""
        head = _HEAD.pack(
            self.weights,
            self.arithmetic,
            self.count,
            self.latents,
            self.precision,
            self.rows,
            self.growth,
            self.initial_words,
            _DTYPES.index(self.dtype),
            len(self.shape),
            len(self.note.encode()),
        )
        shape = struct.pack(f"<{len(self.shape)}I", *self.shape)
        body = self.words.astype("<u4").tobytes()
        whole = _first_line(_VERSION) + head + shape + self.note.encode() + body
        return whole + _checksum(whole)

    @classmethod
    def from_bytes(cls, held: bytes) -> Compressed:
        """What `to_bytes` gave.

        Args:
            held: All of it.

        Raises:
            ValueError: If it is something else, of a newer version, cut short or damaged.
        """
        begin = _expect_version(held)
        if _checksum(held[:-_DIGEST]) != held[-_DIGEST:]:
            raise ValueError(
                f"expected compressed data that end in a checksum of all before it, got "
                f"{len(held)} bytes that do not: they are cut short, or damaged; {_AGAIN}"
            )
        try:
            made = cls._of_parts(held[begin:-_DIGEST])
        except (struct.error, IndexError, ValueError) as error:
            raise ValueError(
                f"expected compressed data, got a header that says what cannot be ({error}); "
                f"{_AGAIN}"
            ) from error
        return made

    @classmethod
    def _of_parts(cls, held: bytes) -> Compressed:
        """What header, shape, note and bits say; raises errors of several kinds if they cannot."""
        head = dict(zip(_FIELDS, _HEAD.unpack_from(held), strict=True))
        axes, letters = head.pop("axes"), head.pop("letters")
        dtype = _DTYPES[head.pop("dtype")]
        begin = _HEAD.size + 4 * axes
        shape = struct.unpack_from(f"<{axes}I", held, _HEAD.size)
        note = held[begin : begin + letters].decode()
        words = np.frombuffer(held[begin + letters :], dtype="<u4")
        for name in ("count", "latents", "precision", "rows", "growth"):
            if head[name] < 1:
                raise ValueError(f"{name} 0")
        if 0 in shape or len(words) == 0 or words[-1] == 0:
            raise ValueError("no data")
        if len(words) < head["initial_words"]:
            raise ValueError("fewer bits than initial ones")
        return cls(words=words.astype(np.uint32), shape=shape, dtype=dtype, note=note, **head)


def expect_note(note: str) -> None:
    """Raises ValueError if a note does not fit into a header.

    Args:
        note: What whoever decompresses is to know.
    """
    length = len(note.encode())
    if length > _MOST_LETTERS:
        raise ValueError(f"expected a note of at most {_MOST_LETTERS} bytes, got {length}")


def _first_line(version: int) -> bytes:
    return _MAGIC + f"{version}\n".encode()


def _checksum(held: bytes) -> bytes:
    return hashlib.blake2b(held, digest_size=_DIGEST).digest()


def _expect_version(held: bytes) -> int:
    """Where the header begins, if bytes are compressed data of this version."""
    line, _, _ = held[:64].partition(b"\n")
    version = line.removeprefix(_MAGIC)
    if not line.startswith(_MAGIC) or not version.isdigit():
        raise ValueError(
            f"expected compressed data, which begin with {_MAGIC.decode()!r}, got something else; "
            "`ppl-gen compress` and ppl_gen.inference.compress make them"
        )
    if int(version) > _VERSION:
        raise ValueError(
            f"expected compressed data of version {_VERSION} at most, got version "
            f"{int(version)}, of a newer ppl-gen than this one; update ppl-gen"
        )
    return len(line) + 1
