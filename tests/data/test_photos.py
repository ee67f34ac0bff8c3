"""Folders of images as people have them: of many sizes, in pairs, in folders of other names."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from command import call
from PIL import Image

from ppl_gen.data import load

PAIRS = "twice as wide as high, .*given='pairs'"


def write(folder: Path, *sizes: tuple[int, int], middle: int = 200) -> Path:
    """An image of each size, (width, height), black but for its central square."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (width, height) in enumerate(sizes):
        side = min(width, height)
        pixels = np.zeros((height, width), np.uint8)
        top, left = (height - side) // 2, (width - side) // 2
        pixels[top : top + side, left : left + side] = middle
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return folder


def test_images_of_many_sizes_are_cut_to_their_central_squares(tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", (40, 20), (20, 30), (16, 16), (50, 60))
    with pytest.raises(ValueError, match="to which side their central squares are to be brought"):
        load(folder)
    found = load(folder, image_size=16)
    inner = torch.cat([found.train.x, found.test.x])[..., 2:-2, 2:-2]  # edges are smoothed
    assert bool((inner == 200 / 255).all())
    expected = "images of 4 sizes from 16 × 16 to 50 × 60, their central squares brought to 16 × 16"
    assert found.stored == expected


@pytest.mark.parametrize(
    ("size", "image_size", "said"),
    [
        ((20, 20), None, ""),
        ((20, 20), 20, ""),
        ((20, 30), None, ""),
        ((20, 20), 10, "images of 20 × 20, brought to 10 × 10"),
        ((30, 20), 10, "images of 30 × 20, their central squares brought to 10 × 10"),
    ],
)
def test_what_is_done_to_images_is_said(
    size: tuple[int, int], image_size: int | None, said: str, tmp_path: Path
) -> None:
    assert load(write(tmp_path / "photos", size, size), image_size=image_size).stored == said


def test_pairs_that_are_not_asked_for_are_said_to_lose_half(tmp_path: Path) -> None:
    folder = write(tmp_path / "pairs", *[(32, 16)] * 4)
    with pytest.warns(UserWarning, match=PAIRS):
        load(folder, image_size=8)
    np.savez(tmp_path / "pairs.npz", x=np.zeros((4, 16, 32)))
    with pytest.warns(UserWarning, match=PAIRS):
        found = load(tmp_path / "pairs.npz", image_size=8)
    assert found.stored.endswith("images of 32 × 16, their central squares brought to 8 × 8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(folder, image_size=8, given="pairs").shape == (1, 8, 8)
        assert load(folder).shape == (1, 16, 32)


def test_the_command_says_both(tmp_path: Path) -> None:
    folder = write(tmp_path / "pairs", *[(32, 16)] * 20)
    words = ("--batch-size", 10, "--epochs", 1, "--engine", "eager", "--latent-dim", 2)
    run = tmp_path / "run"
    code, said = call("fit", "vae", "--data", folder, "--image-size", 4, *words, "--out", run)
    assert code == 0, said
    assert "warning: images of 32 × 16 are twice as wide" in said
    assert "(--condition pair)" in said
    assert "images of 32 × 16, their central squares brought to 4 × 4" in said


@pytest.mark.parametrize("inner", ["", "cat"])
@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev"])
def test_folders_to_train_and_to_validate_are_no_classes(
    name: str, inner: str, tmp_path: Path
) -> None:
    for part in ("train", name):
        write(tmp_path / part / inner, *[(8, 8)] * 3)
    with pytest.raises(ValueError, match=f"got train and {name}, .*rename {name} to test"):
        load(tmp_path)
    (tmp_path / name).rename(tmp_path / "test")
    assert len(load(tmp_path).test) == 3


def test_images_beside_the_classes_are_counted(tmp_path: Path) -> None:
    for name in ("train", "cat"):  # a train may well be a class
        write(tmp_path / name, *[(8, 8)] * 3)
    found = load(write(tmp_path, (8, 8)))
    assert found.class_names == ("cat", "train")
    assert found.stored == "without 1 that lie beside the folders of classes"


def test_pairs_of_many_sizes_are_each_cut_for_itself(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    for i, (width, height) in enumerate([(32, 16), (40, 16), (32, 20), (60, 30)]):
        pixels = np.full((height, width), 200, np.uint8)
        pixels[:, : width // 2] = 100
        Image.fromarray(pixels).save(folder / f"{i}.png")
    with pytest.raises(ValueError, match="images of one size"):
        load(folder, given="pairs")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load(folder, image_size=8, given="pairs")
    assert found.shape == (1, 8, 8)
    for split in (found.train, found.test):
        assert bool((split.x == 200 / 255).all())
        assert bool((split.y == 100 / 255).all())
    assert found.stored.startswith("images of 4 sizes from 16 × 16 to 30 × 30, their central")
    Image.new("L", (33, 16)).save(folder / "odd.png")
    with pytest.raises(ValueError, match=r"even width, got 33 × 16 \(odd\.png\); cut a column off"):
        load(folder, image_size=8, given="pairs")
