"""`ppl-gen compress` and `decompress`: data as so few bits as a run's bound says, and back."""

from __future__ import annotations

__all__ = ["compress", "decompress"]

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ppl_gen import data
from ppl_gen.app.run.opened import Fitted
from ppl_gen.data.formats.arrays import ARRAYS, pixels, read_array
from ppl_gen.inference import Compressed, elbo
from ppl_gen.inference import compress as compressed_by
from ppl_gen.inference import decompress as decompressed_by
from ppl_gen.inference.compression.codecs import lossless_sizes
from ppl_gen.reading import expect_file
from ppl_gen.writing import write_atomically

_PARTICLES = 20  # by which the bound is measured
_MOST_BYTES = 2**31  # of a file that is read


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How data lie in an array of the user's, which is to come back as it was.

    Attributes:
        dtype: Of the array.
        shape: Of a datum there.
        divisor: What its numbers are divided by for the program.
    """

    dtype: str
    shape: tuple[int, ...]
    divisor: float

    @classmethod
    def of(cls, array: np.ndarray, divisor: float) -> _Layout:
        """That of an array (N, ...)."""
        return cls(dtype=array.dtype.str, shape=array.shape[1:], divisor=divisor)

    @classmethod
    def read(cls, note: str, x: Tensor) -> _Layout:
        """What a note says; data as the program has them where it says nothing of the kind."""
        as_it_is = cls(dtype="<f4", shape=tuple(x.shape[1:]), divisor=1)
        try:
            dtype, shape, divisor = json.loads(note)
            found = cls(dtype=np.dtype(dtype).str, shape=tuple(shape), divisor=float(divisor))
            is_whole = math.prod(found.shape) == math.prod(x.shape[1:])
        except (ValueError, TypeError):
            return as_it_is
        if is_whole and np.dtype(dtype).kind in "buif":
            return found
        return as_it_is

    @property
    def note(self) -> str:
        """All of it in a line."""
        return json.dumps([self.dtype, self.shape, self.divisor], separators=(",", ":"))

    def array(self, x: Tensor) -> np.ndarray:
        """Data of the program as the array has them.

        Args:
            x: (N, *shape), as the program has them.
        """
        dtype = np.dtype(self.dtype)
        numbers = x.double() * self.divisor
        if dtype.kind != "f":
            numbers = numbers.round()
        if x.dim() == 4 and tuple(x.shape[1:]) != self.shape:
            last = numbers.movedim(1, -1)  # colours, which many files have last
            if tuple(last.shape[1:]) == self.shape:
                numbers = last
        return numbers.reshape(len(x), *self.shape).numpy().astype(dtype)


def compress(
    fitted: Fitted,
    name: str,
    file: Path,
    *,
    precision: int,
    limit: int | None,
    console: Console,
) -> Compressed:
    """Compresses data by a run, and prints how long they are beside the bound and other codecs.

    They are decompressed before anything is written, and compared.

    Args:
        fitted: The run, on the processor.
        name: Of a data set, whose test data are taken, binarised as the run's are; or of a file of
            arrays, of which all data are taken as they are.
        file: Where they are written to, by `expect_free`.
        precision: Bits of a latent.
        limit: How many data are taken, from the first; None for all.
        console: Where the table is printed.

    Returns:
        What was written.

    Raises:
        ValueError: Before anything is written, if the run has no discrete likelihood, or the data
            are not of its shape and values.
    """
    _expect_program(fitted)
    x, layout = _read(fitted, name, limit)
    held = compressed_by(fitted.program, x, precision=precision, note=layout.note, progress=True)
    back = decompressed_by(fitted.program, held, progress=True)
    if not torch.equal(back, x):
        raise ValueError(
            f"the data do not come back as they were on this machine: nothing was written to {file}"
        )
    bound = elbo(fitted.program, None, x, particles=_PARTICLES, seed=0, progress=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda open_file: open_file.write(held.to_bytes()))
    _print(fitted, name, x, held, -bound.mean() / math.log(2), console)
    size = file.stat().st_size
    console.print(
        f"every value comes back as it was; written to {file}, {size:,} bytes", soft_wrap=True
    )
    return held


def decompress(fitted: Fitted, file: Path, out: Path, *, console: Console) -> int:
    """Writes the data of a compressed file as an array.

    Args:
        fitted: The run that they were compressed with, on the processor.
        file: What `compress` has written.
        out: A .npy file, which gets the array as it was, by `expect_free`.
        console: Where a line says what was done.

    Returns:
        The number of data.

    Raises:
        ValueError: Before anything is written, if there is no such file, it is cut short, damaged
            or of another run, or networks put out other numbers than where it was written.
    """
    _expect_program(fitted)
    held = _held(file)
    x = decompressed_by(fitted.program, held, progress=True)
    array = _Layout.read(held.note, x).array(x)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda open_file: np.save(open_file, array))
    shape = " × ".join(map(str, array.shape[1:]))
    console.print(f"written to {out}: {len(array)} data of {shape}, {array.dtype}", soft_wrap=True)
    return len(array)


def _held(file: Path) -> Compressed:
    """What a file holds."""
    expect_file(file)
    if not file.exists():
        raise ValueError(f"no file at {file}; `ppl-gen compress` writes one")
    size = file.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(f"expected compressed data, got a file of {size:,} bytes at {file}")
    try:
        return Compressed.from_bytes(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _expect_program(fitted: Fitted) -> None:
    """Raises ValueError if a run has no guide, or is conditioned on something."""
    fitted.expect_guide("compression")
    fitted.expect_numbers("compression")
    fitted.expect_continuous("compression")
    if fitted.condition is not None:
        raise ValueError(
            f"expected a run without a condition for compression, got a {fitted.config.model} "
            f"{fitted.given}, which whoever decompresses would have to know; fit a vae or a "
            "conv-vae"
        )


def _read(fitted: Fitted, name: str, limit: int | None) -> tuple[Tensor, _Layout]:
    """The data, as the program has them, and how they lie in the array that is to come back."""
    if limit is not None and limit < 1:
        raise ValueError(f"expected --limit of at least 1, got {limit}")
    if _is_file_of_others(fitted, name):
        array, divisor = read_array(Path(name))
        array = array[:limit]
        x = pixels(torch.as_tensor(array.astype(np.float32)), divisor)
    else:
        x = _test_data(fitted, name, limit)
        array, divisor = x.numpy(), 1.0
    shape = tuple(fitted.data.shape)
    if tuple(x.shape[1:]) != shape:
        raise ValueError(
            f"expected data of shape {shape}, which the run was fitted to, got "
            f"{tuple(x.shape[1:])} in {name}"
        )
    layout = _Layout.of(array, divisor)
    if not np.array_equal(layout.array(x), array):
        raise ValueError(
            f"expected numbers of single precision in {name}, as the program has them, got "
            f"{array.dtype} of more digits, which would not come back; store them as float32"
        )
    return x, layout


def _is_file_of_others(fitted: Fitted, name: str) -> bool:
    """Whether a name is that of a file of arrays, and not of the run's own data."""
    place, suffixes = data.parse(name)
    path = Path(place)
    if suffixes or path.suffix.lower() not in ARRAYS:
        return False
    own = Path(fitted.config.data)
    return not (own.exists() and path.exists() and path.samefile(own))


def _test_data(fitted: Fitted, name: str, limit: int | None) -> Tensor:
    """The test data of a data set, binarised as the run's are, by the draw that is scored."""
    config = fitted.config
    is_own = name == config.data
    if not is_own and Path(name).exists() and Path(config.data).exists():
        is_own = Path(name).samefile(config.data)
    if is_own:
        return fitted.data.test.fixed(0, limit).x
    read = data.load(name, config.root, binarize=config.binarize, image_size=config.image_size)
    return read.test.fixed(0, limit).x


def _print(
    fitted: Fitted, name: str, x: Tensor, held: Compressed, bound: Any, console: Console
) -> None:
    """The lengths by the run, the bound, and by other codecs."""
    size = " × ".join(map(str, x.shape[1:]))
    console.print(f"{len(x)} data of {name}, {size}, by {fitted.name}", soft_wrap=True)
    table = Table()
    table.add_column("", no_wrap=True)
    for heading in ("bits per datum", "per dimension", "bytes in all"):
        table.add_column(heading, justify="right", no_wrap=True)
    width = math.prod(x.shape[1:])

    def add(what: str, bits: float, error: str = "") -> None:
        each = bits / len(x)
        table.add_row(what, f"{each:.2f}{error}", f"{each / width:.4f}", f"{bits / 8:,.0f}")

    total = held.bits + held.header_bits
    add(f"{fitted.config.model}, bits back", total)
    add("−ELBO / ln 2", float(bound.value) * len(x), f" ± {float(bound.standard_error):.2f}")
    values, symbols = x.unique(return_inverse=True)
    levels = max(len(values), 2)
    for codec, length in lossless_sizes(symbols.numpy(), levels).items():
        add(codec, 8 * length)
    console.print(table)
    overhead = total / (float(bound.value) * len(x)) - 1
    console.print(
        f"{overhead:+.2%} of the bound: of all bits {held.initial_bits} are initial ones, for the "
        f"latents of the first datum, and {held.header_bits} say what the file is",
        soft_wrap=True,
    )
