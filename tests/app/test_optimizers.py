"""`--optimizer`: a fit under any of them that was stopped ends as one that was left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import call, held, same, stop_at

from ppl_gen.app.parts.optimizers import OPTIMIZERS

SMALL = ("--latent-dim", 2, "--hidden", 8, "--batch-size", 18, "--device", "cpu")
EPOCHS = 3


pytestmark = pytest.mark.usefixtures("without_pictures")


CASES = [
    *[(name, "eager") for name in OPTIMIZERS],
    pytest.param("adamw", "fx", marks=pytest.mark.long),
    pytest.param("rmsprop", "fx", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_a_stopped_fit_goes_on_as_if_it_had_not_been(
    grey_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, engine: str
) -> None:
    """In the middle of its second epoch: weights, optimiser and random state are bit for bit."""
    asked = (
        "--data",
        grey_images,
        *SMALL,
        "--optimizer",
        name,
        "--weight-decay",
        0.01,
        "--lr",
        1e-3,
    )
    whole = tmp_path / "whole"
    fit = ("fit", "vae", *asked, "--engine", engine, "--epochs", EPOCHS)
    code, said = call(*fit, "--out", whole)
    assert code == 0, said
    stopped = tmp_path / "stopped"
    with monkeypatch.context() as patched:
        stop_at(patched, 5)
        code, said = call(*fit, "--out", stopped)
    assert code == 130
    assert held(stopped)["epoch"] == 1
    code, said = call("fit", "vae", "--out", stopped, "--resume")
    assert code == 0, said
    assert same(held(stopped), held(whole))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_stopped_game_goes_on_as_if_it_had_not_been(
    grey_images: Path, tmp_path: Path, name: str
) -> None:
    """Both players, and the average of the generator."""
    asked = ("--data", grey_images, *SMALL, "--optimizer", name, "--lr", 1e-3)
    code, said = call("fit", "gan", *asked, "--epochs", EPOCHS, "--out", tmp_path / "whole")
    assert code == 0, said
    assert call("fit", "gan", *asked, "--epochs", 1, "--out", tmp_path / "halves")[0] == 0
    again = ("--resume", "--epochs", EPOCHS)
    code, said = call("fit", "gan", "--out", tmp_path / "halves", *again)
    assert code == 0, said
    assert same(held(tmp_path / "halves"), held(tmp_path / "whole"))


def test_optimizers_move_weights_to_other_places(grey_images: Path, tmp_path: Path) -> None:
    found = []
    for name in OPTIMIZERS:
        out = tmp_path / name
        words = (
            "--data",
            grey_images,
            "--optimizer",
            name,
            "--lr",
            1e-2,
            "--epochs",
            1,
            "--out",
            out,
        )
        assert call("fit", "vae", *words, *SMALL, "--engine", "eager")[0] == 0
        found.append(held(out)["program"])
    for i, one in enumerate(found):
        assert not any(same(one, other) for other in found[:i])


def test_a_run_does_not_go_on_under_another(grey_images: Path, tmp_path: Path) -> None:
    words = ("--data", grey_images, "--optimizer", "sgd", "--epochs", 1, "--out", tmp_path / "a")
    assert call("fit", "vae", *words, *SMALL, "--engine", "eager")[0] == 0
    code, said = call("fit", "vae", "--out", tmp_path / "a", "--resume", "--optimizer", "adam")
    assert code == 2
    assert "begun with optimizer sgd, got adam" in said
