"""Data sets that have a name: scikit-learn's, torchvision's, and toys."""

from __future__ import annotations

__all__ = ["NAMES", "TORCHVISION", "read_named"]

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ppl_gen.data.formats.arrays import pixels
from ppl_gen.data.formats.faces import CROP, SIDE, holds_faces, read_faces
from ppl_gen.data.formats.files import held_or_streamed, resized
from ppl_gen.data.formats.tables import standardised
from ppl_gen.data.splits import Dataset, Split
from ppl_gen.data.toys import MANIFOLDS, manifold, ring

# How each of torchvision's sets is opened, its class being named in the first place.
TORCHVISION: dict[str, tuple[str, Callable[[bool], dict[str, Any]], int]] = {
    "mnist": ("MNIST", lambda train: {"train": train}, 10),
    "fashion_mnist": ("FashionMNIST", lambda train: {"train": train}, 10),
    "kmnist": ("KMNIST", lambda train: {"train": train}, 10),
    "emnist": ("EMNIST", lambda train: {"train": train, "split": "balanced"}, 47),
    "usps": ("USPS", lambda train: {"train": train}, 10),
    "svhn": ("SVHN", lambda train: {"split": "train" if train else "test"}, 10),
    "cifar10": ("CIFAR10", lambda train: {"train": train}, 10),
}
NAMES = (
    "digits",
    "breast_cancer",
    "photographs",
    *TORCHVISION,
    "celeba",
    *MANIFOLDS,
    "ring",
)

_PATCH = 16  # pixels a side
_TO_TRAIN = 0.8  # of the width of a photograph, from the left


def read_named(
    name: str, root: Path, download: bool, image_size: int | None, stream: bool | None
) -> Dataset:
    """Reads one of `NAMES`, grey.

    Args:
        name: One of `NAMES`.
        root: The folder of torchvision's files.
        download: Whether torchvision may fetch what is missing.
        image_size: The side of CelebA's images, 64 if None, or of the patches of photographs, 16 if
            None. Others keep theirs.
        stream: Whether CelebA's images are read anew in every epoch; None decides by their size.

    Raises:
        ValueError: If files are missing or unreadable; says how to get them.
    """
    if name == "digits":
        return _digits()
    if name == "breast_cancer":
        return _breast_cancer()
    if name == "photographs":
        return _photographs(image_size or _PATCH)
    if name == "ring":
        train, test = (Split(*ring(n, seed=seed)) for n, seed in ((2000, 0), (1000, 1)))
        return Dataset.of(name, train, test, 8)
    if name in MANIFOLDS:
        return Dataset.of(name, Split(manifold(name, 2000, 0)), Split(manifold(name, 1000, 1)))
    if name == "celeba" and not download:
        # As archives unpack it, torchvision's own layout being one of them.
        for folder in (root / "celeba", root):
            if holds_faces(folder):
                return read_faces(name, folder, image_size, stream)
    if name == "celeba":
        return _celeba(root, download, image_size or SIDE, stream)
    return _torchvision(name, root, download)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))
    x = torch.as_tensor(bunch.images[order] / 16, dtype=torch.float32)[:, None]
    y = torch.as_tensor(bunch.target[order])
    train = Split(x[:1500], y[:1500], levels=17)
    test = Split(x[1500:], y[1500:], levels=17)
    return Dataset.of("digits", train, test, 10)


def _breast_cancer() -> Dataset:
    """Thirty measures of 569 tumours; 169 of them, by a fixed permutation, to test."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    order = np.random.RandomState(0).permutation(len(bunch.target))
    made = standardised(
        "breast_cancer",
        bunch.data,
        bunch.target.astype(np.int64),
        (order[:400], order[400:]),
        [str(name) for name in bunch.feature_names],
    )
    names = tuple(str(name) for name in bunch.target_names)
    return replace(made, class_names=names, classes=len(names))


def _photographs(side: int) -> Dataset:
    """Patches in colour of scikit-learn's two photographs, the right fifth of each to test.

    Patches do not overlap, and training patches are not among those they are tested on; neighbours
    across the border are alike all the same.
    """
    from sklearn.datasets import load_sample_images

    trained: list[Tensor] = []
    tested: list[Tensor] = []
    for photograph in load_sample_images().images:
        image = torch.tensor(photograph).permute(2, 0, 1) / 255
        border = int(_TO_TRAIN * image.shape[2])
        if side > min(image.shape[1], image.shape[2] - border):
            raise ValueError(
                f"expected patches of at most {image.shape[2] - border} pixels a side, got {side}"
            )
        trained.append(_patches(image[:, :, :border], side))
        tested.append(_patches(image[:, :, border:], side))
    made = Dataset.of("photographs", _by_photograph(trained), _by_photograph(tested), 2)
    return replace(made, class_names=("temple", "flower"))


def _patches(image: Tensor, side: int) -> Tensor:
    """All squares of an image (C, H, W) that lie side by side, (N, C, side, side)."""
    cut = image.unfold(1, side, side).unfold(2, side, side)
    return cut.flatten(1, 2).transpose(0, 1).contiguous()


def _by_photograph(patches: list[Tensor]) -> Split:
    """All patches, the number of their photograph being the label."""
    labels = [torch.full((len(each),), number) for number, each in enumerate(patches)]
    return Split(torch.cat(patches), torch.cat(labels))


def _torchvision(name: str, root: Path, download: bool) -> Dataset:
    kind, options, classes = TORCHVISION[name]
    splits = []
    for train in (True, False):
        stored = _opened(kind, root, download, **options(train))
        labels = stored.labels if name == "svhn" else stored.targets
        x = torch.as_tensor(stored.data)
        if name == "emnist":  # which is stored on its side
            x = x.transpose(-1, -2)
        splits.append(Split(pixels(x), torch.as_tensor(labels).long()))
    return Dataset.of(name, splits[0], splits[1], classes)


def _celeba(root: Path, download: bool, size: int, stream: bool | None) -> Dataset:
    options = {
        "target_type": "attr",
        "transform": resized(size, crop=CROP),
        "target_transform": _as_float,
    }
    train, test = (
        _Faces(_opened("CelebA", root, download, split=part, **options))
        for part in ("train", "test")
    )
    return held_or_streamed("celeba", train, test, stream, labelled=True)


class _Faces(TorchDataset):
    """CelebA's images with their attributes, as torchvision reads them, and their files."""

    def __init__(self, stored: Any) -> None:
        self.stored = stored

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = self.stored[index]
        return x, y

    @property
    def rows(self) -> list[tuple[Path, Tensor]]:
        """The file and the attributes of each image."""
        folder = Path(self.stored.root) / self.stored.base_folder / "img_align_celeba"
        files = [folder / name for name in self.stored.filename]
        return list(zip(files, self.stored.attr, strict=True))


def _as_float(y: Tensor) -> Tensor:
    return y.float()


def _opened(kind: str, root: Path, download: bool, **options: Any) -> Any:
    """One of torchvision's data sets."""
    import torchvision

    try:
        return getattr(torchvision.datasets, kind)(str(root), download=download, **options)
    except (RuntimeError, OSError) as error:
        reason = type(error).__name__
        if str(error):
            reason = str(error).splitlines()[0]
        raise ValueError(
            f"cannot read {kind} under {root}: {reason}; say where it lies (root=..., --root) or "
            "fetch it (download=True, --download)"
        ) from error
