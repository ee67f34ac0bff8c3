"""Arrays with missing entries, NaN: read where that is asked for, and left where they are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ppl_gen import data
from ppl_gen.data import Split

RANDOM = np.random.RandomState(0)


def lacking(x: np.ndarray) -> np.ndarray:
    """x with every third entry missing."""
    return np.where(np.arange(x.size).reshape(x.shape) % 3 == 0, np.nan, x)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_what_is_missing_stays_where_it_is(tmp_path: Path, name: str) -> None:
    x = lacking(RANDOM.randn(30, 5)).astype("f4")
    if name.endswith("y"):
        np.save(tmp_path / name, x)
    else:
        np.savez(tmp_path / name, x=x, y=np.arange(30) % 2)
    loaded = data.load(tmp_path / name, missing=True)
    found = torch.cat([loaded.test.x, loaded.train.x])
    rows = torch.as_tensor(np.random.RandomState(0).permutation(30))
    assert torch.equal(found.isnan(), torch.as_tensor(x)[rows].isnan())
    assert torch.equal(found.nan_to_num(), torch.as_tensor(x)[rows].nan_to_num())
    least, most = np.nanmin(x), np.nanmax(x)
    said = f"numbers from {least:.3g} to {most:.3g}, as they are, 33.3% missing"
    assert loaded.stored == said


def test_what_is_never_observed_is_said(tmp_path: Path) -> None:
    x = RANDOM.rand(20, 4)
    x[:, 2] = np.nan
    x[3] = np.nan
    np.save(tmp_path / "a.npy", x)
    loaded = data.load(tmp_path / "a.npy", missing=True)
    assert "(1 of 4 entries in every datum: nothing tells of them)" in loaded.stored


@pytest.mark.parametrize(
    ("arrays", "missing", "said"),
    [
        ({"x": lacking(np.ones((9, 4)))}, False, r"got 12 of 36 that are NaN.*missing=True"),
        ({"x": lacking(np.ones((9, 4)))}, False, "or --likelihood masked to ppl-gen fit"),
        ({"x": np.full((9, 4), np.nan)}, True, "expected finite numbers.*got NaN alone"),
        ({"x": np.array([[np.nan, np.inf]] * 9)}, True, "got infinite ones"),
        ({"x": np.array([[np.nan, 1e300]] * 9)}, True, r"up to 3.4e\+38.*got 1e\+300 to 1e\+300"),
        (
            {"x": np.ones((9, 1, 4, 4)), "y": lacking(np.ones((9, 1, 4, 4)))},
            True,
            "expected finite numbers.*that are NaN",
        ),
        (
            {"x_train": np.ones((9, 4)), "x_test": np.full((3, 4), np.nan)},
            True,
            "got NaN alone",
        ),
    ],
)
def test_what_is_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], missing: bool, said: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=said):
        data.load(tmp_path / "a.npz", missing=missing)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, bool])
def test_whole_numbers_lack_nothing(tmp_path: Path, kind: Any) -> None:
    np.save(tmp_path / "a.npy", (RANDOM.rand(20, 4) > 0.5).astype(kind))
    asked = data.load(tmp_path / "a.npy", missing=True)
    plain = data.load(tmp_path / "a.npy")
    assert torch.equal(asked.train.x, plain.train.x)
    assert asked.stored == plain.stored


def presented(split: Split) -> list[Tensor]:
    """The data of a split as they are stored, as they are fitted to, and as they are scored."""
    torch.manual_seed(1)
    (batch,) = next(iter(split.batches(len(split), shuffle=False)))
    return [split.x, batch, split.fixed(3).x]


@pytest.mark.parametrize("binarize", [None, "threshold", "static", "dynamic", "dequantize"])
def test_a_binarised_draw_lacks_the_same(binarize: str | None) -> None:
    """And is, elsewhere, the draw of complete data."""
    whole = torch.rand(7, 3, 4, generator=torch.Generator().manual_seed(0))
    is_missing = torch.arange(whole.numel()).reshape(whole.shape) % 3 == 0
    some = whole.masked_fill(is_missing, math.nan)
    of_whole = presented(Split(whole, binarize=binarize))
    of_some = presented(Split(some, binarize=binarize))
    for x, y in zip(of_whole, of_some, strict=True):
        assert torch.equal(y.isnan(), is_missing)
        assert torch.equal(x[~is_missing], y[~is_missing])


def test_what_is_out_of_range_is_said_by_what_is_observed() -> None:
    with pytest.raises(ValueError, match=r"values in \[0, 1\] to binarise .* got -2 to 3;"):
        Split(torch.tensor([[math.nan, -2.0, 3.0]]), binarize="dynamic")


@pytest.mark.parametrize("suffix", ["inverted", "rotated", "coloured", "colour"])
def test_changed_images_lack_the_same(tmp_path: Path, suffix: str) -> None:
    np.save(tmp_path / "a.npy", lacking(RANDOM.rand(20, 4, 4)))
    place = str(tmp_path / "a.npy")
    loaded = data.load(f"{place}:{suffix}", missing=True)
    before = data.load(place, missing=True).train.x.isnan()
    if suffix == "rotated":
        before = before.rot90(1, (-2, -1))
    assert torch.equal(loaded.train.x.isnan(), before.expand_as(loaded.train.x))


def test_a_pixel_made_of_a_missing_one_is_missing(tmp_path: Path) -> None:
    x = np.ones((20, 4, 4))
    x[:, 0, 1] = np.nan
    np.save(tmp_path / "a.npy", x)
    loaded = data.load(tmp_path / "a.npy", image_size=2, missing=True)
    assert loaded.train.x[0, 0].isnan().tolist() == [[True, False], [False, False]]
