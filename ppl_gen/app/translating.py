"""`ppl-gen translate`: images of one domain as the other domain would have them, a PNG for each under its own name."""

from __future__ import annotations

__all__ = ["translate"]

from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from ppl_gen import domains
from ppl_gen.app.fitted import Fitted
from ppl_gen.calling import evaluating
from ppl_gen.sources import IMAGES, NAMES

_AT_ONCE = 100
_GREY = ("1", "L", "LA")


class _Source(NamedTuple):
    """Images to come: their names, and how a slice of them is read."""

    names: list[str]
    files: list[Path]
    held: Tensor | None

    def read(self, at: slice, channels: int, size: int | None) -> Tensor:
        if self.held is not None:
            return self.held[at]
        return torch.stack([_read(file, channels, size) for file in self.files[at]])


def translate(
    fitted: Fitted, side: str, images: str, to: Path, image_size: int | None, overwrite: bool, console: Console
) -> int:
    """Translates all images, and returns how many.

    Args:
        fitted: The run of a cycle-gan.
        side: "a" or "b", the domain that the images are of.
        images: A folder, a file, or the name of a data set, whose test images are taken.
        to: Where the translations go.
        image_size: Side to which files are brought; None takes them as they are.
        overwrite: Whether the folder may hold anything.
        console: Where it is said.

    Raises:
        ValueError: Before anything is written, if the run does not translate, there is no such domain, the images are of
            another size or number of channels, or the folder is not empty.
    """
    if not fitted.translates:
        raise ValueError(
            f"expected the run of a cycle-gan, got a {fitted.config.model}; `ppl-gen sample` draws from it"
        )
    if side not in ("a", "b"):
        raise ValueError(f"expected --from a or b, got {side!r}")
    _expect_vacant(to, images, overwrite)
    source = _source(fitted, images, image_size)
    translator = fitted.program.to_b if side == "a" else fitted.program.to_a
    to.mkdir(parents=True, exist_ok=True)
    with evaluating(translator):
        for i in range(0, len(source.names), _AT_ONCE):
            at = slice(i, i + _AT_ONCE)
            there = translator(source.read(at, fitted.data.shape[0], image_size).to(fitted.device))
            for name, image in zip(source.names[at], there, strict=True):
                _write(to / name, image)
    console.print(f"{len(source.names)} images of domain {side} translated into {to}", soft_wrap=True)
    return len(source.names)


def _source(fitted: Fitted, images: str, image_size: int | None) -> _Source:
    """The images, looked at one by one before any is translated."""
    shape, path = tuple(fitted.data.shape), Path(images)
    if path.exists() and images not in NAMES and path.suffix not in (".npy", ".npz"):
        files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.suffix.lower() in IMAGES)
        if not files:
            raise ValueError(f"expected images ({', '.join(IMAGES)}) in {path}, got none")
        top = path.parent if path.is_file() else path
        names = [str(file.relative_to(top).with_suffix(".png")) for file in files]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise ValueError(f"expected images of different names, got {name} twice but for its ending; rename one")
        for file in files:
            _expect_shape(file, shape, image_size)
        return _Source(names, files, None)
    held = domains.load(images, fitted.config.root, image_size=image_size).test.fixed(0).x
    _expect_same(images, tuple(held.shape[1:]), shape)
    return _Source([f"{i:05}.png" for i in range(len(held))], [], held)


def _expect_shape(file: Path, shape: tuple[int, ...], image_size: int | None) -> None:
    try:
        with Image.open(file) as image:
            grey, (width, height) = image.mode in _GREY, image.size
    except OSError as error:
        raise ValueError(f"cannot read the image {file}: {error}") from error
    channels = 1 if grey and shape[0] == 1 else 3  # a grey picture is a colour picture too
    got = (channels, height, width) if image_size is None else (channels, image_size, image_size)
    _expect_same(file.name, got, shape)


def _expect_same(name: str, got: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if got == shape:
        return
    if len(got) == 3 and got[0] != shape[0]:
        raise ValueError(
            f"expected images of {shape[0]} channel{'s' * (shape[0] > 1)}, as the run was fitted to, got {got[0]} ({name})"
        )
    raise ValueError(
        f"expected images of {shape[-2]} × {shape[-1]}, as the run was fitted to, got {got[-2]} × {got[-1]} ({name}); "
        f"bring them to it with --image-size {shape[-1]}"
    )


def _read(file: Path, channels: int, size: int | None) -> Tensor:
    from torchvision.transforms import v2

    steps = [] if size is None else [v2.Resize(size), v2.CenterCrop(size)]
    made = v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    with Image.open(file) as image:
        return torch.as_tensor(made(image.convert("L" if channels == 1 else "RGB")))


def _write(path: Path, image: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = image.clamp(0, 1).mul(255).round().byte().cpu().numpy()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(path)


def _expect_vacant(to: Path, images: str, overwrite: bool) -> None:
    if to.is_file():
        raise ValueError(f"{to} is a file; say another folder with --to")
    if to.exists() and to.resolve() in (Path(images).resolve(), Path(images).resolve().parent):
        raise ValueError(f"{to} holds the images themselves; say another folder with --to")
    if to.is_dir() and any(to.iterdir()) and not overwrite:
        raise ValueError(f"{to} is not empty; say --overwrite, or another folder with --to")
