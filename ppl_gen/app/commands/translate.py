"""`ppl-gen translate`: images of one domain as the other domain would have them, a PNG for each."""

from __future__ import annotations

__all__ = ["translate"]

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from ppl_gen.app.run.exports import write_image
from ppl_gen.app.run.folder import expect_vacant
from ppl_gen.app.run.opened import Fitted
from ppl_gen.contexts import evaluating
from ppl_gen.data import Dataset, Split, load, parse, prepared
from ppl_gen.data.formats.arrays import ARRAYS
from ppl_gen.data.formats.files import IMAGES, expect_room_for_images, opened
from ppl_gen.data.sources import NAMES
from ppl_gen.writing import write_folder

_AT_ONCE = 100  # images that are held in memory
_GREY_MODES = ("1", "L", "LA")  # of Pillow
_AS_THEY_ARE = "as they are"


@dataclass(frozen=True, kw_only=True)
class _Images:
    """The images to translate.

    Attributes:
        names: The name of the file that each translation is written to.
        read: Reads a slice of them, (n, C, H, W) in [0, 1].
        said: How they are taken, for people: "as they are", or what is done to them.
    """

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
    """Translates all images, and writes each as a PNG under its own name.

    Args:
        fitted: A run that translates between two domains.
        side: "a" or "b", the domain that the images are of.
        images: A folder, a file, or the name of a data set, whose test images are taken.
        to: The folder that the translations are written to.
        image_size: Side in pixels to which images are brought, after the suffixes of the run's
            domain; None takes the run's own. An image that has the shape of the run's is taken as
            it is.
        overwrite: Whether the folder may hold anything.
        console: Where a line says what was done.

    Returns:
        The number of images.

    Raises:
        ValueError: Before anything is written, if the run does not translate, there is no such
            domain, the images are of another size or number of channels, or the folder is not
            empty.
    """
    _expect_translator(fitted, side)
    if image_size is not None and image_size < 1:
        raise ValueError(f"expected --image-size of at least 1, got {image_size}")
    _expect_apart(Path(images), to)
    if image_size is not None:
        expect_room_for_images(image_size)
    expect_vacant(to, overwrite, option="--to")
    found = _find(fitted, side, images, image_size)
    translator = fitted.program.to_b if side == "a" else fitted.program.to_a
    count = len(found.names)
    with evaluating(translator), write_folder(to) as folder:
        for start in range(0, count, _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            translated = translator(found.read(part).to(fitted.device))
            for name, image in zip(found.names[part], translated, strict=True):
                write_image(folder / name, image)
    console.print(
        f"{count} image{'s' * (count > 1)} of domain {side}, taken {found.said}, translated "
        f"into {to}",
        soft_wrap=True,
    )
    return count


def _expect_apart(images: Path, to: Path) -> None:
    """Raises ValueError if translations would be written among the images that they are of.

    Those would be replaced, and the next time translations be translated.
    """
    if not images.exists():
        return
    place = Path(os.path.realpath(to))  # which takes links that lead nowhere as they are
    source = Path(os.path.realpath(images))
    if images.is_dir() and place.is_relative_to(source):
        raise ValueError(
            f"{to} lies in {images}, whose images are translated; say another folder with --to"
        )
    if place == source.parent:
        raise ValueError(f"{to} holds the image itself; say another folder with --to")


def _expect_translator(fitted: Fitted, side: str) -> None:
    """Raises ValueError if the run does not translate, or has no domain of this name."""
    if not fitted.recipe.translates:
        raise ValueError(
            f"expected the run of a cycle-gan, got {fitted.recipe.name}; `ppl-gen sample` draws "
            "from it"
        )
    if side not in ("a", "b"):
        raise ValueError(f"expected --from a or b, got {side!r}")


def _find(fitted: Fitted, side: str, images: str, image_size: int | None) -> _Images:
    """The images, checked before any is translated."""
    config = fitted.config
    path = Path(images)
    domain = config.data
    if side == "b" and config.data_b is not None:
        domain = config.data_b
    size = image_size or config.image_size
    is_data_set = images in NAMES or path.suffix.lower() in ARRAYS
    if path.exists() and not is_data_set:
        return _from_files(path, _Preparation(tuple(fitted.data.shape), domain, size))
    return _from_data_set(fitted, images, domain, size)


def _from_data_set(fitted: Fitted, images: str, domain: str, size: int | None) -> _Images:
    """The test images of a data set; changed as the domain's are, where their shape is another."""
    shape = tuple(fitted.data.shape)
    root = fitted.config.root
    dataset = load(images, root)
    said = _AS_THEY_ARE
    if dataset.shape != shape:
        _, suffixes = parse(domain)
        _, own_suffixes = parse(images)
        if own_suffixes:
            suffixes = []
        dataset = load(":".join([images, *suffixes]), root, image_size=size)
        said = _in_words(suffixes, size)
    _expect_shape(images, dataset.shape, shape, domain)
    x = dataset.test.fixed(0).x
    names = [f"{i:05}.png" for i in range(len(x))]
    return _Images(names=names, read=lambda part: x[part], said=said)


def _from_files(path: Path, preparation: _Preparation) -> _Images:
    """An image file, or all image files of a folder and of the folders in it."""
    top = path
    if path.is_file():
        top = path.parent
        files = [path]
    else:
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGES)
    if not files:
        raise ValueError(f"expected images ({', '.join(IMAGES)}) in {path}, got none")
    names: list[str] = []
    for file in files:
        name = str(file.relative_to(top).with_suffix(".png"))
        if name in names:
            raise ValueError(
                f"expected images of different names, got {name} twice but for its ending; rename "
                "one"
            )
        names.append(name)
    said = dict.fromkeys(preparation.check(file) for file in files)

    def read(part: slice) -> Tensor:
        return torch.stack([preparation.read(file) for file in files[part]])

    return _Images(names=names, read=read, said=" or ".join(said))


class _Preparation:
    """What makes an image of the run's domain out of a file.

    Nothing where the image has the shape; else the domain's suffixes and a size.

    Args:
        shape: The shape of the run's images, (C, H, W).
        domain: The name or path that the run was fitted to, with its suffixes. All of them are
            applied but those that colour: a coloured image has its colours.
        size: Side in pixels that the images are brought to, None for their own: for a domain from a
            folder before the suffixes, as it was loaded, for a named one after them.
    """

    def __init__(self, shape: tuple[int, ...], domain: str, size: int | None) -> None:
        place, suffixes = parse(domain)
        self.shape = shape
        self.domain = domain
        self.size = size
        self.suffixes = [suffix for suffix in suffixes if suffix not in ("colour", "coloured")]
        self._size_before = size
        self._size_after = None
        if place in NAMES:
            self._size_before = None
            self._size_after = size

    def check(self, file: Path) -> str:
        """What is done to an image, for people, as far as the file's header tells.

        Raises:
            ValueError: If the file cannot be read, or its image would not be of the shape.
        """
        with opened(file) as image:
            width, height = image.size
            is_grey = image.mode in _GREY_MODES
        channels = 3
        if is_grey:
            channels = self.shape[0]  # a grey picture is a colour picture too
        got: tuple[int, ...] = (channels, height, width)
        if got == self.shape:
            return _AS_THEY_ARE
        if channels == self.shape[0]:
            blank = Image.new("L", (width, height))
            got = tuple(self._prepare(blank, file.name).shape)
        _expect_shape(file.name, got, self.shape, self.domain)
        return _in_words(self.suffixes, self.size)

    def read(self, file: Path) -> Tensor:
        """The image, (C, H, W) in [0, 1]."""
        with opened(file) as image:
            if (image.height, image.width) == self.shape[1:]:
                return _pixels(image, self.shape[0])
            return self._prepare(image, file.name)

    def _prepare(self, image: Image.Image, name: str) -> Tensor:
        """An image of another size as the domain has them."""
        from torchvision.transforms import v2

        if self._size_before is not None:
            resize = v2.Resize(self._size_before)
            crop = v2.CenterCrop(self._size_before)
            image = crop(resize(image))
        x = _pixels(image, self.shape[0])[None]
        alone = Dataset(Split(x), Split(x), tuple(x.shape[1:]), name=name)
        changed = prepared(alone, self.suffixes, self._size_after)
        return torch.as_tensor(changed.test.fixed(0).x[0])


def _in_words(suffixes: list[str], size: int | None) -> str:
    """What suffixes and a size do to images, for people."""
    done = [f":{suffix}" for suffix in suffixes]
    if size:
        done.append(f"brought to {size} × {size}")
    if not done:
        return _AS_THEY_ARE
    return f"as the run's domain has them ({', '.join(done)})"


def _expect_shape(name: str, got: tuple[int, ...], shape: tuple[int, ...], domain: str) -> None:
    """Raises ValueError if images (C, H, W) are not of the shape that the run was fitted to."""
    if got == shape:
        return
    if len(got) != 3:
        raise ValueError(f"expected images (C, H, W), got data of shape {got} ({name})")
    if got[0] != shape[0]:
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

    mode = "L" if channels == 1 else "RGB"
    return torch.as_tensor(pil_to_tensor(image.convert(mode))) / 255
