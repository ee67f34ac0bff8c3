"""Draws of a run in files for other programs: arrays, one picture, or an image for each."""

from __future__ import annotations

__all__ = ["check_place", "export", "write_image"]

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ppl_gen.app.run.folder import expect_vacant
from ppl_gen.app.run.opened import Fitted
from ppl_gen.app.run.origin import origin
from ppl_gen.app.run.pictures import Drawn, figure_of_samples
from ppl_gen.app.run.texts import LINES, write_lines
from ppl_gen.data.formats.arrays import ARRAYS
from ppl_gen.data.formats.tables import TABLES, write_table
from ppl_gen.plots.style import stamp
from ppl_gen.writing import write_atomically, write_folder, write_picture

_PICTURE = ".png"


def check_place(out: Path, fitted: Fitted, overwrite: bool) -> None:
    """Raises ValueError, before anything is drawn, if draws cannot go to a file or folder.

    Args:
        out: A .npy, .npz or .png file, or a folder; of a table, .csv as well; of lines of
            text, .txt and no picture.
        fitted: The run that is drawn from.
        overwrite: Whether what is there may be written over.
    """
    kinds: tuple[str, ...] = (*ARRAYS, _PICTURE)
    if getattr(fitted.data, "columns", None) is not None:
        kinds = (*kinds, *TABLES)
    if fitted.is_text:
        kinds = (*ARRAYS, LINES)
    if _is_folder(out):
        expect_vacant(out, overwrite)
        if len(fitted.data.shape) != 3 or fitted.data.shape[0] not in (1, 3):
            raise ValueError(
                f"expected a run of grey or colour images for a folder of them, got data of shape "
                f"{tuple(fitted.data.shape)}; say --out draws.npy"
            )
        return
    if out.suffix.lower() not in kinds:
        raise ValueError(
            f"expected --out to be a folder, or a file in {', '.join(kinds)}, got {out}"
        )
    if out.is_dir():
        raise ValueError(f"{out} is a folder; say another place with --out")
    if os.path.lexists(out) and not overwrite:
        raise ValueError(f"{out} exists; say --overwrite, or another place with --out")


def export(fitted: Fitted, drawn: Drawn, out: Path) -> None:
    """Writes draws where `check_place` has nothing against.

    Args:
        fitted: The run that was drawn from.
        drawn: The draws.
        out: A .npy file gets them as one array (N, *shape); a .npz file as x, with the labels or
            attributes that they were drawn under as y, as `ppl_gen.data.load` reads them; a .png
            file all in one picture; a .txt file lines of text; a .csv file rows in the units of
            the table's columns; a folder a PNG for each, in a
            folder for each class where there are classes.
    """
    if _is_folder(out):
        with write_folder(out) as folder:
            for name, image in zip(_names(drawn), drawn.x, strict=True):
                write_image(folder / name, image)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == _PICTURE:
        figure = figure_of_samples(fitted, drawn)
        stamp(figure, f"epoch {fitted.epoch}")
        write_picture(out, figure, origin(fitted.epoch, fitted.weights))
        return
    if out.suffix.lower() == LINES:
        write_lines(out, fitted.data.vocabulary.decode(drawn.x))
        return
    if out.suffix.lower() in TABLES:
        columns = fitted.data.columns
        write_table(out, columns.names, columns.in_units(drawn.x).cpu().numpy())
        return
    x = drawn.x.cpu().numpy()
    if out.suffix.lower() == ".npy":
        write_atomically(out, lambda file: np.save(file, x))
        return
    if drawn.y is None:
        write_atomically(out, lambda file: np.savez(file, x=x))
        return
    y = drawn.y.cpu().numpy()
    write_atomically(out, lambda file: np.savez(file, x=x, y=y))


def write_image(path: Path, image: Tensor) -> None:
    """Writes an image as PNG with 8 bits to a channel, whole or not at all.

    Args:
        path: Of the file, whose folder is made if it is missing.
        image: (C, H, W), with one channel or three; values outside [0, 1] are clipped.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    bytes_of = image.clamp(0, 1).mul(255).round().byte()
    pixels = bytes_of.cpu().numpy()
    if len(pixels) == 1:
        picture = Image.fromarray(pixels[0])
    else:
        picture = Image.fromarray(pixels.transpose(1, 2, 0))
    write_atomically(path, lambda file: picture.save(file, format="PNG"))


def _is_folder(out: Path) -> bool:
    """Whether a place is a folder, or would be one: it has no ending of a file."""
    return out.is_dir() or not out.suffix[1:].isalpha()


def _names(drawn: Drawn) -> Iterable[str]:
    """The name of each file: "circle/0003.png" of a draw of a class, else "0003.png"."""
    for number in range(len(drawn.x)):
        name = f"{number:04}{_PICTURE}"
        if drawn.classes:
            name = f"{drawn.classes[number]}/{name}"
        yield name
