"""Folders of images: what their headers say, and images as tensors, held or streamed."""

from __future__ import annotations

__all__ = [
    "DOMAINS",
    "IMAGES",
    "domains_in",
    "expect_room_for_images",
    "expect_two_domains",
    "held_or_streamed",
    "opened",
    "read_folder",
    "resized",
]

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torch.utils.data import Dataset as TorchDataset

from ppl_gen import memory
from ppl_gen.contexts import reason
from ppl_gen.data.changes import said_of_squares
from ppl_gen.data.formats.beside import sentences_of
from ppl_gen.data.splits import Dataset, Split, StreamedSplit, nine_to_one
from ppl_gen.data.words.sentences import Sentences
from ppl_gen.memory import SINGLE, expect_memory, is_exhausted, shortage
from ppl_gen.reading import expect_file

if TYPE_CHECKING:
    from PIL import Image

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")

# Of two domains, the folder to train on and that to test on.
DOMAINS = {"trainA": "testA", "trainB": "testB"}

# What folders of images that are held out of training are called, if not "test".
_VALIDATION = ("val", "valid", "validation", "dev")

# The modes of Pillow that are read: 8 bits to a channel, or 1.
_GREY = {"1", "L", "LA"}
_COLOUR = {"P", "RGB", "RGBA"}

_LONG = 8  # shorter sides, beyond which an image is cut before its central square is taken


def read_folder(
    path: Path,
    image_size: int | None,
    stream: bool | None,
    *,
    captioned: bool = False,
    halves: bool = False,
) -> Dataset:
    """Images of a folder, or of one folder per class; `train` and `test` of that kind if there.

    The test images of a folder trainA or trainB are those of testA or testB beside it.

    Args:
        path: The folder.
        image_size: Side to which images are brought, from their central square; their own if None.
        stream: Whether they are read anew in every epoch; None does so above 2 GiB.
        captioned: Whether y is the words of the captions in captions.txt, not the label.
        halves: Whether images are pairs side by side, which are brought to a size each for itself,
            and only where they differ in size.

    Raises:
        ValueError: If there are no images, they cannot be read, or differ in size; or if they are
            of two domains.
    """
    parts = _parts(path)
    labels = _labels(parts)
    listed: list[list[tuple[Path, Any]]] = [_listed(part, labels) for part in parts]
    seen = _headers(listed)
    _check_images(seen, listed, path, image_size)
    mode = "L" if seen.modes <= _GREY else "RGB"
    if image_size is not None:
        expect_room_for_images(image_size)
    sizes = [*seen.sizes]
    if halves:
        sizes = _halved(seen, path)
        if len(sizes) == 1:
            image_size = None
    transform = resized(image_size)
    if halves and image_size is not None:
        transform = _EachHalf(transform)
    sentences = None
    if captioned:
        sentences, listed = _captioned(parts, listed)
        labels = []
    sources: list[Any] = [_ImageFiles(rows, mode, transform) for rows in listed]
    if len(sources) == 1:
        train, test = nine_to_one(len(sources[0]), str(path))
        whole = sources[0]
        sources = [Subset(whole, train.tolist()), Subset(whole, test.tolist())]
    name = path.name
    if path.name in DOMAINS:
        name = f"{path.parent.name}/{path.name}"
    made = held_or_streamed(
        name,
        sources[0],
        sources[1],
        stream,
        labelled=captioned or bool(labels),
        classes=len(labels),
    )
    words = said_of_squares(sizes, image_size) + _said_of_others(parts, labels)
    return replace(made, class_names=tuple(labels), captions=sentences, stored=", ".join(words))


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """An image as Pillow opens it; what Pillow warns of stays here.

    Args:
        file: Where it lies.

    Raises:
        ValueError: If there is no image that can be read, inside the context as well; if it has
            more pixels than Pillow's limit, `PIL.Image.MAX_IMAGE_PIXELS`, against files that
            unpack without end.
    """
    from PIL import Image

    expect_file(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file) as image:
                yield image
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            most = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
            raise ValueError(
                f"expected images of at most {most:.0f} million pixels, got more in {file}; cut it "
                "into smaller ones"
            ) from error
        except Exception as error:  # Pillow has no class of error for files that are damaged
            if is_exhausted(error):
                raise ValueError(f"the image {file}: {shortage(error)}") from error
            raise ValueError(f"cannot read the image {file}: {reason(error)}") from error


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


def expect_room_for_images(size: int) -> None:
    """Raises ValueError if a single image of a size does not fit into memory.

    Args:
        size: The side that images are brought to.
    """
    expect_memory(
        f"an image of {size} × {size} pixels in colour",
        3 * SINGLE * size**2,
        "take a smaller image_size",
    )


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
        steps += [_shortened, transforms.Resize(size), transforms.CenterCrop(size)]
    return transforms.Compose([*steps, transforms.ToTensor()])


def _shortened(image: Image.Image) -> Image.Image:
    """The middle of an image that is longer than `_LONG` times its shorter side.

    Its central square is the same, and the rest need not be resized.
    """
    width, height = image.size
    most = _LONG * min(width, height)
    across = min(width, most)
    down = min(height, most)
    if (across, down) == (width, height):
        return image
    left = (width - across) // 2
    top = (height - down) // 2
    return image.crop((left, top, left + across, top + down))


class _EachHalf:
    """The left and the right half of an image, brought to a size, side by side: (C, H, 2W)."""

    def __init__(self, transform: Callable[[Any], Tensor]) -> None:
        self.transform = transform

    def __call__(self, image: Image.Image) -> Tensor:
        width, height = image.size
        left = image.crop((0, 0, width // 2, height))
        right = image.crop((width // 2, 0, width, height))
        return torch.cat([self.transform(left), self.transform(right)], -1)


class _ImageFiles(TorchDataset):
    """Images in files, with the index of their class, or −1, or the words of their caption."""

    def __init__(
        self, rows: list[tuple[Path, Any]], mode: str, transform: Callable[[Any], Tensor]
    ) -> None:
        self.rows = rows
        self.mode = mode
        self.transform = transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        file, label = self.rows[index]
        with opened(file) as image:
            return self.transform(image.convert(self.mode)), label


class _Seen(NamedTuple):
    """What the headers of images say: the first file of each size, and all modes."""

    sizes: dict[tuple[int, int], Path]
    modes: set[str]


def _halved(seen: _Seen, path: Path) -> list[tuple[int, int]]:
    """The sizes of the halves of images.

    Raises:
        ValueError: If an image is of odd width.
    """
    for (width, height), file in seen.sizes.items():
        if width % 2:
            raise ValueError(
                f"expected pairs of images side by side in {path}, of even width, got {width} × "
                f"{height} ({file.name}); cut a column off"
            )
    return [(width // 2, height) for width, height in seen.sizes]


def _said_of_others(parts: list[Path], labels: list[str]) -> list[str]:
    """How many images lie beside the folders of classes, in words."""
    if not labels:
        return []
    count = sum(len(_image_files(part)) for part in parts)
    if count == 0:
        return []
    return [f"without {count} that lie beside the folders of classes"]


def _captioned(
    parts: list[Path], listed: list[list[tuple[Path, Any]]]
) -> tuple[Sentences, list[list[tuple[Path, Any]]]]:
    """The words of all captions, and the files of each part with the numbers of theirs."""
    said = []
    for part, rows in zip(parts, listed, strict=True):
        said.append(sentences_of(part, [file for file, _ in rows]))
    sentences = Sentences.of(list(chain.from_iterable(said)))
    numbered = []
    for rows, captions in zip(listed, said, strict=True):
        tokens = sentences.encode(captions)
        numbered.append([(file, own) for (file, _), own in zip(rows, tokens, strict=True)])
    return sentences, numbered


def domains_in(path: Path) -> list[Path]:
    """The folders trainA, trainB, testA and testB that are in a folder: those of two domains.

    Args:
        path: The folder.
    """
    places = [path / name for name in (*DOMAINS, *DOMAINS.values())]
    return [place for place in places if place.is_dir()]


def expect_two_domains(path: Path) -> None:
    """Raises ValueError unless a folder holds trainA and trainB, and both test folders or none.

    Args:
        path: The folder.
    """
    found = [place.name for place in domains_in(path)]
    expected = [*DOMAINS]
    if any(name in found for name in DOMAINS.values()):
        expected += DOMAINS.values()
    lacking = [name for name in expected if name not in found]
    if lacking:
        raise ValueError(
            f"expected folders {', '.join(expected)} in {path}, got {', '.join(found) or 'none'}; "
            f"put the images of {' and '.join(lacking)} there, or name two folders (data and "
            "other, --data and --data-b)"
        )


def _parts(path: Path) -> list[Path]:
    """The folder to train on and that to test on; or one, that is yet to be split."""
    domains = [place.name for place in domains_in(path)]
    if domains:
        raise ValueError(
            f"expected images of one kind in {path}, got those of two domains "
            f"({', '.join(domains)}); read both with load_domains (--data alone, for a cycle-gan), "
            f"or name one of them, such as {path / domains[0]}"
        )
    held_out = [name for name in _VALIDATION if (path / name).is_dir()]
    if held_out and (path / "train").is_dir() and not (path / "test").is_dir():
        raise ValueError(
            f"expected folders train and test in {path}, got train and {held_out[0]}, which are no "
            f"classes; rename {held_out[0]} to test, or name {path / 'train'}"
        )
    parts = [path / "train", path / "test"]
    if path.name in DOMAINS:
        parts = [path, path.parent / DOMAINS[path.name]]
    if all(part.is_dir() for part in parts):
        return parts
    return [path]


def _labels(parts: list[Path]) -> list[str]:
    """The names of the folders that hold images, one for each class."""
    names = set()
    for part in parts:
        for folder in part.iterdir():
            if folder.is_dir() and _image_files(folder):
                names.add(folder.name)
    return sorted(names)


def _listed(part: Path, labels: list[str]) -> list[tuple[Path, Any]]:
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


def _headers(listed: list[list[tuple[Path, Any]]]) -> _Seen:
    seen = _Seen({}, set())
    for rows in listed:
        for file, _ in rows:
            with opened(file) as image:
                seen.sizes.setdefault(image.size, file)
                seen.modes.add(image.mode)
    return seen


def _check_images(
    seen: _Seen, listed: list[list[tuple[Path, Any]]], path: Path, image_size: int | None
) -> None:
    if not seen.sizes:
        raise ValueError(
            f"expected images ({', '.join(IMAGES)}) in {path}, or in one folder per class, got none"
        )
    if len(seen.sizes) > 1 and image_size is None:
        (one, first), (two, second), *_ = seen.sizes.items()
        raise ValueError(
            f"expected images of one size, got {one[0]} × {one[1]} ({first.name}) and "
            f"{two[0]} × {two[1]} ({second.name}); say to which side their central squares are to "
            "be brought (image_size=..., --image-size)"
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
    needed = 2 * SINGLE * source[0][0].numel() * len(source)
    remedy = "stream them (stream=True), or take a smaller image_size"
    expect_memory(f"{len(source)} data", needed, remedy)
    rows = zip(*DataLoader(source, batch_size=256), strict=True)
    x, y = (torch.cat(column) for column in rows)
    if labelled:
        return Split(x, y)
    return Split(x)
