"""The folder of a run alone: what can be done with it where its data do not lie."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import call

from ppl_gen import data
from ppl_gen.app.outline import Outline
from ppl_gen.app.recipes import RECIPES
from ppl_gen.app.run.folder import Run
from ppl_gen.app.run.opened import Fitted

SMALL = ("--latent-dim", 2, "--batch-size", 20, "--epochs", 1, "--device", "cpu")

pytestmark = pytest.mark.usefixtures("without_pictures")

# The words of a fit to forty binary images of two classes.
FITS = {
    "vae": ("vae", "--hidden", 8),
    "vamp": ("vae", "--hidden", 8, "--prior", "vamp"),
    "conv-vae": ("conv-vae", "--hidden", 16),
    "levels": ("vae", "--hidden", 8, "--likelihood", "categorical"),
    "cvae": ("cvae", "--hidden", 8),
    "ss-vae": ("ss-vae", "--hidden", 8, "--labels", 10),
    "gan": ("gan", "--hidden", 8),
    "cgan": ("cgan",),
    "kernel": ("ae", "--hidden", 8, "--codes", "kernel"),
    "ppca": ("ppca", "--latent-dim", 2, "--device", "cpu"),
}
QUICK = ("vae", "vamp", "cvae", "kernel")
CHOSEN = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.long, id=name) for name in FITS
]


def write_images(path: Path) -> None:
    x = np.random.RandomState(0).rand(60, 1, 8, 8).astype("f4").round()
    y = np.arange(60) % 2
    np.savez(path, x_train=x[:40], x_test=x[40:], y_train=y[:40], y_test=y[40:])


def fitted_to(images: Path, name: str, run: Path) -> Path:
    """A run of one of the fits."""
    model, *options = FITS[name]
    more = SMALL if "--latent-dim" not in options else ()
    code, said = call("fit", model, "--data", images, *options, *more, "--out", run)
    assert code == 0, said
    return run


@pytest.mark.parametrize("name", ["vae", pytest.param("conv-vae", marks=pytest.mark.long)])
def test_what_was_compressed_comes_back_without_the_data(name: str, tmp_path: Path) -> None:
    write_images(tmp_path / "x.npz")
    run = fitted_to(tmp_path / "x.npz", name, tmp_path / "run")
    x = np.load(tmp_path / "x.npz")["x_test"]
    np.save(tmp_path / "mine.npy", x)
    code, said = call("compress", run, tmp_path / "mine.npy", tmp_path / "x.bits")
    assert code == 0, said
    (tmp_path / "x.npz").unlink()
    receiver = (tmp_path / "elsewhere").absolute()
    run.rename(receiver)
    code, said = call("decompress", receiver, tmp_path / "x.bits", tmp_path / "back.npy")
    assert code == 0, said
    assert np.array_equal(np.load(tmp_path / "back.npy"), x)
    code, said = call("evaluate", receiver)
    assert (code, "cannot be read" in said) == (2, True), said


@pytest.mark.parametrize("name", CHOSEN)
def test_samples_are_those_that_are_drawn_beside_the_data(name: str, tmp_path: Path) -> None:
    """As arrays and as pictures, of the folder alone."""
    write_images(tmp_path / "x.npz")
    run = fitted_to(tmp_path / "x.npz", name, tmp_path / "run")
    beside = Fitted.open(run, "cpu")
    alone = Fitted.open(run, "cpu", alone=True)
    assert alone.weights == beside.weights
    assert (alone.name, alone.class_names) == (beside.name, beside.class_names)
    assert len(alone.data.train) == len(beside.data.train)
    (tmp_path / "x.npz").unlink()
    code, said = call("sample", run, "--count", 12, "--out", tmp_path / "drawn.npy")
    assert code == 0, said
    assert np.load(tmp_path / "drawn.npy").shape == (12, 1, 8, 8)
    assert call("sample", run, "--count", 4)[0] == 0
    assert (run / "samples.png").exists()


def test_a_run_of_a_former_version_reads_its_data(tmp_path: Path) -> None:
    """Which remembers no outline until it goes on."""
    write_images(tmp_path / "x.npz")
    run = fitted_to(tmp_path / "x.npz", "vae", tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    outline = config.pop("outline")
    del config["checksum"]
    (run / "config.json").write_text(json.dumps(config))
    assert torch.equal(Fitted.open(run, "cpu", alone=True).data.test.x, Run.open(run).data().test.x)
    (tmp_path / "x.npz").rename(tmp_path / "away.npz")
    code, said = call("sample", run, "--out", tmp_path / "drawn.npy")
    assert (code, "cannot be read" in said) == (2, True), said
    (tmp_path / "away.npz").rename(tmp_path / "x.npz")
    assert call("fit", "vae", "--out", run, "--resume")[0] == 0
    assert json.loads((run / "config.json").read_text())["outline"] == outline


def test_a_density_of_codes_that_is_not_fitted_yet_wants_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "x.npz")
    with monkeypatch.context() as patched:
        patched.setattr("ppl_gen.app.commands.fit._keep_the_best", lambda *given: None)
        run = fitted_to(tmp_path / "x.npz", "kernel", tmp_path / "run")
    code, said = call("sample", run, "--out", tmp_path / "drawn.npy")
    assert (code, "stopped before its end" in said) == (2, True), said


def test_what_takes_more_than_an_outline_has_none(tmp_path: Path) -> None:
    """Tables, lines of text and two domains; a condition that is made of the data."""
    digits = data.load("digits")
    assert Outline.of(data.Domains(digits, digits), None) is None
    (tmp_path / "table.csv").write_text("a,b\n" + "1.5,2\n2.5,3\n" * 20)
    assert Outline.of(data.load(tmp_path / "table.csv"), None) is None
    (tmp_path / "lines.txt").write_text("one\ntwo\n" * 20)
    assert Outline.of(data.load(tmp_path / "lines.txt"), None) is None
    config = RECIPES["cvae"].configuration({"condition": "edges"})
    assert Outline.of(digits, RECIPES["cvae"].condition(config, digits)) is None
    config = RECIPES["cvae"].configuration({"condition": "label"})
    assert Outline.of(digits, RECIPES["cvae"].condition(config, digits)) is not None


def test_an_outline_has_the_range_of_what_is_observed() -> None:
    x = torch.tensor([[0.25, torch.nan], [-1.0, 3.0]])
    split = data.Split(x)
    outline = Outline.of(data.Dataset.of("mine", split, split), None)
    assert outline is not None
    assert Outline.read(json.loads(json.dumps(outline.asked()))) == outline
    blank = outline.data(None, ()).train.fixed()
    assert (float(blank.x.min()), float(blank.x.max()), len(blank)) == (-1.0, 3.0, 2)
