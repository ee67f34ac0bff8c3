"""CelebA's faces with their attributes, in folders as archives of them unpack."""

from __future__ import annotations

__all__ = ["CROP", "SIDE", "holds_faces", "read_faces"]

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ppl_gen.contexts import reason
from ppl_gen.data.formats.files import (
    IMAGES,
    expect_room_for_images,
    held_or_streamed,
    opened,
    resized,
)
from ppl_gen.data.splits import Dataset, nine_to_one
from ppl_gen.reading import expect_file

SIDE = 64  # to which faces are brought, where no side is asked for
CROP = 148  # pixels of 178 × 218 that hold the face

_SIZE = (178, 218)
_FOLDER = "img_align_celeba"
_ATTRIBUTES = "list_attr_celeba"
_PARTITION = "list_eval_partition"
_TRAIN, _TEST = 0, 2  # of the partition, whose 1 is left to validation


def holds_faces(path: Path) -> bool:
    """Whether a folder holds the folder img_align_celeba, and its attributes in a list.

    Args:
        path: The folder.
    """
    return _images_in(path) is not None and _list_in(path, _ATTRIBUTES) is not None


def read_faces(name: str, path: Path, image_size: int | None, stream: bool | None) -> Dataset:
    """Faces, and 0 or 1 for each attribute, by list_attr_celeba.csv or .txt.

    The list list_eval_partition says which are to train on and to test on; without it they are
    split nine to one. The 148 × 148 pixels in the middle are kept of aligned faces, the central
    square of others.

    Args:
        name: What they are loaded as.
        path: The folder that `holds_faces`.
        image_size: The side that they are brought to; 64 if None.
        stream: Whether they are read anew in every epoch; None does so above 2 GiB.

    Raises:
        ValueError: If a list cannot be read, or no image is there of those that it names.
    """
    folder = _images_in(path)
    attributes = _list_in(path, _ATTRIBUTES)
    assert folder is not None
    assert attributes is not None
    size = image_size or SIDE
    expect_room_for_images(size)
    listed = _read(attributes)
    there = {file.name for file in folder.iterdir()}
    kept = [place for place, file in enumerate(listed.files) if file in there]
    if not kept:
        raise ValueError(
            f"expected the images of {attributes} in {folder}, got none of {len(listed.files)}, "
            f"such as {listed.files[0]}; unpack img_align_celeba.zip there"
        )
    words = []
    if len(kept) < len(listed.files):
        words.append(f"{len(kept)} of {len(listed.files)} listed faces are there")
    partition = _list_in(path, _PARTITION)
    if partition is None:
        train, test = nine_to_one(len(kept), str(path))
        words.append(f"split nine to one for want of {_PARTITION}")
    else:
        train, test = _parted(kept, listed.files, _read(partition), partition)
    attributes_of = torch.as_tensor((listed.numbers > 0).astype(np.int64))
    transform = resized(size, crop=_crop_of(folder / listed.files[kept[0]]))
    sources = []
    for part in (train, test):
        places = [kept[row] for row in part]
        rows = [(folder / listed.files[place], attributes_of[place]) for place in places]
        sources.append(_Faces(rows, transform))
    made = held_or_streamed(name, sources[0], sources[1], stream, labelled=True)
    return replace(made, attribute_names=listed.names, stored=", ".join(words))


class _List(NamedTuple):
    """A list of files, with numbers (N, A) of each under A names; none where none are given."""

    names: tuple[str, ...]
    files: list[str]
    numbers: np.ndarray


class _Faces(TorchDataset):
    """Images in files with their attributes, 0 or 1."""

    def __init__(self, rows: list[tuple[Path, Tensor]], transform: Callable[[Any], Tensor]) -> None:
        self.rows = rows
        self.transform = transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        file, attributes = self.rows[index]
        with opened(file) as image:
            return self.transform(image.convert("RGB")), attributes.float()


def _images_in(path: Path) -> Path | None:
    """The folder of the images, which some archives put into another of its name."""
    for folder in (path / _FOLDER / _FOLDER, path / _FOLDER, path / "Img" / _FOLDER):
        if folder.is_dir():
            return folder
    return None


def _list_in(path: Path, name: str) -> Path | None:
    """The file of a list, .csv or .txt, which lies where the images' folder or notes do."""
    for folder in (path, path / "Anno", path / "Eval", path / _FOLDER):
        for ending in (".csv", ".txt"):
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
    return None


def _read(path: Path) -> _List:
    """A list whose lines are the name of a file and whole numbers, between commas or spaces.

    What comes before them is how many there are, or a name for each of the numbers.
    """
    expect_file(path)
    try:
        text = path.read_text(encoding="utf8").replace(",", " ")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {reason(error)}") from error
    lines = [line for line in text.splitlines() if line.strip()]
    rows = [line.split(None, 1) for line in lines]
    first = 0
    while first < len(rows) and not _names_an_image(rows[first]):
        first += 1
    files = [row[0] for row in rows[first:]]
    wrong = f"expected lines of an image's name and whole numbers in {path}, got"
    if not files or not all(map(_names_an_image, rows[first:])):
        raise ValueError(f"{wrong} others, or none; fetch it anew")
    cells = [" ".join(row[1:]) for row in rows[first:]]
    try:
        numbers = np.loadtxt(cells, np.int64, comments=None, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{wrong} another: {error}; fetch it anew") from error
    if len(numbers) != len(files):  # a line without numbers is none
        raise ValueError(f"{wrong} a name alone; fetch it anew")
    header = "".join(lines[first - 1 : first]).split()
    names: tuple[str, ...] = ()
    if len(header) >= numbers.shape[1]:  # in .csv after "image_id"
        names = tuple(header[-numbers.shape[1] :])
    return _List(names, files, numbers)


def _names_an_image(row: Sequence[str]) -> bool:
    return row[0].lower().endswith(IMAGES)


def _parted(
    kept: list[int], files: list[str], partition: _List, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of `kept` that are to train on, and those to test on, by their files' names."""
    part_of = dict(zip(partition.files, partition.numbers[:, 0].tolist(), strict=True))
    parts = np.array([part_of.get(files[place], -1) for place in kept])
    train, test = np.flatnonzero(parts == _TRAIN), np.flatnonzero(parts == _TEST)
    if len(train) == 0 or len(test) == 0:
        raise ValueError(
            f"expected faces to train on (0) and to test on (2) by {path}, got {len(train)} and "
            f"{len(test)} of {len(kept)} that are there; unpack more, or move {path.name} away: "
            "they are split nine to one then"
        )
    return train, test


def _crop_of(file: Path) -> int | None:
    """The side of what is kept of an aligned face; None of faces that are cut already."""
    with opened(file) as image:
        if image.size == _SIZE:
            return CROP
    return None
