"""`ppl-gen translate`: images of one domain as the other domain would have them, a PNG for each
under its own name.
"""

from __future__ import annotations

__all__ = ["translate"]

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from ppl_gen.app.run.folder import expect_vacant
from ppl_gen.app.run.opened import Fitted
from ppl_gen.contexts import evaluating
from ppl_gen.data import Dataset, Split, load, parse, prepared
from ppl_gen.data.files import IMAGES
from ppl_gen.data.sources import NAMES

_AT_ONCE = 100
_GREY = ("1", "L", "LA")


class _Source(NamedTuple):
    """Images to come: their names, how a slice of them is read, and what is done to them, in words."""

    names: list[str]
    read: Callable[[slice], Tensor]
    said: str


def translate(
    fitted: Fitted,
    side: str,
    images: str,
    to: Path,
    image_size: int | None,
    overwrite: bool,
    console: Console,
) -> int:
    """Translates all images, and returns how many.

    Args:
        fitted: The run of a cycle-gan.
        side: "a" or "b", the domain that the images are of.
        images: A folder, a file, or the name of a data set, whose test images are taken.
        to: Where the translations go.
        image_size: Side to which images are brought, after the suffixes of the run's domain; the
            run's own if None. What has the shape of the run's images is taken as it is.
        overwrite: Whether the folder may hold anything.
        console: Where it is said.

    Raises:
        ValueError: Before anything is written, if the run does not translate, there is no such
            domain, the images are of another size or number of channels, or the folder is not
            empty.
    """
    if not fitted.translates:
        raise ValueError(
            f"expected the run of a cycle-gan, got {fitted.config.model}; `ppl-gen sample` draws "
            "from it"
        )
    if side not in ("a", "b"):
        raise ValueError(f"expected --from a or b, got {side!r}")
    if image_size is not None and image_size < 1:
        raise ValueError(f"expected --image-size of at least 1, got {image_size}")
    if to.exists() and to.resolve() in (Path(images).resolve(), Path(images).resolve().parent):
        raise ValueError(f"{to} holds the images themselves; say another folder with --to")
    expect_vacant(to, overwrite, option="--to")
    source = _source(fitted, side, images, image_size)
    translator = fitted.program.to_b if side == "a" else fitted.program.to_a
    to.mkdir(parents=True, exist_ok=True)
    with evaluating(translator):
        for i in range(0, len(source.names), _AT_ONCE):
            at = slice(i, i + _AT_ONCE)
            there = translator(source.read(at).to(fitted.device))
            for name, image in zip(source.names[at], there, strict=True):
                _write(to / name, image)
    count = len(source.names)
    console.print(
        f"{count} image{'s' * (count > 1)} of domain {side}, taken {source.said}, translated "
        f"into {to}",
        soft_wrap=True,
    )
    return count


def _source(fitted: Fitted, side: str, images: str, image_size: int | None) -> _Source:
    """The images, looked at one by one before any is translated; as the run's domain has them if
    they are not yet.
    """
    config, path = fitted.config, Path(images)
    domain = config.data if side == "a" else config.data_b or ""
    size = image_size or config.image_size
    if path.exists() and images not in NAMES and path.suffix not in (".npy", ".npz"):
        return _of_files(path, _Preparation(tuple(fitted.data.shape), domain, size))
    shape, given = tuple(fitted.data.shape), parse(images)[1]
    held, said = load(images, config.root), "as they are"
    if held.shape != shape:
        suffixes = [] if given else parse(domain)[1]
        held, said = (
            load(":".join([images, *suffixes]), config.root, image_size=size),
            _said(suffixes, size),
        )
    _expect_same(images, held.shape, shape, domain)
    x = held.test.fixed(0).x
    return _Source([f"{i:05}.png" for i in range(len(x))], lambda at: x[at], said)


def _of_files(path: Path, preparation: _Preparation) -> _Source:
    files = (
        [path]
        if path.is_file()
        else sorted(f for f in path.rglob("*") if f.suffix.lower() in IMAGES)
    )
    if not files:
        raise ValueError(f"expected images ({', '.join(IMAGES)}) in {path}, got none")
    top = path.parent if path.is_file() else path
    names = [str(file.relative_to(top).with_suffix(".png")) for file in files]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ValueError(
                f"expected images of different names, got {name} twice but for its ending; rename "
                "one"
            )
    said = dict.fromkeys(map(preparation.expect, files))
    return _Source(
        names,
        lambda at: torch.stack([preparation.read(file) for file in files[at]]),
        " or ".join(said),
    )


class _Preparation:
    """What makes an image of a file one of a run's domain: nothing if it has the shape, else
    suffixes and size.

    Args:
        shape: Of the run's images.
        domain: The name or path that the run was fitted to; its suffixes are applied, but for
            colours, which an image of three channels has.
        size: Side to bring images to, after the suffixes; of a domain from a folder before them, as
            it was loaded.
    """

    def __init__(self, shape: tuple[int, ...], domain: str, size: int | None) -> None:
        place, suffixes = parse(domain)
        self.shape, self.domain, self.size = shape, domain, size
        self.before = None if place in NAMES else size
        self.after = size if place in NAMES else None
        self.suffixes = [suffix for suffix in suffixes if suffix not in ("colour", "coloured")]

    def expect(self, file: Path) -> str:
        """Looks at a file's header, and says what is done to it.

        Raises:
            ValueError: If it cannot be read, or would not be of the shape.
        """
        try:
            with Image.open(file) as image:
                grey, (width, height) = image.mode in _GREY, image.size
        except OSError as error:
            raise ValueError(f"cannot read the image {file}: {error}") from error
        channels = self.shape[0] if grey else 3  # a grey picture is a colour picture too
        got: tuple[int, ...] = (channels, height, width)
        if got == self.shape:
            return "as they are"
        if channels == self.shape[0]:
            got = tuple(self.prepared(Image.new("L", (width, height)), file.name).shape)
        _expect_same(file.name, got, self.shape, self.domain)
        return _said(self.suffixes, self.size)

    def read(self, file: Path) -> Tensor:
        """The image (C, H, W)."""
        with Image.open(file) as image:
            exact = (image.height, image.width) == self.shape[1:]
            return _pixels(image, self.shape[0]) if exact else self.prepared(image, file.name)

    def prepared(self, image: Image.Image, name: str) -> Tensor:
        """An image of another size as the domain has them."""
        from torchvision.transforms import v2

        if self.before is not None:
            image = v2.Compose([v2.Resize(self.before), v2.CenterCrop(self.before)])(image)
        x = _pixels(image, self.shape[0])[None]
        alone = Dataset(Split(x), Split(x), tuple(x.shape[1:]), name=name)
        return torch.as_tensor(prepared(alone, self.suffixes, self.after).test.fixed(0).x[0])


def _said(suffixes: list[str], size: int | None) -> str:
    done = [
        *(f":{suffix}" for suffix in suffixes),
        *([f"brought to {size} × {size}"] if size else []),
    ]
    return f"as the run's domain has them ({', '.join(done)})" if done else "as they are"


def _expect_same(name: str, got: tuple[int, ...], shape: tuple[int, ...], domain: str) -> None:
    if got == shape:
        return
    if len(got) == 3 and got[0] != shape[0]:
        raise ValueError(
            f"expected images of {shape[0]} channel{'s' * (shape[0] > 1)}, as the run was fitted "
            f"to, got {got[0]} ({name})"
        )
    raise ValueError(
        f"expected images of {shape[-2]} × {shape[-1]}, as of {domain}, which the run was fitted "
        f"to, got {got[-2]} × {got[-1]} ({name}); bring them to it with --image-size {shape[-1]}"
    )


def _pixels(image: Image.Image, channels: int) -> Tensor:
    from torchvision.transforms.v2.functional import pil_to_tensor

    return torch.as_tensor(pil_to_tensor(image.convert("L" if channels == 1 else "RGB"))) / 255


def _write(path: Path, image: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = image.clamp(0, 1).mul(255).round().byte().cpu().numpy()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(path)
