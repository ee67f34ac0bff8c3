"""`--schedule`: the learning rate of each epoch, also in a run that was stopped."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from command import call, held, same, stop_at

from ppl_gen.app.parts.optimizers import SCHEDULES, paced
from ppl_gen.app.recipes import RECIPES, configuration

SMALL = ("--latent-dim", 2, "--hidden", 8, "--batch-size", 18, "--device", "cpu")
EPOCHS = 4


pytestmark = pytest.mark.usefixtures("without_pictures")


def rates(name: str, epochs: int) -> list[float]:
    """The learning rates that a schedule gives an optimiser at rate 1."""
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    config: Any = SimpleNamespace(schedule=name, passes=epochs)
    pace = paced([optimizer], config)
    found = []
    for epoch in range(1, epochs + 1):
        pace(epoch)
        found.append(optimizer.param_groups[0]["lr"])
    return found


class TestRates:
    def test_cosine_and_linear_are_those_of_torch(self) -> None:
        lr_scheduler = torch.optim.lr_scheduler
        for name, make in (
            ("cosine", lambda o: lr_scheduler.CosineAnnealingLR(o, 7)),
            ("linear", lambda o: lr_scheduler.LinearLR(o, 1.0, 1e-12, 7)),
            ("step", lambda o: lr_scheduler.MultiStepLR(o, [4, 6], 0.1)),
        ):
            optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
            scheduler = make(optimizer)
            expected = []
            for _ in range(7):
                expected.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                scheduler.step()
            assert rates(name, 7) == pytest.approx(expected, abs=1e-9)

    def test_each_in_four_epochs(self) -> None:
        half = (1 + math.sqrt(0.5)) / 2
        assert rates("constant", 4) == [1.0, 1.0, 1.0, 1.0]
        assert rates("cosine", 4) == pytest.approx([1.0, half, 0.5, 1 - half])
        assert rates("linear", 4) == [1.0, 0.75, 0.5, 0.25]
        assert rates("late-linear", 4) == [1.0, 1.0, 1.0, 0.5]
        assert rates("step", 4) == pytest.approx([1.0, 1.0, 0.1, 0.01])

    @pytest.mark.parametrize("name", SCHEDULES)
    def test_the_first_epoch_has_the_rate_and_none_is_at_zero(self, name: str) -> None:
        for epochs in (1, 2, 3, 100):
            found = rates(name, epochs)
            assert found[0] == 1.0
            for earlier, later in pairwise(found):
                assert 0 < later <= earlier


CASES = [
    ("cosine", "eager"),
    pytest.param("constant", "eager", marks=pytest.mark.long),
    pytest.param("linear", "eager", marks=pytest.mark.long),
    pytest.param("late-linear", "eager", marks=pytest.mark.long),
    pytest.param("step", "eager", marks=pytest.mark.long),
    pytest.param("linear", "fx", marks=pytest.mark.long),
    pytest.param("step", "inductor", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_a_stopped_fit_goes_on_as_if_it_had_not_been(
    grey_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, engine: str
) -> None:
    """In the middle of its third epoch: weights, optimiser, its rate and random state."""
    asked = (
        "--data",
        grey_images,
        *SMALL,
        "--schedule",
        name,
        "--engine",
        engine,
        "--epochs",
        EPOCHS,
    )
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    code, said = call("fit", "vae", *asked, "--out", whole)
    assert code == 0, said
    with monkeypatch.context() as patched:
        stop_at(patched, 8)
        assert call("fit", "vae", *asked, "--out", stopped)[0] == 130
    assert held(stopped)["epoch"] == 2
    code, said = call("fit", "vae", "--out", stopped, "--resume")
    assert code == 0, said
    assert same(held(stopped), held(whole))
    (optimizer,) = held(whole)["optimizers"]
    assert optimizer["param_groups"][0]["lr"] == pytest.approx(1e-3 * rates(name, EPOCHS)[-1])


@pytest.mark.long
def test_the_same_weights_by_a_graph(grey_images: Path, tmp_path: Path) -> None:
    """A graph takes the rate of each epoch, not that of the epoch in which it was traced."""
    found = []
    for engine in ("eager", "fx"):
        out = tmp_path / engine
        asked = ("--schedule", "linear", "--engine", engine, "--epochs", EPOCHS, "--out", out)
        assert call("fit", "vae", "--data", grey_images, *SMALL, *asked)[0] == 0
        found.append(held(out)["program"])
    for name, weights in found[0].items():
        assert torch.allclose(weights, found[1][name], atol=1e-6), name


def test_both_players_of_a_game_are_paced(grey_images: Path, tmp_path: Path) -> None:
    asked = ("--data", grey_images, *SMALL, "--schedule", "step", "--epochs", 2, "--lr", 1e-3)
    assert call("fit", "gan", *asked, "--out", tmp_path / "run")[0] == 0
    for optimizer in held(tmp_path / "run")["optimizers"]:
        assert optimizer["param_groups"][0]["lr"] == pytest.approx(1e-4)


@pytest.mark.parametrize(("model", "expected"), [("vae", "constant"), ("cycle-gan", "late-linear")])
def test_runs_from_before_there_were_schedules_have_their_own(model: str, expected: str) -> None:
    asked = {option.name: option.default for option in RECIPES[model].options}
    asked.pop("schedule")
    assert configuration({"model": model, **asked, "lr": 1e-3}).schedule == expected


def test_a_run_does_not_go_on_under_another(grey_images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    asked = ("--data", grey_images, *SMALL, "--schedule", "cosine", "--epochs", 1, "--out", run)
    assert call("fit", "vae", *asked, "--engine", "eager")[0] == 0
    assert json.loads((run / "config.json").read_text())["schedule"] == "cosine"
    code, said = call("fit", "vae", "--out", run, "--resume", "--schedule", "linear")
    assert (code, "begun with schedule cosine, got linear" in said) == (2, True)


def test_an_unknown_name_is_refused() -> None:
    code, said = call("fit", "vae", "--schedule", "cosin")
    assert (code, "cosine" in said) == (2, True), said
