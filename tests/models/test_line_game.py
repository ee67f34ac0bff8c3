"""The lecture's game of two lines: its first turn, its end, the program it is about, and its
pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ppl_gen import plots
from ppl_gen.likelihoods import Gaussian
from ppl_gen.models.toy import LineCritic, line, line_game
from ppl_gen.models.toy.line_game import game_value
from ppl_gen.program import Observed, simulate

V, W, U = torch.tensor([0.2, 0.98]), torch.tensor([0.71, -0.71]), torch.tensor([0.98, 0.2])


def apart(v: Tensor, u: Tensor = U, mirrored: bool = False) -> float:
    """The angle between two lines in degrees; between their mirror images in the first quadrant if
    mirrored.
    """
    if mirrored:
        v, u = v.abs(), u.abs()
    sine = float(v[0] * u[1] - v[1] * u[0])
    cosine = float(v @ u.to(v))
    return math.degrees(math.atan2(abs(sine), abs(cosine)))


class TestGame:
    def test_the_lectures_first_turn(self) -> None:
        _, first = line_game(turns=1)
        assert first.generator.tolist() == pytest.approx([0.393, 0.920], abs=5e-4)
        assert first.critic.tolist() == pytest.approx([0.672, -0.740], abs=5e-4)

    def test_its_gradients_are_those_of_one_number(self) -> None:
        """With s = Σ |vᵢ| wᵢ, ∂V/∂vᵢ = −c(s) sign(vᵢ) wᵢ and c(s) = E |h| σ(|h| s).

        The expectation is taken here by the midpoint rule.
        """
        h = (torch.arange(200_000, dtype=torch.float64) + 0.5) * 1e-4
        bell = (-h.square() / 2).exp()
        density = 2 * 1e-4 * bell / math.sqrt(2 * math.pi)
        v, w, u = (t.double() for t in (V, W, U))
        c = density @ (h * torch.sigmoid(h * (v.abs() @ w)))
        at = v.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(game_value(at, w, u), at)
        assert torch.allclose(gradient, -c * w, rtol=1e-7)

    def test_a_critic_whose_steps_grow_turns_the_generator_onto_the_data(self) -> None:
        history = line_game(turns=200)
        assert all(apart(turn.generator) < 1 for turn in history[37:])
        assert apart(history[-1].generator) < 1e-3
        assert apart(history[36].generator) > 1  # as the docstring counts
        last, before = (float(turn.critic @ U.double()) for turn in (history[-1], history[-2]))
        assert last == pytest.approx(-before, abs=1e-3)

    @pytest.mark.parametrize(
        ("generator_step", "turns"),
        [
            (lambda _: 0.8, 100),
            (lambda _: 0.1, 200),
            (lambda t: 0.8 / math.sqrt(t), 100),
            (lambda t: 0.8 / t, 300),
        ],
    )
    def test_at_a_constant_critic_step_it_is_held_at_the_axis(
        self, generator_step: Callable[[int], float], turns: int
    ) -> None:
        history = line_game(turns=turns, generator_step=generator_step, critic_step=lambda _: 1.0)
        # A step of its size to and fro: on an average it lies at the axis, and the critic still
        # stands across the data.
        average = torch.stack([turn.generator for turn in history[-40:]]).mean(0)
        assert apart(average, torch.tensor([1.0, 0.0])) < 3
        assert apart(average) > 8
        assert all(turn.critic[1] < -0.9 for turn in history[-40:])

    @pytest.mark.slow
    def test_from_anywhere_it_ends_on_the_data_or_a_mirror_image(self) -> None:
        for _ in range(8):
            v, w = torch.randn(2, 2)
            assert apart(line_game(v, w, turns=200)[-1].generator, mirrored=True) < 1

    @pytest.mark.parametrize(
        ("attempt", "said"),
        [
            (lambda: line_game(torch.ones(3)), r"generator of shape \(2,\), got \(3,\)"),
            (lambda: line_game(critic=torch.zeros(2)), r"a critic other than \(0, 0\)"),
            (lambda: line_game(data=torch.tensor([1.0, math.nan])), "finite data"),
            (lambda: line_game(turns=0), "at least 1 turn, got 0"),
            (lambda: line(torch.ones(2).long()), "direction of a floating dtype"),
            (lambda: LineCritic(torch.ones(2, 1)), r"weight of shape \(2,\)"),
        ],
    )
    def test_bad_input(self, attempt: Callable[[], Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            attempt()


class TestProgram:
    def test_draws_lie_on_the_line(self) -> None:
        x = simulate(line(V), 500)
        assert x.shape == (500, 2)
        assert torch.allclose(x @ torch.tensor([0.98, -0.2]), torch.zeros(500), atol=1e-6)

    def test_expectations_over_draws_are_those_of_the_game(self) -> None:
        critic = LineCritic(W)
        n = 40_000
        with torch.no_grad():
            real = critic(simulate(line(U), n))
            fake = critic(simulate(line(V), n))
        terms = F.logsigmoid(real) + F.logsigmoid(-fake)
        exact = game_value(V.double(), W.double(), U.double())
        assert abs(float(terms.mean() - exact)) < 4 * float(terms.std()) / n**0.5

    def test_under_a_gaussian_it_has_the_density_of_a_gaussian(self) -> None:
        """x = vz + ε: N(0, vvᵀ + ε²I)."""
        program = Observed(line(V), Gaussian(0.5))
        n = 40_000
        x = program.model(n=n).detach()
        covariance = torch.outer(V, V) + 0.25 * torch.eye(2)
        errors = (x[:, :, None] * x[:, None]).std(0) / n**0.5
        off = (torch.cov(x.T) - covariance).abs()
        assert (off < 4 * errors).all()


def pictures() -> dict[str, Callable[[], Figure]]:
    records = [
        SimpleNamespace(epoch=i, metrics={"generator": 1.0 / (i + 1), "critic": 1.3})
        for i in range(5)
    ]
    x = torch.rand(5, 1, 8, 8)
    return {
        "frame": lambda: plots.games.line_game_frame(V, W, U, "turn 0"),
        "losses": lambda: plots.games.losses(records, ["generator", "critic"]),
        "confusion": lambda: plots.games.confusion(
            torch.eye(3).long() * 7, ["one", "two", "three"]
        ),
        "shares": lambda: plots.games.confusion(torch.full((2, 2), 0.25)),
        "translations": lambda: plots.games.translations(x, 1 - x, x, columns=3),
        "colours": lambda: plots.games.translations(*torch.rand(3, 2, 3, 8, 8)),
    }


class TestPictures:
    @pytest.mark.parametrize("name", pictures())
    def test_they_can_be_drawn(self, name: str, tmp_path: Path) -> None:
        pictures()[name]().savefig(tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size > 1000

    def test_the_heat_map_is_the_critic(self) -> None:
        axes = plots.games.line_game_frame(V, W, U).axes[0]
        (heat,) = axes.get_images()
        values = torch.as_tensor(heat.get_array().data)
        low, high, _, _ = heat.get_extent()
        ticks = torch.linspace(low, high, len(values), dtype=torch.float64)
        column = torch.stack([ticks[100].expand(len(ticks)), ticks], -1)
        with torch.no_grad():
            expected = LineCritic(W.double())(column).sigmoid()
        assert torch.allclose(values[:, 100], expected)

    def test_confusion_writes_its_counts(self) -> None:
        axes = plots.games.confusion(torch.tensor([[5, 1], [0, 7]])).axes[0]
        assert [(t.get_text(), t.get_position()) for t in axes.texts] == [
            ("5", (0, 0)),
            ("1", (1, 0)),
            ("7", (1, 1)),
        ]

    def test_the_animation_has_a_frame_for_each_turn(self, tmp_path: Path) -> None:
        path = plots.games.line_game_animation(line_game(turns=4), U, tmp_path / "game.gif")
        with Image.open(path) as image:
            assert (image.format, image.n_frames) == ("GIF", 5)

    @pytest.mark.parametrize(
        ("attempt", "said"),
        [
            (lambda: plots.games.line_game_frame(torch.ones(3), W, U), r"shape \(2,\), got \(3,\)"),
            (
                lambda: plots.games.line_game_animation([], U, "a.gif"),
                r"at least one turn, .* got 0 turns",
            ),
            (lambda: plots.games.line_game_animation([(V, W)], U, "a.mp4"), r"a .gif .* 'a.mp4'"),
            (
                lambda: plots.games.losses([], ["critic"]),
                r"names of metrics among \[\], got \['critic'\]",
            ),
            (
                lambda: plots.games.confusion(torch.ones(2, 3)),
                r"square matrix of counts .* \(2, 3\)",
            ),
            (
                lambda: plots.games.confusion(torch.ones(2, 2), ["a"]),
                "expected 2 names, one for each class, got 1",
            ),
            (
                lambda: plots.games.translations(
                    torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8), torch.rand(2, 64)
                ),
                r"of one shape, got \(2, 1, 8, 8\), \(2, 1, 8, 8\), \(2, 64\)",
            ),
        ],
    )
    def test_bad_input(self, attempt: Callable[[], Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            attempt()
