"""Data that are not those a run was begun with, and data that lie elsewhere now."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from command import call, snapshot
from PIL import Image

from ppl_gen import data
from ppl_gen.app.commands import evaluate
from ppl_gen.app.ingredients.data import fingerprint
from ppl_gen.app.run.folder import Run
from ppl_gen.app.run.opened import Fitted
from ppl_gen.data import sources

SMALL = ("--latent-dim", 2, "--batch-size", 20, "--device", "cpu", "--engine", "eager")


pytestmark = pytest.mark.usefixtures("without_pictures")


def arrays(**changed: Any) -> dict[str, Any]:
    x = np.random.RandomState(0).rand(60, 4, 4).astype("f4").round()
    held = {"x_train": x[:40], "x_test": x[40:], "y_train": np.arange(40) % 2}
    return held | {"y_test": np.arange(20) % 2} | changed


def write_images(folder: Path) -> Path:
    """Twenty images to train and ten to test, in two classes."""
    for part, count in (("train", 20), ("test", 10)):
        for i in range(count):
            place = folder / part / "ab"[i % 2]
            place.mkdir(parents=True, exist_ok=True)
            grey = np.random.RandomState(i + count).randint(0, 255, (4, 4)).astype(np.uint8)
            Image.fromarray(grey).save(place / f"{i:02}.png")
    return folder


def change(path: Path) -> None:
    """Another image in the place of one."""
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of arrays and one of streamed images, with labels."""
    here = tmp_path_factory.mktemp("changed")
    np.savez(here / "a.npz", **arrays())
    write_images(here / "images")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ppl_gen.memory.STREAMED", 0)
        for name, of in (("arrays", "a.npz"), ("streamed", "images")):
            words = ("--data", here / of, "--out", here / name, "--epochs", 1)
            code, said = call("fit", "cvae", *words, *SMALL)
            assert code == 0, said
    return here


# What is changed, and what is said to be other.
ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "training data": ({"x_train": 1 - arrays()["x_train"]}, "training data;"),
    "training labels": ({"y_train": 1 - arrays()["y_train"]}, "training labels;"),
    "one training label": (
        {"y_train": np.append(arrays()["y_train"][:-1], 0)},
        "training labels;",
    ),
    "test labels": ({"y_test": 1 - arrays()["y_test"]}, "test labels;"),
    "test data in another order": ({"x_test": arrays()["x_test"][::-1]}, "test data;"),
    "one test datum": (
        {"x_test": np.append(arrays()["x_test"][:-1], 1 - arrays()["x_test"][-1:], 0)},
        "test data;",
    ),
    "fewer test data": (
        {"x_test": arrays()["x_test"][:-1], "y_test": arrays()["y_test"][:-1]},
        "test data, test labels;",
    ),
    "leaked test data": ({"x_test": arrays()["x_train"][:20]}, "test data;"),
}
IMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a training image": (lambda folder: change(folder / "train/a/00.png"), "training data;"),
    "a test image": (lambda folder: change(folder / "test/a/00.png"), "test data;"),
    "a training image of another name": (
        lambda folder: (folder / "train/a/00.png").rename(folder / "train/a/001.png"),
        "training data;",
    ),
    "a training image of another class": (
        lambda folder: (folder / "train/a/00.png").rename(folder / "train/b/00.png"),
        "training data, training labels;",
    ),
    "a test image less": (
        lambda folder: (folder / "test/b/01.png").unlink(),
        "test data, test labels;",
    ),
    "a leaked test image": (
        lambda folder: shutil.copy(folder / "train/a/00.png", folder / "test/a/00.png"),
        "test data;",
    ),
}


def expect_refused(run: Path, expected: str) -> None:
    """The run is not judged, nor does it go on, and nothing of it is changed."""
    before = snapshot(run)
    with pytest.raises(ValueError, match=f"have changed since it was begun: other {expected}"):
        Fitted.open(run, "cpu")
    code, said = call("fit", "cvae", "--out", run, "--resume", "--epochs", 3)
    assert (code, f"begun: other {expected}" in said) == (2, True), said
    assert snapshot(run) == before


@pytest.mark.parametrize("name", ARRAYS)
def test_changed_arrays_are_noticed(name: str, places: Path) -> None:
    changed, expected = ARRAYS[name]
    try:
        np.savez(places / "a.npz", **arrays(**changed))
        expect_refused(places / "arrays", expected)
    finally:
        np.savez(places / "a.npz", **arrays())


@pytest.mark.parametrize("name", IMAGES)
def test_changed_images_of_a_stream_are_noticed(
    name: str, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ppl_gen.memory.STREAMED", 0)
    changed, expected = IMAGES[name]
    images = places / "images"
    try:
        changed(images)
        expect_refused(places / "streamed", expected)
    finally:
        shutil.rmtree(images)
        write_images(images)


@pytest.mark.parametrize("name", ["arrays", "streamed"])
def test_data_that_are_the_same_are_taken(
    name: str, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ppl_gen.memory.STREAMED", 0)
    assert Fitted.open(places / name, "cpu").epoch == 1


def test_either_domain_of_a_translator_is_named(tmp_path: Path) -> None:
    one = data.load("digits")
    inverted = data.load("digits:inverted")
    found = fingerprint(data.Domains(one, inverted))
    assert len(found) == 8
    assert found["training data of domain a"] != found["training data of domain b"]
    assert found["training labels of domain a"] == found["training labels of domain b"]
    again = fingerprint(data.Domains(one, data.load("digits:inverted")))
    assert again == found


def test_suffixes_of_a_stream_keep_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ppl_gen.memory.STREAMED", 0)
    write_images(tmp_path)
    plain = fingerprint(data.load(tmp_path))
    assert fingerprint(data.load(f"{tmp_path}:inverted:rotated")) == plain
    for part in ("train", "test"):
        shutil.copytree(tmp_path / part, tmp_path / "whole", dirs_exist_ok=True)
    split = fingerprint(data.load(tmp_path / "whole"))  # nine to one, by a fixed permutation
    assert split == fingerprint(data.load(tmp_path / "whole"))
    assert split.keys() == plain.keys()
    change(tmp_path / "whole/a/02.png")
    assert split != fingerprint(data.load(tmp_path / "whole"))


@pytest.mark.long
def test_the_command_fits_judges_and_resumes_streamed_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ppl_gen.memory.STREAMED", 0)
    data = tmp_path / "data"
    data.mkdir()
    x = np.random.RandomState(0).randint(0, 200, (80, 4, 4)).astype("u1")
    np.save(data / "x.npy", x)
    np.save(data / "y.npy", np.arange(80) % 2)
    options = ["--latent-dim", 2, "--batch-size", 18, "--device", "cpu", "--engine", "eager"]
    options += ["--data", data, "--validation", 0.1, "--binarize", "dynamic"]
    for folder, epochs in (("whole", 4), ("halves", 2)):
        code, said = call("fit", "cvae", *options, "--out", tmp_path / folder, "--epochs", epochs)
        assert code == 0, said
    halves = tmp_path / "halves"
    code, said = call("fit", "cvae", "--out", halves, "--resume", "--epochs", 4)
    assert code == 0, said
    records = [[r.metrics for r in Run.open(tmp_path / f).records()] for f in ("whole", "halves")]
    assert records[0] == records[1]
    code, said = call("evaluate", halves, "--particles", 20, "--limit", 6)
    assert code == 0, said
    monkeypatch.undo()
    code, said = call("evaluate", halves, "--particles", 20, "--limit", 4)  # now held in memory
    assert code == 0, said
    x[3] = 0
    np.save(data / "x.npy", x)
    code, said = call("evaluate", halves, "--particles", 20)
    assert (code, "have changed since it was begun" in said) == (2, True)


def test_faces_are_known_by_their_files_and_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    for name in ("1.jpg", "2.jpg"):
        change(folder / name)

    class StandIn:
        def __init__(self, root: str, **options: Any) -> None:
            self.root = root
            self.base_folder = "celeba"
            self.filename = ["1.jpg", "2.jpg"]
            self.attr = torch.tensor([[0, 1], [1, 1]])

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            return torch.zeros(3, 4, 4), self.attr[index].float()

    fake = SimpleNamespace(CelebA=StandIn)
    monkeypatch.setattr("torchvision.datasets", fake)
    loaded = sources.read_named("celeba", tmp_path, False, 4, True)
    before = fingerprint(loaded)
    loaded.train.source.stored.attr[0, 0] = 1
    after = fingerprint(loaded)
    assert [name for name in before if before[name] != after[name]] == ["training labels"]
    (folder / "2.jpg").write_bytes(b"another")
    assert fingerprint(loaded)["test data"] != after["test data"]
    (folder / "2.jpg").unlink()
    with pytest.raises(ValueError, match=r"cannot read .*2\.jpg"):
        fingerprint(loaded)


# Data that have moved.


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose data lie elsewhere now, and other data in a third place."""
    here = tmp_path_factory.mktemp("moved")
    np.savez(here / "a.npz", **arrays())
    words = ("--data", here / "a.npz", "--out", here / "run", "--epochs", 1)
    code, said = call("fit", "cvae", *words, *SMALL)
    assert code == 0, said
    (here / "elsewhere").mkdir()
    (here / "a.npz").rename(here / "elsewhere" / "b.npz")
    np.savez(here / "other.npz", **arrays(y_test=1 - arrays()["y_test"]))
    return here


def test_a_run_is_pointed_to_where_its_data_have_moved(
    moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(moved / "run", tmp_path / "run"))
    before = snapshot(run)
    resume = ("fit", "cvae", "--out", run, "--resume")
    for words in (("evaluate", run), resume):
        code, said = call(*words)
        assert code == 2
        assert "--resume --data PLACE" in said
    for words in (("evaluate", run), resume):
        code, said = call(*words, "--data", moved / "other.npz")
        assert (code, "begun: other test labels" in said) == (2, True)
    assert snapshot(run) == before
    there = moved / "elsewhere" / "b.npz"
    opened: list[Fitted] = []
    monkeypatch.setattr(evaluate, "evaluate", lambda fitted, *asked: opened.append(fitted))
    code, said = call("evaluate", run, "--data", there)
    assert code == 0, said
    assert opened[0].config.data == str(there)
    assert (run / "config.json").read_bytes() == before[str(run / "config.json")]
    code, said = call(*resume, "--data", there)
    assert code == 0, said
    assert json.loads((run / "config.json").read_text())["data"] == str(there)
    assert Fitted.open(run, "cpu").epoch == 1


def test_options_of_places_that_a_run_does_not_have_are_refused(moved: Path) -> None:
    words = ("evaluate", moved / "run", "--data", moved / "elsewhere" / "b.npz")
    code, said = call(*words, "--data-b", "digits")
    assert (code, "--data-b is no option of a cvae; leave it out" in said) == (2, True)


def test_a_run_without_a_checkpoint_knows_no_other_data(moved: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(moved / "run", tmp_path / "run"))
    (run / "checkpoint.pt").unlink()
    words = ("--resume", "--data", moved / "elsewhere" / "b.npz")
    code, said = call("fit", "cvae", "--out", run, *words)
    assert (code, "has no checkpoint that knows its data" in said) == (2, True)
