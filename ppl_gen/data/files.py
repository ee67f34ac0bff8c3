"""Data in files of one's own: folders of images, and arrays in .npy and .npz files."""

from __future__ import annotations

__all__ = [
    "ARRAYS",
    "IMAGES",
    "held_or_streamed",
    "pixels",
    "read_arrays",
    "read_folder",
    "resized",
]

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torch.utils.data import Dataset as TorchDataset

from ppl_gen import memory
from ppl_gen.data.splits import Dataset, Split, StreamedSplit

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
ARRAYS = (".npy", ".npz")

# The modes of Pillow that are read: 8 bits to a channel, or 1.
_GREY = {"1", "L", "LA"}
_COLOUR = {"P", "RGB", "RGBA"}
_CHANNELS = (1, 3, 4)

_EXACT = 2**24  # up to which single precision holds every whole number


def read_folder(path: Path, image_size: int | None, stream: bool | None) -> Dataset:
    """Images of a folder, or of one folder per class; `train` and `test` of that kind if there.

    Args:
        path: The folder.
        image_size: Side to which images are brought, from their central square; their own if None.
        stream: Whether they are read anew in every epoch; None does so above 2 GiB.

    Raises:
        ValueError: If there are no images, they cannot be read, or differ in size.
    """
    parts = [path / "train", path / "test"]
    if not all(part.is_dir() for part in parts):
        parts = [path]
    labels = _labels(parts)
    listed = [_listed(part, labels) for part in parts]
    seen = _headers(listed)
    _check_images(seen, listed, path, image_size)
    mode = "L" if seen.modes <= _GREY else "RGB"
    sources: list[Any] = [_ImageFiles(rows, mode, resized(image_size)) for rows in listed]
    if len(sources) == 1:
        train, test = _nine_to_one(len(sources[0]), str(path))
        whole = sources[0]
        sources = [Subset(whole, train.tolist()), Subset(whole, test.tolist())]
    made = held_or_streamed(
        path.name, sources[0], sources[1], stream, labelled=bool(labels), classes=len(labels)
    )
    return replace(made, class_names=tuple(labels))


def read_arrays(path: Path) -> Dataset:
    """Arrays x_train and x_test, with y_train and y_test if labelled; or x, with y, or a .npy file.

    Bytes are images and divided by 255, unless they are all 0 or 1; other integers are counts and
    left as they are. `stored` of the data set says which.

    Args:
        path: The file.

    Raises:
        ValueError: If it cannot be read, arrays are missing, or their shapes or numbers are not
            those of data and labels.
    """
    stored = _stored(path)
    if {"x_train", "x_test"} <= stored.keys():
        reading = _reading_of([stored["x_train"], stored["x_test"]], path)
        train = _array_split(stored["x_train"], stored.get("y_train"), reading, path)
        test = _array_split(stored["x_test"], stored.get("y_test"), reading, path)
    elif "x" in stored:
        reading = _reading_of([stored["x"]], path)
        train, test = _divided(stored["x"], stored.get("y"), reading, path)
    else:
        raise ValueError(
            f"expected arrays x_train and x_test, or x, in {path}, got "
            f"{', '.join(sorted(stored)) or 'none'}"
        )
    _check_same(train.x, test.x, "data", path)
    _check_same(train.y, test.y, "labels", path)
    made = Dataset.of(path.name, train, test, _classes(train, test, path))
    return replace(made, stored=reading.words)


def held_or_streamed(
    name: str,
    train: Any,
    test: Any,
    stream: bool | None,
    *,
    labelled: bool,
    classes: int = 0,
) -> Dataset:
    """A data set of two torch datasets of (x, y), in memory or as streams.

    Args:
        name: Of the data set.
        train: What is fitted.
        test: What is scored.
        stream: Whether it is streamed; None does so above 2 GiB.
        labelled: Whether y is a label or an attribute vector.
        classes: The number of labels; 0 where there are none.
    """
    if stream is None:
        stream = train[0][0].numel() * (len(train) + len(test)) > memory.STREAMED
    splits: list[Split | StreamedSplit] = []
    for source in (train, test):
        if stream:
            splits.append(StreamedSplit(source, labelled=labelled))
        else:
            splits.append(_held(source, labelled))
    return Dataset.of(name, splits[0], splits[1], classes or None)


def resized(size: int | None, crop: int | None = None) -> Callable[[Any], Tensor]:
    """What makes a tensor (C, H, W) in [0, 1] of a Pillow image.

    Args:
        size: The side that the image's central square is brought to; its own shape if None.
        crop: The side of the central square that is kept first; the whole image if None.
    """
    from torchvision import transforms

    steps: list[Any] = []
    if crop is not None:
        steps.append(transforms.CenterCrop(crop))
    if size is not None:
        steps += [transforms.Resize(size), transforms.CenterCrop(size)]
    return transforms.Compose([*steps, transforms.ToTensor()])


def pixels(x: Tensor, divisor: float = 255) -> Tensor:
    """Stored arrays as floats (N, D) or (N, C, H, W), divided by a number, colour axes second.

    Args:
        x: (N, D), (N, H, W), (N, C, H, W) or (N, H, W, C).
        divisor: 255 for bytes.
    """
    x = x.float()
    if divisor != 1:
        x = x / divisor
    if x.dim() == 3:
        return x[:, None]
    if x.dim() == 4 and x.shape[-1] in _CHANNELS and x.shape[1] not in _CHANNELS:
        return x.movedim(-1, 1)
    return x


class _ImageFiles(TorchDataset):
    """Images in files, with the index of their class, or −1."""

    def __init__(
        self, rows: list[tuple[Path, int]], mode: str, transform: Callable[[Any], Tensor]
    ) -> None:
        self.rows = rows
        self.mode = mode
        self.transform = transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        file, label = self.rows[index]
        try:
            with Image.open(file) as image:
                return self.transform(image.convert(self.mode)), label
        except OSError as error:
            raise ValueError(f"cannot read the image {file}: {error}") from error


class _Seen(NamedTuple):
    """What the headers of images say: the first file of each size, and all modes."""

    sizes: dict[tuple[int, int], Path]
    modes: set[str]


def _labels(parts: list[Path]) -> list[str]:
    """The names of the folders that hold images, one for each class."""
    names = set()
    for part in parts:
        for folder in part.iterdir():
            if folder.is_dir() and _image_files(folder):
                names.add(folder.name)
    return sorted(names)


def _listed(part: Path, labels: list[str]) -> list[tuple[Path, int]]:
    """The files of a part with the index of their class, or −1 where there are no classes."""
    if not labels:
        return [(file, -1) for file in _image_files(part)]
    rows = []
    for label in labels:
        rows += [(file, labels.index(label)) for file in _image_files(part / label)]
    return sorted(rows)


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGES)


def _headers(listed: list[list[tuple[Path, int]]]) -> _Seen:
    from PIL import Image

    seen = _Seen({}, set())
    for rows in listed:
        for file, _ in rows:
            try:
                with Image.open(file) as image:
                    seen.sizes.setdefault(image.size, file)
                    seen.modes.add(image.mode)
            except OSError as error:
                raise ValueError(f"cannot read the image {file}: {error}") from error
    return seen


def _check_images(
    seen: _Seen, listed: list[list[tuple[Path, int]]], path: Path, image_size: int | None
) -> None:
    if not seen.sizes:
        raise ValueError(
            f"expected images ({', '.join(IMAGES)}) in {path}, or in one folder per class, got none"
        )
    if len(seen.sizes) > 1 and image_size is None:
        (one, first), (two, second), *_ = seen.sizes.items()
        raise ValueError(
            f"expected images of one size, got {one[0]} × {one[1]} ({first.name}) and "
            f"{two[0]} × {two[1]} ({second.name}); say to which side they are to be brought "
            "(image_size=..., --image-size)"
        )
    if odd := seen.modes - _GREY - _COLOUR:
        raise ValueError(
            f"expected 8-bit images in {path}, got the mode {', '.join(sorted(odd))}; store an "
            "array as .npz instead"
        )
    if not all(listed):
        raise ValueError(
            f"expected images in both {path / 'train'} and {path / 'test'}, got one that is empty"
        )


def _held(source: Any, labelled: bool) -> Split:
    """A torch dataset read into memory."""
    rows = zip(*DataLoader(source, batch_size=256), strict=True)
    x, y = (torch.cat(column) for column in rows)
    if labelled:
        return Split(x, y)
    return Split(x)


def _nine_to_one(n: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a training and a test set, by a fixed permutation."""
    if n < 2:
        raise ValueError(f"expected at least 2 data in {name}, to train and to test, got {n}")
    order = np.random.RandomState(0).permutation(n)
    cut = max(1, n // 10)
    return order[cut:], order[:cut]


def _stored(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name; that of a .npy file is x."""
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return {"x": stored}
        return {key: stored[key] for key in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"cannot read {path}: {error}") from error


class _Reading(NamedTuple):
    """What is done to stored numbers: they are divided by `divisor`, which `words` say."""

    divisor: float
    words: str


def _reading_of(parts: list[np.ndarray], path: Path) -> _Reading:
    """What is done to the numbers of all parts of a file alike.

    Raises:
        ValueError: If they are no data, or bytes in one part and other numbers in another.
    """
    for x in parts:
        _check_numbers(x, path)
    dtypes = {str(x.dtype) for x in parts}
    names = " and ".join(sorted(dtypes))
    is_bytes = "uint8" in dtypes
    if is_bytes and len(dtypes) > 1:
        raise ValueError(
            f"expected numbers of one type to train and to test in {path}, got {names}: bytes are "
            "divided by 255, other numbers are not; store both alike"
        )
    least = min(x.min() for x in parts)
    most = max(x.max() for x in parts)
    if is_bytes and most > 1:
        return _Reading(255, f"bytes from {least} to {most}, divided by 255")
    if is_bytes or "bool" in dtypes:
        return _Reading(1, "pixels that are 0 or 1")
    if {x.dtype.kind for x in parts} <= {"i", "u"}:
        return _Reading(1, f"counts ({names}) from {least} to {most}, as they are")
    return _Reading(1, f"numbers from {least:.3g} to {most:.3g}, as they are")


def _divided(
    x: np.ndarray, y: np.ndarray | None, reading: _Reading, path: Path
) -> tuple[Split, Split]:
    """x, with y if there is one, split nine to one."""
    count = len(x)
    rows = _nine_to_one(count, str(path))
    if y is not None and y.shape[:1] != (count,):
        raise ValueError(
            f"expected one label for each of {count} data in {path}, got labels of shape {y.shape}"
        )
    splits = []
    for part in rows:
        labels = None if y is None else y[part]
        splits.append(_array_split(x[part], labels, reading, path))
    return splits[0], splits[1]


def _array_split(x: np.ndarray, y: np.ndarray | None, reading: _Reading, path: Path) -> Split:
    data = pixels(torch.as_tensor(x.astype(np.float32)), reading.divisor)
    if y is None:
        return Split(data)
    _check_labels(y, len(x), path)
    kind = np.float32 if y.dtype.kind == "f" else np.int64
    return Split(data, torch.as_tensor(y.astype(kind)))


def _check_numbers(x: np.ndarray, path: Path) -> None:
    if x.ndim < 2 or x.dtype.kind not in "buif" or len(x) == 0:
        raise ValueError(
            f"expected numbers of shape (N, *shape) in {path}, got {x.dtype} of shape {x.shape}"
        )
    if not np.isfinite(x).all():
        raise ValueError(
            f"expected finite numbers in {path}, got NaN or infinite ones; remove or replace them"
        )
    if x.dtype.kind in "ui" and max(-int(x.min()), int(x.max())) > _EXACT:
        raise ValueError(
            f"expected counts up to {_EXACT:,} in {path}, which single precision has exactly, got "
            f"{x.min()} to {x.max()}; store them as floats, in a larger unit"
        )


def _check_labels(y: np.ndarray, n: int, path: Path) -> None:
    if y.dtype.kind == "f":
        right = y.ndim == 2 and bool(np.isfinite(y).all())
    else:
        right = y.dtype.kind in "ui" and y.ndim == 1 and bool((y >= -1).all())
    if right and len(y) == n:
        return
    least = ""
    if y.size and y.dtype.kind in "ui":
        least = f" from {y.min()}"
    raise ValueError(
        f"expected {n} integer labels, −1 where missing, or attribute vectors of floats (N, A), in "
        f"{path}, got {y.dtype} of shape {y.shape}{least}"
    )


def _check_same(train: Tensor | None, test: Tensor | None, what: str, path: Path) -> None:
    shapes = []
    for each in (train, test):
        shapes.append(None if each is None else tuple(each.shape[1:]))
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"expected one shape of {what} in {path}, got {shapes[0]} to train and {shapes[1]} to "
            "test"
        )


def _classes(train: Split, test: Split, path: Path) -> int | None:
    """The number of labels; None without labels, or with attribute vectors."""
    if train.y is None or test.y is None or train.y.is_floating_point():
        return None
    classes = int(max(train.y.max(), test.y.max())) + 1
    if not 1 <= classes <= len(train):
        raise ValueError(
            f"expected labels numbered from 0, fewer than data, in {path}, got them up to "
            f"{classes - 1}"
        )
    return classes
