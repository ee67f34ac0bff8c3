"""What lies beside images: their left halves, as pairs have them, or sentences in captions.txt."""

from __future__ import annotations

__all__ = [
    "CAPTIONS",
    "GIVEN",
    "are_pairs",
    "check_given",
    "paired",
    "prepared_pairs",
    "sentences_of",
]

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ppl_gen.data.changes import prepared
from ppl_gen.data.splits import Dataset, Split, StreamedSplit
from ppl_gen.reading import expect_file

GIVEN = ("pairs", "captions")
CAPTIONS = "captions.txt"


def check_given(given: str | None) -> None:
    """Raises ValueError unless `given` is None or one of `GIVEN`."""
    if given is not None and given not in GIVEN:
        raise ValueError(f"expected given None or one of {', '.join(GIVEN)}, got {given!r}")


def are_pairs(dataset: Dataset) -> bool:
    """Whether y of a data set is an image beside each datum, (N, C, H, W).

    Args:
        dataset: Any data set.
    """
    train = dataset.train
    return isinstance(train, Split) and train.y is not None and train.y.dim() == 4


def paired(dataset: Dataset) -> Dataset:
    """Side-by-side images (C, H, 2W) as pairs: x is the right one, y the left one, (N, C, H, W).

    Args:
        dataset: Such images in memory; or pairs, which are left as they are.

    Raises:
        ValueError: If the data are no images, of odd width, or a stream.
    """
    if are_pairs(dataset):
        return dataset
    if len(dataset.shape) != 3 or dataset.shape[-1] % 2:
        raise ValueError(
            f"expected pairs of images side by side, (C, H, 2W), or an array of images y beside x, "
            f"got data of shape {dataset.shape} in {dataset.name}"
        )
    splits = []
    for split in (dataset.train, dataset.test):
        if not isinstance(split, Split):
            raise ValueError(
                f"expected pairs in memory, got a stream of {len(split)} in {dataset.name}; take "
                "fewer, or store them as smaller images"
            )
        left, right = split.x.chunk(2, -1)
        splits.append(replace(split, x=right.contiguous(), y=left.contiguous()))
    made = Dataset.of(dataset.name, splits[0], splits[1])
    return replace(made, stored=dataset.stored)


def prepared_pairs(dataset: Dataset, suffixes: Sequence[str], image_size: int | None) -> Dataset:
    """Pairs whose images on both sides are changed by suffixes, and brought to a size.

    Args:
        dataset: Pairs, not binarised.
        suffixes: Some of `ppl_gen.data.changes.SUFFIXES`.
        image_size: The side to which the central square of images is brought; their own if None.

    Raises:
        ValueError: If a suffix, which is named, or the size does not fit the images.
    """
    left = Dataset.of(dataset.name, _left(dataset.train), _left(dataset.test))
    left = prepared(left, suffixes, image_size)
    right = prepared(dataset, suffixes, image_size)
    return replace(
        right,
        train=_joined(left.train, right.train),
        test=_joined(left.test, right.test),
    )


def _left(split: Split | StreamedSplit) -> Split:
    """The left images of pairs, in the place of data."""
    assert isinstance(split, Split)
    assert split.y is not None
    return replace(split, x=split.y)


def _joined(left: Split | StreamedSplit, right: Split | StreamedSplit) -> Split:
    """Pairs of the images of two splits."""
    assert isinstance(left, Split)
    assert isinstance(right, Split)
    return replace(right, y=left.x)


def sentences_of(folder: Path, files: Sequence[Path]) -> list[str]:
    """The caption of each image of a folder, by its captions.txt.

    A line is the name of a file, relative to the folder, a tab and its caption; or, without tabs,
    the caption of the file at its place in the sorted list.

    Args:
        folder: That holds captions.txt.
        files: The images of the folder, sorted.

    Raises:
        ValueError: If the file cannot be read, or an image has no caption, or an empty one.
    """
    path = folder / CAPTIONS
    expect_file(path)
    try:
        lines = path.read_text(encoding="utf8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path} as UTF-8 text: {error}") from error
    lines = [line for line in lines if line.strip()]
    if not any("\t" in line for line in lines):
        if len(lines) != len(files):
            raise ValueError(
                f"expected a line for each of {len(files)} images in {path}, got {len(lines)}; "
                "or write lines of a file's name, a tab, and its caption"
            )
        return lines
    by_name = {}
    for line in lines:
        name, _, caption = line.partition("\t")
        by_name[name.strip()] = caption.strip()
    captions = []
    for file in files:
        name = file.relative_to(folder).as_posix()
        if not by_name.get(name):
            raise ValueError(
                f"expected a caption of {name} in {path}, got none; write its name, a tab, and the "
                "caption"
            )
        captions.append(by_name[name])
    return captions
