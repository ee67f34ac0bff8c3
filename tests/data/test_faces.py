"""CelebA as torchvision lays it out and as archives of it unpack, without its 200,000 images."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from ppl_gen.app.ingredients.data import fingerprint
from ppl_gen.data import Dataset, load, sources

N = 12
NAMES = ("Bald", "Smiling", "Young")
PARTS = [0] * 7 + [1] * 2 + [2] * 3
ATTRIBUTES = np.random.RandomState(0).choice([-1, 1], (N, 3))
FILES = [f"{i + 1:06}.jpg" for i in range(N)]


def write_images(folder: Path, size: tuple[int, int] = (178, 218)) -> None:
    folder.mkdir(parents=True)
    for i, name in enumerate(FILES):
        pixels = np.random.RandomState(i).randint(0, 256, (*size[::-1], 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)


def lines(numbers: np.ndarray, between: str) -> list[str]:
    return [between.join([f, *map(str, row)]) for f, row in zip(FILES, numbers, strict=True)]


def as_torchvision(folder: Path) -> Path:
    """Lists in .txt, between spaces, beside the images."""
    write_images(folder / "img_align_celeba")
    said = [f"{N}", " ".join(NAMES) + " ", *lines(ATTRIBUTES, "  ")]
    (folder / "list_attr_celeba.txt").write_text("\n".join(said) + "\n")
    parts = lines(np.array(PARTS)[:, None], " ")
    (folder / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    (folder / "identity_CelebA.txt").write_text("\n".join(lines(np.ones((N, 1), int), " ")))
    for name, width in (("list_bbox_celeba", 4), ("list_landmarks_align_celeba", 10)):
        said = [f"{N}", "a b", *lines(np.ones((N, width), int), " ")]
        (folder / f"{name}.txt").write_text("\n".join(said))
    return folder


def as_an_archive(folder: Path) -> Path:
    """Lists in .csv, and the images in a folder in a folder."""
    write_images(folder / "img_align_celeba" / "img_align_celeba")
    said = [",".join(["image_id", *NAMES]), *lines(ATTRIBUTES, ",")]
    (folder / "list_attr_celeba.csv").write_text("\n".join(said) + "\n")
    parts = ["image_id,partition", *lines(np.array(PARTS)[:, None], ",")]
    (folder / "list_eval_partition.csv").write_text("\n".join(parts) + "\n")
    return folder


def as_published(folder: Path) -> Path:
    """The folders Anno, Eval and Img."""
    as_torchvision(folder)
    for inner, name in (
        ("Anno", "list_attr_celeba.txt"),
        ("Eval", "list_eval_partition.txt"),
        ("Img", "img_align_celeba"),
    ):
        (folder / inner).mkdir()
        (folder / name).rename(folder / inner / name)
    return folder


def expect_same(one: Dataset, two: Dataset) -> None:
    for a, b in ((one.train, two.train), (one.test, two.test)):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)


@pytest.mark.parametrize("lay", [as_torchvision, as_an_archive, as_published])
def test_every_layout_is_read_as_torchvision_reads_its_own(
    lay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lay(tmp_path / "faces")
    found = load(folder, image_size=16)
    assert (len(found.train), len(found.test), found.shape) == (7, 3, (3, 16, 16))
    assert (found.attributes, found.attribute_names, found.classes) == (3, NAMES, None)
    as_torchvision(tmp_path / "root" / "celeba")
    monkeypatch.setattr(torchvision.datasets.CelebA, "_check_integrity", lambda self: True)
    monkeypatch.setattr(sources, "holds_faces", lambda folder: False)
    expected = load("celeba", tmp_path / "root", image_size=16)
    expect_same(found, expected)
    streamed = load(folder, image_size=16, stream=True)
    known = load("celeba", tmp_path / "root", image_size=16, stream=True)
    assert fingerprint(streamed) == fingerprint(known)


def test_the_name_finds_it_under_the_root(tmp_path: Path) -> None:
    as_an_archive(tmp_path / "one" / "celeba")
    as_an_archive(tmp_path / "two")
    found = load("celeba", tmp_path / "one")
    assert found.shape == (3, 64, 64)
    expect_same(found, load("celeba", tmp_path / "two"))
    assert load("celeba:inverted", tmp_path / "two").attribute_names == NAMES


def test_part_of_the_faces_and_no_partition_are_said(tmp_path: Path) -> None:
    folder = as_an_archive(tmp_path / "faces")
    inner = folder / "img_align_celeba" / "img_align_celeba"
    (inner / FILES[0]).unlink()
    assert load(folder).stored == "11 of 12 listed faces are there"
    (folder / "list_eval_partition.csv").unlink()
    found = load(folder)
    assert (len(found.train), len(found.test)) == (10, 1)
    assert found.stored.endswith("split nine to one for want of list_eval_partition")


def test_faces_that_are_cut_already_are_not_cut_again(tmp_path: Path) -> None:
    folder = as_an_archive(tmp_path / "faces")
    inner = folder / "img_align_celeba" / "img_align_celeba"
    for file in inner.iterdir():
        Image.new("RGB", (64, 64), (255, 255, 255)).save(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bool((load(folder).train.x == 1).all())


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    folder = as_an_archive(tmp_path / "faces")
    listed = folder / "list_attr_celeba.csv"
    whole = listed.read_text()
    damaged = {
        "": "got others, or none",
        whole[: whole.index("000007") + 10]: "got a name alone",
        whole.replace("000003.jpg,", "000003.jpg,x"): "got another",
        whole.replace("000003.jpg", "third"): "got others, or none",
        whole[: whole.index("000007") + 13]: "got another",
    }
    for text, said in damaged.items():
        listed.write_text(text)
        with pytest.raises(ValueError, match=f"whole numbers in .*{said}.*fetch it anew"):
            load(folder)
    listed.write_text(whole)
    partition = folder / "list_eval_partition.csv"
    partition.write_text(partition.read_text().replace(",2", ",0"))
    with pytest.raises(ValueError, match="got 10 and 0 of 12 that are there; unpack more"):
        load(folder)
    for file in (folder / "img_align_celeba" / "img_align_celeba").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"got none of 12, such as 000001\.jpg; unpack"):
        load(folder)
