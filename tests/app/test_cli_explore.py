"""`ppl-gen explore`: a picture and numbers for each look, and what it says where one is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import QUICK, call
from PIL import Image

from ppl_gen import data, load
from ppl_gen.app.exploration.filling import band
from ppl_gen.app.run.kept import kept

LOOKS = {
    "manifold": ("--manifold", "--side", 4),
    "traverse": ("--traverse",),
    "interpolate": ("--interpolate", 0, 5),
    "walk": ("--walk",),
    "neighbours": ("--neighbours", 3),
    "overlap": ("--overlap", 0, 5),
    "attributes": ("--attributes", "thickness", "slant"),
    "impute": ("--impute",),
    "anomaly": ("--anomaly",),
    "latents": ("--latents",),
    "aggregate": ("--aggregate",),
    "over_epochs": ("--over-epochs",),
}

pytestmark = pytest.mark.usefixtures("without_pictures")


def shapes(n: int) -> np.ndarray:
    """Bytes (n, 8, 8): a bar, leaning by its number, and noise."""
    noise = np.random.RandomState(0)
    x = noise.randint(0, 90, (n, 8, 8))
    for i in range(n):
        for row in range(8):
            x[i, row, (2 + (i % 5) * row // 8) : (4 + i % 3 + (i % 5) * row // 8)] = 230
    return x.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images of three classes."""
    folder = tmp_path_factory.mktemp("explored")
    np.savez(folder / "bars.npz", x=shapes(240), y=np.arange(240) % 3)
    return folder


def fitted(place: Path, model: str, name: str, *words: object, data: str = "bars.npz") -> Path:
    run = place / name
    where = place / data
    code, said = call("fit", model, "--data", where, "--out", run, "--batch-size", 50, *words)
    assert code == 0, said
    return run


@pytest.fixture(scope="module")
def run(place: Path, without_pictures: None) -> Path:
    """A VAE that has not seen label 2, with the weights of both epochs."""
    words = (*QUICK, "--keep-every", 1)
    return fitted(place, "vae", "vae", *words, data="bars.npz:without-2")


@pytest.fixture(scope="module")
def explored(run: Path) -> str:
    """What all looks together have said."""
    words = [word for look in LOOKS.values() for word in look]
    code, said = call("explore", run, *words, "--device", "cpu")
    assert code == 0, said
    return said


@pytest.mark.long
def test_each_look_leaves_pictures_and_numbers(run: Path, explored: str) -> None:
    held = json.loads((run / "explore.json").read_text())
    assert held.keys() == LOOKS.keys()
    for look, entry in held.items():
        assert entry["epoch"] == 2
        for name in entry["pictures"]:
            with Image.open(run / name) as picture:
                assert min(picture.size) > 100, (look, name)
            assert str(run / name).replace("\n", "") in explored
        for value, error in entry["numbers"].values():
            assert np.isfinite(value)
            assert error is None or error >= 0
    assert held["traverse"]["numbers"]["change by z[0], pixels²"][1] > 0
    assert len(held["over_epochs"]["numbers"]) == 2
    area, error = held["anomaly"]["numbers"]["AUC of −log p(x)"]
    assert 0 <= area <= 1
    assert 0 < error < 0.3


@pytest.mark.long
def test_what_is_written_over_is_said(run: Path, explored: str) -> None:
    code, said = call("explore", run, "--walk", "--seed", 1)
    assert code == 0
    assert f"written over what was there: {run / 'walk.png'}" in said
    held = json.loads((run / "explore.json").read_text())
    assert held["walk"]["options"]["seed"] == 1
    assert "manifold" in held


@pytest.mark.long
def test_weights_of_epochs_are_those_of_the_run(run: Path) -> None:
    files = kept(run)
    assert list(files) == [1, 2]
    whole = load(run)
    before = {name: value.clone() for name, value in whole.program.state_dict().items()}
    load(files[2], whole.program)
    for name, value in whole.program.state_dict().items():
        assert torch.equal(value, before[name])
    load(files[1], whole.program)
    assert not torch.equal(whole.program.decoder[0][0].weight, before["decoder.0.0.weight"])


def test_a_class_left_out_is_among_the_test_data_alone(place: Path) -> None:
    found = data.load(f"{place / 'bars.npz'}:without-2")
    assert set(found.train.y.tolist()) == {0, 1}
    assert set(found.test.y.tolist()) == {0, 1, 2}
    with pytest.raises(ValueError, match=r"expected one of the labels .*, got '7'"):
        data.load(f"{place / 'bars.npz'}:without-7")
    with pytest.raises(ValueError, match="expected data with labels, got none"):
        data.load("line:without-0")


@pytest.mark.long
def test_a_named_label_and_other_data_are_novel(run: Path, explored: str, place: Path) -> None:
    code, said = call("explore", run, "--anomaly", "--novel", 1)
    assert code == 0
    assert "label 1 is novel" in said
    code, said = call("explore", run, "--anomaly", "--novel", "digits")
    assert code == 0
    assert "digits is novel" in said


@pytest.mark.long
def test_a_class_that_is_empty_is_refused(run: Path) -> None:
    code, said = call("explore", run, "--anomaly", "--novel", 7)
    assert (code, "the class is empty" in said) == (2, True)


@pytest.mark.long
def test_programs_with_labels(place: Path) -> None:
    run = fitted(place, "cvae", "cvae", *QUICK)
    looks = ("--manifold", "--walk", "--neighbours", 0, "--overlap", 0, 1, "--aggregate")
    code, said = call("explore", run, *looks, "--impute")
    assert code == 0, said
    code, said = call("explore", run, "--manifold", "--label", 2, "--side", 3, "--within", 2.0)
    assert code == 0, said
    code, said = call("explore", run, "--manifold", "--label", 3)
    assert (code, "unknown --label '3'" in said) == (2, True)


@pytest.mark.long
def test_a_generator_is_walked_in_and_not_encoded(place: Path) -> None:
    run = fitted(place, "gan", "gan", *QUICK)
    code, said = call("explore", run, "--manifold", "--side", 3, "--walk")
    assert code == 0, said
    code, said = call("explore", run, "--walk", "--traverse")
    assert code == 2
    assert "for --traverse, got gan: no guide" in said


@pytest.mark.long
def test_latents_of_another_dimension(place: Path) -> None:
    words = ("--epochs", 1, "--latent-dim", 3, "--device", "cpu")
    run = fitted(place, "vae", "three", *words)
    code, said = call("explore", run, "--walk", "--manifold")
    assert code == 2
    assert "expected a run of 2 latents for --manifold, got 3; fit with --latent-dim 2" in said
    assert not (run / "walk.png").exists()
    code, said = call("explore", run, "--latents")
    assert code == 0, said


@pytest.mark.long
def test_a_table_has_codes_and_novel_rows(tmp_path: Path) -> None:
    run = tmp_path / "table"
    words = ("--data", "breast_cancer:without-0", "--out", run, "--device", "cpu", "--epochs", 3)
    code, said = call("fit", "vae", *words, "--latent-dim", 2, "--batch-size", 50)
    assert code == 0, said
    code, said = call("explore", run, "--anomaly", "--latents", "--aggregate")
    assert code == 0, said
    assert json.loads((run / "explore.json").read_text())["anomaly"]["numbers"]
    code, said = call("explore", run, "--impute")
    assert (code, "expected a run over images for --impute" in said) == (2, True)


@pytest.mark.long
def test_other_data_are_reconstructed(run: Path) -> None:
    code, said = call("reconstruct", run, "--data", "digits", "--count", 6)
    assert code == 0, said
    assert "squared error of a reconstruction:" in said
    assert (run / "reconstructions-digits.png").exists()
    code, said = call("reconstruct", run, "--data", "digits")
    assert (code, "exists; say --overwrite" in said) == (2, True)
    code, said = call("reconstruct", run, "--data", "breast_cancer")
    assert (code, "expected data of shape (1, 8, 8)" in said) == (2, True)


def test_the_band_is_the_lectures() -> None:
    mask = band((1, 28, 28)).flatten()
    assert mask.nonzero().flatten().tolist() == list(range(300, 400))


@pytest.mark.long
def test_a_damaged_file_is_left_alone(run: Path, explored: str) -> None:
    path = run / "explore.json"
    held = path.read_text()
    path.write_text(held[:-20])
    code, said = call("explore", run, "--walk")
    assert (code, "is damaged" in said) == (2, True)
    path.write_text(held)
