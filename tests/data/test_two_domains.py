"""Folders trainA, trainB, testA and testB, as the data sets of CycleGAN have them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ppl_gen.app.ingredients.data import fingerprint
from ppl_gen.data import load, load_domains

COUNTS = {"trainA": 6, "trainB": 5, "testA": 2, "testB": 3}
GREYS = {"trainA": 10, "trainB": 200, "testA": 20, "testB": 220}


def write(folder: Path, *names: str, side: int = 8) -> Path:
    """Images whose grey tells which folder they are of."""
    for name in names or COUNTS:
        (folder / name).mkdir(parents=True)
        for i in range(COUNTS[name]):
            grey = np.full((side, side, 3), GREYS[name] + i, np.uint8)
            Image.fromarray(grey).save(folder / name / f"{i}.png")
    return folder


def test_all_four_folders_are_read(tmp_path: Path) -> None:
    found = load_domains(write(tmp_path / "horses2zebras"))
    parts = {
        "trainA": found.a.train,
        "testA": found.a.test,
        "trainB": found.b.train,
        "testB": found.b.test,
    }
    for name, split in parts.items():
        greys = (split.x[:, 0, 0, 0] * 255).round().long().tolist()
        assert greys == [GREYS[name] + i for i in range(COUNTS[name])]
        assert split.y is None
    assert (found.a.name, found.b.name) == ("horses2zebras/trainA", "horses2zebras/trainB")
    assert (found.a.classes, found.shape) == (None, (3, 8, 8))


def test_suffixes_and_a_size_change_both(tmp_path: Path) -> None:
    folder = write(tmp_path / "large", side=24)
    found = load_domains(f"{folder}:inverted", image_size=12)
    assert found.shape == (3, 12, 12)
    assert found.a.name == "large/trainA:inverted"
    for domain, grey in ((found.a, GREYS["trainA"]), (found.b, GREYS["trainB"])):
        assert domain.train.x.max().item() == pytest.approx(1 - grey / 255)


def test_one_domain_by_its_folder_has_its_test_images(tmp_path: Path) -> None:
    folder = write(tmp_path / "both")
    one = load(folder / "trainB")
    assert (len(one.train), len(one.test), one.classes) == (5, 3, None)
    assert torch.equal(one.test.x, load_domains(folder).b.test.x)


def test_without_test_folders_each_is_split(tmp_path: Path) -> None:
    found = load_domains(write(tmp_path / "both", "trainA", "trainB"))
    assert (len(found.a.train), len(found.a.test)) == (5, 1)
    assert (len(found.b.train), len(found.b.test)) == (4, 1)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("trainA",), "expected folders trainA, trainB in .*, got trainA; put .* of trainB there"),
        (("trainB", "testB"), "got trainB, testB; put the images of trainA and testA there"),
        (("trainA", "trainB", "testA"), "expected folders trainA, trainB, testA, testB in"),
        (("testA", "testB"), "put the images of trainA and trainB there"),
    ],
)
def test_what_is_missing_is_named(names: tuple[str, ...], said: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "both", *names)
    with pytest.raises(ValueError, match=said):
        load_domains(folder)
    with pytest.raises(ValueError, match=r"got those of two domains .*load_domains"):
        load(folder)


def test_a_folder_of_two_domains_is_no_data_set_of_four_classes(tmp_path: Path) -> None:
    folder = write(tmp_path / "both")
    with pytest.raises(ValueError, match=r"two domains \(trainA, trainB, testA, testB\)"):
        load(folder)
    with pytest.raises(ValueError, match=r"folders trainA, trainB in .*, got none"):
        load_domains(folder / "trainA")


def test_each_folder_has_a_fingerprint(tmp_path: Path) -> None:
    folder = write(tmp_path / "both")
    before = fingerprint(load_domains(folder))
    assert len(before) == 4
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "testB" / "0.png")
    after = fingerprint(load_domains(folder))
    changed = [name for name in before if before[name] != after[name]]
    assert changed == ["test data of domain b"]
    shutil.rmtree(folder / "testA")
    with pytest.raises(ValueError, match="put the images of testA there"):
        load_domains(folder)
