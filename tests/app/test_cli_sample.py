"""`ppl-gen sample`: labels by name, and draws in files of their own; what the command says of
itself.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
import torch
from command import QUICK, call, snapshot
from PIL import Image

from ppl_gen import data
from ppl_gen.app.run.opened import Fitted
from ppl_gen.app.run.pictures import draw_samples

CLASSES = ("circle", "square")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images for each of two classes."""
    folder = tmp_path_factory.mktemp("shapes")
    noise = np.random.RandomState(0)
    for name in CLASSES:
        (folder / name).mkdir()
        for i in range(60):
            grey = noise.randint(0, 255, (8, 8)).astype(np.uint8)
            Image.fromarray(grey).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CVAE of these."""
    folder = tmp_path_factory.mktemp("runs") / "shapes"
    words = ("fit", "cvae", "--data", images, "--batch-size", 50, "--out", folder)
    code, said = call(*words, *QUICK)
    assert code == 0, said
    return folder


def test_names_of_classes_are_kept_and_are_labels(run: Path) -> None:
    assert json.loads((run / "config.json").read_text())["class_names"] == list(CLASSES)
    fitted = Fitted.open(run, "cpu")
    by_name = draw_samples(fitted, 4, label="square", seed=0)
    by_number = draw_samples(fitted, 4, label="1", seed=0)
    assert torch.equal(by_name.x, by_number.x)
    assert by_name.classes == ["square"] * 4
    assert draw_samples(fitted, 12).classes == ["circle"] * 10 + ["square"] * 2
    code, said = call("sample", run, "--label", "sqare")
    assert (code, said) == (
        2,
        "error: unknown --label 'sqare'; did you mean 'square'? Known: circle, square",
    )


def test_classes_that_were_renamed_are_other_data(run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    config = json.loads((run / "config.json").read_text()) | {"class_names": ["disc", "square"]}
    config.pop("checksum")
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    (tmp_path / "run" / "checkpoint.pt").write_bytes((run / "checkpoint.pt").read_bytes())
    for words in (("evaluate", tmp_path / "run"), ("fit", "cvae", "--resume")):
        out = ("--out", tmp_path / "run") if words[0] == "fit" else ()
        code, said = call(*words, *out)
        assert (code, "classes of the data have changed since the run was begun" in said) == (
            2,
            True,
        )


def test_draws_go_where_they_are_sent(run: Path, tmp_path: Path) -> None:
    """As an array, as arrays that `data.load` reads, as a picture, and as an image for each."""
    expected = draw_samples(Fitted.open(run, "cpu"), 12, seed=3)
    before = snapshot(run)
    for name in ("a.npy", "deep/a.npz", "a.png", "folder"):
        out = tmp_path / name
        assert call("sample", run, "--count", 12, "--seed", 3, "--out", out)[0] == 0
        code, said = call("sample", run, "--count", 12, "--seed", 3, "--out", out)
        assert (code, "say --overwrite, or another place with --out" in said) == (2, True)
        assert call("sample", run, "--count", 12, "--seed", 3, "--out", out, "--overwrite")[0] == 0
    assert snapshot(run) == before
    assert np.array_equal(np.load(tmp_path / "a.npy"), expected.x.numpy())
    arrays = np.load(tmp_path / "deep" / "a.npz")
    assert np.array_equal(arrays["x"], expected.x.numpy())
    assert arrays["y"].tolist() == [0] * 10 + [1] * 2
    assert data.load(tmp_path / "deep" / "a.npz").classes == 2
    assert Image.open(tmp_path / "a.png").size > (100, 100)
    written = np.asarray(Image.open(tmp_path / "folder" / "square" / "0011.png"))
    assert np.abs(written - 255 * expected.x[11, 0].clamp(0, 1).numpy()).max() <= 0.51
    assert data.load(tmp_path / "folder").class_names == CLASSES


def test_arrays_may_be_longer_than_pictures(run: Path, tmp_path: Path) -> None:
    assert call("sample", run, "--count", 1100, "--out", tmp_path / "a.npy")[0] == 0
    assert len(np.load(tmp_path / "a.npy")) == 1100
    for words in (("--count", 1100, "--out", tmp_path / "folder"), ("--count", 1100)):
        code, said = call("sample", run, *words)
        assert (code, "expected --count from 1 to 1000, got 1100" in said) == (2, True)
    code, said = call("sample", run, "--out", tmp_path / "a.jpg")
    assert (code, "in .npy, .npz, .png, got" in said) == (2, True)


def test_no_picture_says_where_the_data_lie(
    run: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each says in a corner of which epoch it is."""
    written: list[str] = []
    save = matplotlib.figure.Figure.savefig

    def record(self: matplotlib.figure.Figure, *args: object, **options: object) -> None:
        texts = self.findobj(lambda artist: hasattr(artist, "get_text"))
        written.append("\n".join(artist.get_text() for artist in texts))
        save(self, *args, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", record)
    assert call("sample", run, "--count", 2)[0] == 0
    few = ("--particles", 2, "--moments", "--features", "pca")
    code, said = call("evaluate", run, *few)
    assert code == 0, said
    assert f"cvae on {images.name}, 12 test data" in said
    assert len(written) == 2
    for texts in written:
        assert "epoch 2" in texts
        assert str(images.parent) not in texts


def test_the_version_is_said() -> None:
    code, said = call("--version")
    assert code == 0
    assert said.startswith("ppl-gen 0.1.0, torch ")
    assert "pyro-ppl 1.9" in said
