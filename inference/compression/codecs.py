"""Well-known codecs beside a program: how many bytes PNG, JPEG-2000 and bz2 take for the same data.

JPEG and JPEG-2000 are there as lossy codecs too, with what they get wrong.
"""

from __future__ import annotations

__all__ = ["lossless_sizes", "sheet"]

import bz2
import io
import math
from typing import Any

import numpy as np
from PIL import Image, features

_PACKED = ", 8 pixels to a byte"


def lossless_sizes(symbols: np.ndarray, levels: int) -> dict[str, int]:
    """How many bytes codecs take for all data, by their names, without loss.

    Binary pixels are packed: eight to a byte for bz2, one bit each in PNG; JPEG-2000 has no such
    pixels, and gets bytes that are 0 or 1. Images lie side by side on one sheet, so that there is
    one header; PNG also gets a file for each.

    Args:
        symbols: Numbers of values from 0 to levels − 1, (N, *shape); images are (N, C, H, W) with
            one channel or three.
        levels: How many values there are.

    Returns:
        The bytes; of data that are no images, or have more than 256 values, bz2's alone.
    """
    if levels > 256:
        return {"bz2": len(bz2.compress(symbols.astype("<u2").tobytes()))}
    data = symbols.astype(np.uint8)
    if levels == 2:
        sizes = {f"bz2{_PACKED}": len(bz2.compress(np.packbits(data).tobytes()))}
    else:
        sizes = {"bz2": len(bz2.compress(data.tobytes()))}
    if data.ndim != 4 or data.shape[1] not in (1, 3):
        return sizes
    is_binary = levels == 2 and data.shape[1] == 1
    of_all = sheet(data)
    sizes["PNG, a file for each"] = sum(_png(image, is_binary) for image in data)
    sizes["PNG, one sheet"] = _png(of_all, is_binary)
    if features.check("jpg_2000"):
        sizes["JPEG-2000, one sheet"] = encoded(of_all, "JPEG2000", irreversible=False)[0]
    return sizes


def sheet(images: np.ndarray) -> np.ndarray:
    """All images side by side, row by row, (C, rows · H, columns · W); what is left over is 0.

    Args:
        images: (N, C, H, W).
    """
    count, channels, height, width = images.shape
    columns = math.ceil(count**0.5)
    rows = math.ceil(count / columns)
    placed = np.zeros((rows * columns, channels, height, width), images.dtype)
    placed[:count] = images
    grid = placed.reshape(rows, columns, channels, height, width)
    return grid.transpose(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width)


def encoded(image: np.ndarray, kind: str, **options: Any) -> tuple[int, np.ndarray]:
    """How many bytes an image takes, and what it is after decoding.

    Args:
        image: Bytes (C, H, W) with one channel or three.
        kind: As Pillow calls the format: "JPEG".
        **options: Of the format.

    Returns:
        The bytes, and the image (C, H, W) that they hold.
    """
    held = io.BytesIO()
    _picture(image).save(held, format=kind, **options)
    size = held.tell()
    with Image.open(held) as back:
        decoded = np.asarray(back)
    if decoded.ndim == 2:
        return size, decoded[None]
    return size, decoded.transpose(2, 0, 1)


def _png(image: np.ndarray, is_binary: bool) -> int:
    """How many bytes an image (C, H, W) takes as PNG, of one bit for each pixel if it is binary."""
    picture = _picture(image)
    if is_binary:
        picture = _picture(image * 255).convert("1")
    held = io.BytesIO()
    picture.save(held, format="PNG", optimize=True)
    return held.tell()


def _picture(image: np.ndarray) -> Image.Image:
    if len(image) == 1:
        return Image.fromarray(image[0])
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
