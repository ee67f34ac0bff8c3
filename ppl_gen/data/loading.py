"""Data by name, or from a folder or file, with what suffixes change: a set, or two domains."""

from __future__ import annotations

__all__ = ["load", "load_domains"]

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ppl_gen.counts import expect_at_least
from ppl_gen.data.changes import WITHOUT, check_suffixes, parse, prepared
from ppl_gen.data.domains import Domains
from ppl_gen.data.formats.arrays import ARRAYS, holds_arrays, read_arrays
from ppl_gen.data.formats.beside import CAPTIONS, are_pairs, check_given, paired, prepared_pairs
from ppl_gen.data.formats.faces import holds_faces, read_faces
from ppl_gen.data.formats.files import expect_two_domains, read_folder
from ppl_gen.data.formats.idx import holds_idx, is_idx, read_idx
from ppl_gen.data.formats.matlab import MATLAB, read_matlab
from ppl_gen.data.formats.tables import TABLES, read_table
from ppl_gen.data.formats.text import TEXTS, read_lines
from ppl_gen.data.presentation import check_binarize
from ppl_gen.data.sources import NAMES, read_named
from ppl_gen.data.splits import Dataset
from ppl_gen.names import nearest


def load(
    name_or_path: str | Path,
    root: str | Path | None = None,
    *,
    download: bool = False,
    binarize: str | None = None,
    image_size: int | None = None,
    stream: bool | None = None,
    given: str | None = None,
    level: str = "characters",
    length: int | None = None,
    missing: bool = False,
    label_column: str | None = None,
    leave_out: Sequence[str] = (),
) -> Dataset:
    """Loads a data set by name, or from a folder of images, or a file of arrays or text.

    Names: `digits` (scikit-learn's, no download); `mnist`, `fashion_mnist`, `kmnist`, `emnist`,
    `usps`, `svhn`, `cifar10`, `celeba` (torchvision's); `breast_cancer` (scikit-learn's table,
    standardised); `photographs` (patches in colour of the two photographs that come with
    scikit-learn, 16 pixels a side if `image_size` is left out, their photograph being the label);
    `line`, `circle`, `swiss-roll`, `curve` (toy manifolds), `ring` (eight Gaussians, their number
    being the label), drawn from fixed seeds.

    A folder holds images, or one folder of images per class; `train` and `test` folders of that
    kind are taken as they are. An .npz file holds x_train and x_test, with y_train and y_test if
    labelled, or x, with y; so does a folder of x_train.npy, x_test.npy, ... or of x.npy and y.npy,
    whose data, like those of a .npy file, need not fit into memory. What comes without a test set
    is split nine to one, by a fixed permutation. Bytes are images and divided by 255, unless they
    are all 0 or 1; other integers are counts, and left as they are; `stored` of what is returned
    says so.

    A folder that holds CelebA's img_align_celeba and list_attr_celeba.csv or .txt is read as
    `celeba` is, with attributes.

    MNIST's files, train-images-idx3-ubyte and those beside it, packed (.gz) or not, are read by
    the name of that file or of their folder. A .mat file holds the same arrays as an .npz file, or
    Frey's faces, as frey_rawface.mat does.

    A .csv or .tsv file holds a table, whose columns of numbers are standardised by the means and
    deviations of the rows to train on; `columns` of what is returned has those, and brings data,
    draws and reconstructions back to the columns' own units.

    A .txt or .smi file holds a sentence, a name or a molecule in each line. Its lines are Long
    (N, L), a number for each character or word and 0 behind the last; `vocabulary` of what is
    returned reads and writes them.

    Suffixes may follow, each after a colon, as in "mnist:8x8:coloured". From left to right, images
    are `inverted`; `rotated` by 90°; `coloured` at random; brought to `colour`, grey in three
    channels; to their `central` 20 × 20 pixels; or to `8x8`, these shrunk to 8 × 8, as
    scikit-learn's digits are. `without-3` leaves label 3 out of the training data, also of a table:
    what is novel to a model is then among the test data.

    Args:
        name_or_path: A name of the above, or a path; then suffixes, if any.
        root: Where torchvision's files lie; the environment's PPL_GEN_DATA, or ~/.cache/ppl-gen, if
            left out.
        download: Whether torchvision may download what is missing.
        binarize: None, "threshold", "static", "dynamic" or "dequantize"; see `Split`. It comes
            after all that the suffixes and the size change.
        image_size: Side to which images are brought, from their central square; those of a folder
            and CelebA's when they are read, others at last. That of the patches of `photographs`.
        stream: Whether images in files, and rows of .npy files, are read anew in every epoch; None
            does so where they would take over 2 GiB.
        level: Of lines of text, what has a number: "characters" or "words".
        length: Of lines of text, L, the most tokens; the longest line's number if None.
        given: What y is to be, instead of labels. "pairs": images of a folder, (C, H, 2W), are
            pairs side by side, x the right one and y the left one; suffixes and size change both.
            "captions": the words of captions.txt in the folder, each line of it the name of a file,
            a tab and a sentence, or the sentences alone, in the order of the files' names. An array
            y of images beside x in an .npz file makes pairs too.
        missing: Whether entries x of a .npy or .npz file may be NaN, or cells of a table empty,
            which are missing: for programs under `likelihoods.Masked(...)`. What is made of a
            missing pixel and others, as by a change of size, is missing.
        label_column: Of a table, the column of labels y, which is no data; none if None.
        leave_out: Of a table, the columns that are no data, such as a target or a row's number.

    Returns:
        The data set, images in [0, 1]; arrays of other numbers as they are.

    Raises:
        ValueError: If the name, a suffix or the file is unknown or unreadable, the data are empty,
            of different sizes or not finite (but for what is missing), or a suffix or size does not
            fit them.

    Examples:
        >>> digits = load("digits", binarize="dynamic")
        >>> len(digits.train), len(digits.test), digits.shape, digits.classes
        (1500, 297, (1, 8, 8), 10)
        >>> x, y = next(iter(digits.train.batches(100)))
        >>> x.shape, x.unique()
        (torch.Size([100, 1, 8, 8]), tensor([0., 1.]))
        >>> load("digits:rotated:coloured").shape
        (3, 8, 8)
    """
    check_binarize(binarize)
    check_given(given)
    name, suffixes = parse(name_or_path)
    check_suffixes(suffixes, str(name_or_path))
    expect_at_least(1, **{"an image size": image_size})
    if Path(name).suffix.lower() in TABLES:
        of_images = [suffix for suffix in suffixes if not suffix.startswith(WITHOUT)]
        asked = _asked(of_images, binarize, image_size=image_size, given=given)
        _check_as_they_are("a table as it is", name, asked)
        if isinstance(leave_out, str):
            leave_out = (leave_out,)
        table = read_table(_existing(Path(name)), label_column, leave_out, missing)
        return prepared(table, suffixes)
    if label_column is not None or leave_out:
        raise ValueError(
            f"expected a table, such as data.csv, for label_column and leave_out "
            f"(--label-column, --leave-out), got {name_or_path}; leave them out"
        )
    if Path(name).suffix.lower() in TEXTS:
        return _text(Path(name), suffixes, binarize, level=level, length=length)
    if given == "captions":
        found = _with_captions(Path(name), image_size, stream)
    elif given == "pairs" and name not in NAMES and Path(name).is_dir():
        found = paired(read_folder(Path(name), image_size, stream, halves=True))
    elif given == "pairs":
        # Not brought to a size before they are parted: it would cut both halves.
        found = paired(_read(name, _root(root), download, None, stream, missing))
    else:
        found = _read(name, _root(root), download, image_size, stream, missing)
    if are_pairs(found):
        made = prepared_pairs(found, suffixes, image_size)
    else:
        made = prepared(found, suffixes, image_size)
    made = made.binarized(binarize)
    return replace(made, name=":".join([found.name, *suffixes]))


def load_domains(
    name_or_path: str | Path,
    other: str | Path | None = None,
    root: str | Path | None = None,
    *,
    download: bool = False,
    image_size: int | None = None,
    stream: bool | None = None,
) -> Domains:
    """Loads two domains without pairs: of a folder that holds both, or each by its own name.

    A folder holds trainA and trainB, and testA and testB, as those of CycleGAN's data sets do;
    without test folders, either domain is split nine to one. Suffixes change both.

    Args:
        name_or_path: That folder; or, with `other`, the first domain, as `load` takes it.
        other: The second domain, as `load` takes it; None for a folder of both.
        root: Where torchvision's files lie; the environment's PPL_GEN_DATA, or ~/.cache/ppl-gen, if
            left out.
        download: Whether torchvision may download what is missing.
        image_size: Side to which images are brought, from their central square.
        stream: Whether images in files are read anew in every epoch; None does so where they would
            take over 2 GiB.

    Raises:
        ValueError: If a folder or a domain is missing, cannot be read, or the shapes of both
            differ.

    Examples:
        >>> both = load_domains("digits", "digits:inverted")
        >>> both.shape, len(both.train)
        ((1, 8, 8), 1500)
    """
    if other is None:
        path, suffixes = parse(name_or_path)
        expect_two_domains(Path(path))
        name_or_path = ":".join([str(Path(path) / "trainA"), *suffixes])
        other = ":".join([str(Path(path) / "trainB"), *suffixes])
    found = []
    for each in (name_or_path, other):
        found.append(
            load(each, root, download=download, image_size=image_size, stream=stream),
        )
    return Domains(found[0], found[1])


def _with_captions(path: Path, image_size: int | None, stream: bool | None) -> Dataset:
    """A folder of images with captions in captions.txt."""
    if not path.is_dir():
        raise ValueError(
            f"expected a folder of images with a {CAPTIONS} for given='captions', got {path}"
        )
    return read_folder(path, image_size, stream, captioned=True)


def _text(
    path: Path, suffixes: Sequence[str], binarize: str | None, *, level: str, length: int | None
) -> Dataset:
    """Lines of text, which are neither binarised nor changed by suffixes."""
    expect_at_least(1, **{"a line's length": length})
    _check_as_they_are("lines of text as they are", path, _asked(suffixes, binarize))
    return read_lines(_existing(path), level, length)


def _asked(suffixes: Sequence[str], binarize: str | None, **more: Any) -> list[str]:
    """What is to be done to data, in words, where anything is."""
    asked = [f":{suffix}" for suffix in suffixes]
    if binarize is not None:
        asked.append(binarize)
    asked += [f"{name}={value!r}" for name, value in more.items() if value is not None]
    return asked


def _check_as_they_are(kind: str, path: str | Path, asked: Sequence[str]) -> None:
    """Raises ValueError if anything is to be done to data that are taken as they are."""
    if asked:
        raise ValueError(f"expected {kind}, got {path} with {' and '.join(asked)}; leave it out")


def _existing(path: Path) -> Path:
    """A path at which something is."""
    if not path.exists():
        raise ValueError(f"no text file {path}; name one, with a line for each datum")
    return path


def _root(root: str | Path | None) -> Path:
    """The folder of torchvision's files."""
    named = root or os.environ.get("PPL_GEN_DATA")
    if not named:
        return Path.home() / ".cache" / "ppl-gen"
    return Path(named).expanduser()


def _read(
    name: str,
    root: Path,
    download: bool,
    image_size: int | None,
    stream: bool | None,
    missing: bool,
) -> Dataset:
    """The data set without suffixes, grey."""
    if name in NAMES:
        return read_named(name, root, download, image_size, stream)
    path = Path(name)
    if name and path.is_dir() and holds_idx(path):
        return read_idx(path)
    if name and path.is_dir() and holds_faces(path):
        return read_faces(path.name, path, image_size, stream)
    if name and path.is_dir() and holds_arrays(path):
        return read_arrays(path, missing, stream)
    if name and path.is_dir():
        return read_folder(path, image_size, stream)
    if path.suffix.lower() in ARRAYS:
        return read_arrays(path, missing, stream)
    if path.suffix.lower() in MATLAB:
        return read_matlab(path, missing)
    if is_idx(path) and path.exists():
        return read_idx(path)
    raise ValueError(
        f"no data set and no folder, .npy, .npz, .mat, .csv, .txt or IDX file named {name!r}; "
        f"{nearest(name, NAMES)}"
    )
