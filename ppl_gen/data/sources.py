"""Where data come from: scikit-learn, torchvision, files, folders, and formulas."""

from __future__ import annotations

__all__ = ["MANIFOLDS", "NAMES", "TORCHVISION", "find"]

import math
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torch.utils.data import Dataset as TorchDataset

from ppl_gen.data.splits import Dataset, Split, StreamedSplit
from ppl_gen.data.toys import ring
from ppl_gen.names import nearest

MEMORY = 2 * 2**30  # bytes of pixels that are held in memory rather than streamed
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")


def find(
    name_or_path: str | Path,
    root: str | Path | None,
    download: bool,
    binarize: str | None,
    image_size: int | None,
    stream: bool | None,
) -> Dataset:
    """Does what `ppl_gen.data.load` says."""
    name, path = str(name_or_path), Path(name_or_path)
    if image_size is not None and (image_size < 1 or (name in NAMES and name != "celeba")):
        raise ValueError(
            f"expected an image size of at least 1, for a folder or celeba, got {image_size} for "
            f"{name}"
        )
    where = Path(
        root or os.environ.get("PPL_GEN_DATA") or Path.home() / ".cache" / "ppl-gen"
    ).expanduser()
    if name == "digits":
        return _digits(binarize)
    if name in MANIFOLDS:
        train, test = (
            Split(_manifold(name, n, seed), None, binarize) for n, seed in ((2000, 0), (1000, 1))
        )
        return _dataset(name, train, test)
    if name == "ring":
        train, test = (Split(*ring(n, seed=seed), binarize) for n, seed in ((2000, 0), (1000, 1)))
        return _dataset(name, train, test, 8)
    if name == "celeba":
        return _celeba(where, download, binarize, image_size or 64, stream)
    if name in TORCHVISION:
        return _torchvision(name, where, download, binarize)
    if name and path.is_dir():
        return _folder(path, binarize, image_size, stream)
    if path.suffix in (".npy", ".npz"):
        return _arrays(path, binarize)
    raise ValueError(
        f"no data set and no folder, .npy or .npz file named {name!r}; {nearest(name, NAMES)}"
    )


def _dataset(
    name: str, train: Split | StreamedSplit, test: Split | StreamedSplit, classes: int | None = None
) -> Dataset:
    first, y = (train.x[0], train.y) if isinstance(train, Split) else train.source[0]
    attributes = y.shape[-1] if isinstance(y, Tensor) and y.is_floating_point() else None
    return Dataset(train, test, tuple(first.shape), classes, name, attributes)


def _digits(binarize: str | None) -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))
    x = torch.as_tensor(bunch.images[order] / 16, dtype=torch.float32)[:, None]
    y = torch.as_tensor(bunch.target[order])
    train, test = (
        Split(x[part], y[part], binarize, 17) for part in (slice(1500), slice(1500, None))
    )
    return _dataset("digits", train, test, 10)


def feature_map(h: Tensor) -> Tensor:
    """(h, h²/2 − 1/2): with h ~ N(0, 1) and x = feature_map(h) + ε, one latent dimension in two."""
    return torch.stack([h, h.square() / 2 - 0.5], -1)


def _roll(u: Tensor) -> Tensor:
    return 1.5 * math.pi * (1 + 2 * u[:, 0])


# Toy manifolds: what they draw from (N, 2) uniform numbers, before noise.
MANIFOLDS: dict[str, Callable[[Tensor], Tensor]] = {
    "line": lambda u: (2 * u[:, :1] - 1) * torch.tensor([0.98, 0.2]),
    "circle": lambda u: torch.stack(
        [(2 * math.pi * u[:, 0]).cos(), (2 * math.pi * u[:, 0]).sin()], -1
    ),
    "swiss-roll": lambda u: (
        torch.stack([_roll(u) * _roll(u).cos(), 10 * u[:, 1], _roll(u) * _roll(u).sin()], -1) / 7
    ),
    "curve": lambda u: feature_map(torch.special.ndtri(u[:, 0].clamp(1e-6, 1))),
}


def _manifold(name: str, n: int, seed: int, noise: float = 0.05) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    points = MANIFOLDS[name](torch.rand(n, 2, generator=generator))
    return points + noise * torch.randn(points.shape, generator=generator)


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
NAMES = ("digits", *TORCHVISION, "celeba", *MANIFOLDS, "ring")


def _open(kind: str, root: Path, download: bool, **options: Any) -> Any:
    import torchvision

    try:
        return getattr(torchvision.datasets, kind)(str(root), download=download, **options)
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"cannot read {kind} under {root}: {reason}; say where it lies (root=..., --root) or "
            "fetch it (download=True, --download)"
        ) from error


def _torchvision(name: str, root: Path, download: bool, binarize: str | None) -> Dataset:
    kind, options, classes = TORCHVISION[name]
    splits = []
    for train in (True, False):
        stored = _open(kind, root, download, **options(train))
        y = torch.as_tensor(getattr(stored, "labels" if name == "svhn" else "targets")).long()
        x = torch.as_tensor(stored.data)
        x = x.transpose(-1, -2) if name == "emnist" else x  # EMNIST is stored on its side
        splits.append(Split(_pixels(x), y, binarize))
    return _dataset(name, splits[0], splits[1], classes)


def _celeba(
    root: Path, download: bool, binarize: str | None, size: int, stream: bool | None
) -> Dataset:
    options = {
        "target_type": "attr",
        "transform": _resized(size, crop=148),
        "target_transform": _as_float,
    }
    train, test = (
        _open("CelebA", root, download, split=part, **options) for part in ("train", "test")
    )
    return _from_sources("celeba", train, test, None, binarize, stream, labelled=True)


def _as_float(y: Tensor) -> Tensor:
    return y.float()


def _resized(size: int | None, crop: int | None = None) -> Callable[[Any], Tensor]:
    from torchvision import transforms

    steps = [] if crop is None else [transforms.CenterCrop(crop)]
    steps += [] if size is None else [transforms.Resize(size), transforms.CenterCrop(size)]
    return transforms.Compose([*steps, transforms.ToTensor()])


def _from_sources(
    name: str,
    train: Any,
    test: Any,
    classes: int | None,
    binarize: str | None,
    stream: bool | None,
    labelled: bool,
) -> Dataset:
    pixels = 4 * train[0][0].numel() * (len(train) + len(test))
    streamed = pixels > MEMORY if stream is None else stream
    splits: list[Split | StreamedSplit] = []
    for source in (train, test):
        if streamed:
            splits.append(StreamedSplit(source, binarize, labelled=labelled))
        else:
            x, y = (
                torch.cat(column)
                for column in zip(*DataLoader(source, batch_size=256), strict=True)
            )
            splits.append(Split(x, y if labelled else None, binarize))
    return _dataset(name, splits[0], splits[1], classes)


class _ImageFiles(TorchDataset):
    """Images in files, with the index of their class, or −1."""

    def __init__(
        self, files: list[Path], labels: list[int], mode: str, transform: Callable[[Any], Tensor]
    ) -> None:
        self.files, self.labels, self.mode, self.transform = files, labels, mode, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        try:
            with Image.open(self.files[index]) as image:
                return self.transform(image.convert(self.mode)), self.labels[index]
        except OSError as error:
            raise ValueError(f"cannot read the image {self.files[index]}: {error}") from error


def _folder(
    path: Path, binarize: str | None, image_size: int | None, stream: bool | None
) -> Dataset:
    both = [path / "train", path / "test"]
    parts = both if all(p.is_dir() for p in both) else [path]
    labels = sorted({d.name for part in parts for d in part.iterdir() if d.is_dir() and _images(d)})
    listed = [
        [(f, labels.index(f.parent.name) if labels else -1) for f in _images(p, labels)]
        for p in parts
    ]
    sizes: dict[tuple[int, int], Path] = {}
    modes: set[str] = set()
    for file, _ in (row for rows in listed for row in rows):
        size, mode = _header(file)
        sizes.setdefault(size, file)
        modes.add(mode)
    if not sizes:
        raise ValueError(
            f"expected images ({', '.join(IMAGES)}) in {path}, or in one folder per class, got none"
        )
    if len(sizes) > 1 and image_size is None:
        (one, first), (two, second) = list(sizes.items())[:2]
        raise ValueError(
            f"expected images of one size, got {one[0]} × {one[1]} ({first.name}) and {two[0]} × "
            f"{two[1]} ({second.name}); say to which side they are to be brought (image_size=..., "
            "--image-size)"
        )
    if odd := modes - {"1", "L", "LA", "P", "RGB", "RGBA"}:
        raise ValueError(
            f"expected 8-bit images in {path}, got the mode {', '.join(sorted(odd))}; store an "
            "array as .npz instead"
        )
    if not all(listed):
        raise ValueError(
            f"expected images in both {path / 'train'} and {path / 'test'}, got one that is empty"
        )
    mode, transform = "L" if modes <= {"1", "L", "LA"} else "RGB", _resized(image_size)
    sources: list[Any] = [
        _ImageFiles([f for f, _ in rows], [y for _, y in rows], mode, transform) for rows in listed
    ]
    if len(sources) == 1:
        train, test = _nine_to_one(len(sources[0]), str(path))
        sources = [Subset(sources[0], train.tolist()), Subset(sources[0], test.tolist())]
    return _from_sources(
        path.name,
        sources[0],
        sources[1],
        len(labels) or None,
        binarize,
        stream,
        labelled=bool(labels),
    )


def _images(folder: Path, labels: list[str] | None = None) -> list[Path]:
    folders = [folder / label for label in labels] if labels else [folder]
    return sorted(
        f for d in folders if d.is_dir() for f in d.iterdir() if f.suffix.lower() in IMAGES
    )


def _header(file: Path) -> tuple[tuple[int, int], str]:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.size, image.mode
    except OSError as error:
        raise ValueError(f"cannot read the image {file}: {error}") from error


def _nine_to_one(n: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    if n < 2:
        raise ValueError(f"expected at least 2 data in {name}, to train and to test, got {n}")
    order = np.random.RandomState(0).permutation(n)
    cut = max(1, n // 10)
    return order[cut:], order[:cut]


def _arrays(path: Path, binarize: str | None) -> Dataset:
    try:
        stored = np.load(path, allow_pickle=False)
        held = (
            {"x": stored}
            if isinstance(stored, np.ndarray)
            else {key: stored[key] for key in stored.files}
        )
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    if {"x_train", "x_test"} <= held.keys():
        pairs = [(held[f"x_{part}"], held.get(f"y_{part}")) for part in ("train", "test")]
    elif "x" in held:
        x, y = held["x"], held.get("y")
        rows = _nine_to_one(len(x) if x.ndim else 0, str(path))
        if y is not None and y.shape[:1] != (len(x),):
            raise ValueError(
                f"expected one label for each of {len(x)} data in {path}, got labels of shape "
                f"{y.shape}"
            )
        pairs = [(x[part], None if y is None else y[part]) for part in rows]
    else:
        raise ValueError(
            f"expected arrays x_train and x_test, or x, in {path}, got "
            f"{', '.join(sorted(held)) or 'none'}"
        )
    train, test = (_array_split(x, y, binarize, path) for x, y in pairs)
    for one, other, what in ((train.x, test.x, "data"), (train.y, test.y, "labels")):
        shapes = [None if t is None else tuple(t.shape[1:]) for t in (one, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"expected one shape of {what} in {path}, got {shapes[0]} to train and "
                f"{shapes[1]} to test"
            )
    labels = [s.y for s in (train, test) if s.y is not None and not s.y.is_floating_point()]
    classes = int(max(y.max() for y in labels)) + 1 if labels else None
    if classes is not None and not 1 <= classes <= len(train):
        raise ValueError(
            f"expected labels numbered from 0, fewer than data, in {path}, got them up to "
            f"{classes - 1}"
        )
    return _dataset(path.name, train, test, classes)


def _array_split(x: np.ndarray, y: np.ndarray | None, binarize: str | None, path: Path) -> Split:
    if x.ndim < 2 or x.dtype.kind not in "buif" or len(x) == 0:
        raise ValueError(
            f"expected numbers of shape (N, *shape) in {path}, got {x.dtype} of shape {x.shape}"
        )
    if not np.isfinite(x).all():
        raise ValueError(
            f"expected finite numbers in {path}, got NaN or infinite ones; remove or replace them"
        )
    if x.dtype.kind in "ui" and (x.min() < 0 or x.max() > 255):
        raise ValueError(
            f"expected integers from 0 to 255 in {path}, got {x.min()} to {x.max()}; store floats "
            "instead"
        )
    if y is not None and not _are_labels(y, len(x)):
        raise ValueError(
            f"expected {len(x)} integer labels, −1 where missing, or attribute vectors of floats "
            f"(N, A), in {path}, got {y.dtype} of shape {y.shape}"
            + (f" from {y.min()}" if y.size and y.dtype.kind in "ui" else "")
        )
    labels = (
        None
        if y is None
        else torch.as_tensor(y.astype(np.float32 if y.dtype.kind == "f" else np.int64))
    )
    return Split(_pixels(torch.as_tensor(x)), labels, binarize)


def _are_labels(y: np.ndarray, n: int) -> bool:
    if y.shape[:1] != (n,):
        return False
    if y.dtype.kind == "f":
        return y.ndim == 2 and bool(np.isfinite(y).all())
    return y.dtype.kind in "ui" and y.ndim == 1 and bool(y.min() >= -1)


def _pixels(x: Tensor) -> Tensor:
    """Stored arrays as (N, D) or (N, C, H, W) of floats; bytes are divided by 255, trailing colour
    axes moved.

    Integers that are all 0 or 1 are binary pixels, not the two darkest of 256 greys.
    """
    greys = not x.is_floating_point() and x.dtype is not torch.bool and int(x.max()) > 1
    x = x.float() / 255 if greys else x.float()
    if x.dim() == 3:
        return x[:, None]
    if x.dim() == 4 and x.shape[-1] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        return x.movedim(-1, 1)
    return x
