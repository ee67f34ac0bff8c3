"""What other codecs take: sheets hold every image, and lossless codecs give them back."""

from __future__ import annotations

import numpy as np

from ppl_gen.inference.compression.codecs import encoded, lossless_sizes, sheet


def images(n: int, channels: int, levels: int) -> np.ndarray:
    shape = (n, channels, 6, 5)
    return np.random.RandomState(0).randint(0, levels, shape).astype(np.uint8)


def test_a_sheet_holds_every_image_in_its_place() -> None:
    x = images(7, 3, 256)
    made = sheet(x)
    assert made.shape == (3, 18, 15)
    for i, image in enumerate(x):
        row, column = divmod(i, 3)
        place = made[:, 6 * row : 6 * row + 6, 5 * column : 5 * column + 5]
        assert np.array_equal(place, image)
    assert not made[:, 12:, 5:].any()


def test_lossless_codecs_give_an_image_back() -> None:
    for channels in (1, 3):
        for levels in (2, 256):
            made = sheet(images(9, channels, levels))
            for kind, options in (("PNG", {}), ("JPEG2000", {"irreversible": False})):
                size, back = encoded(made, kind, **options)
                assert np.array_equal(back, made)
                assert size > 30


def test_binary_pixels_are_packed() -> None:
    noise = images(4000, 1, 2)
    sizes = lossless_sizes(noise, 2)
    raw = noise.size / 8
    for name in ("bz2, 8 pixels to a byte", "PNG, one sheet"):
        assert raw < sizes[name] < 1.2 * raw, name
    assert sizes["PNG, a file for each"] > 4000 * 57


def test_what_is_no_image_has_no_pictures() -> None:
    assert list(lossless_sizes(np.zeros((5, 3), int), 256)) == ["bz2"]
    assert list(lossless_sizes(np.zeros((5, 2, 3, 3), int), 4)) == ["bz2"]
    assert list(lossless_sizes(np.zeros((5, 1, 3, 3), int), 5000)) == ["bz2"]
