"""One look for all pictures, which go into axes of one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import matplotlib as mpl
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ppl_gen import plots
from ppl_gen.plots import bound, codes, evidence, games, images, posterior, rates, samples

MODULES = (bound, codes, evidence, games, images, posterior, rates, samples)
FRAMES = {"line_game_frame"}  # of an animation, which has a window to itself


def pictures() -> list[Callable[..., object]]:
    """Every public function that makes a picture."""
    functions = [getattr(module, name) for module in MODULES for name in module.__all__]
    made = [f for f in functions if inspect.signature(f).return_annotation == "Figure"]
    return [f for f in made if f.__name__ not in FRAMES]


@pytest.mark.parametrize("picture", pictures(), ids=lambda picture: picture.__name__)
def test_every_picture_takes_axes(picture: Callable[..., object]) -> None:
    assert "ax" in inspect.signature(picture).parameters


def several() -> dict[str, Callable[..., Figure]]:
    """Pictures of one panel, of several, and of images."""
    draws = torch.randn(4, 50, 2)
    return {
        "bars": lambda ax: evidence.gap_bars({"one": (1.0, 0.1), "two": (2.0, 0.2)}, "t", ax=ax),
        "histograms": lambda ax: evidence.rank_histograms(
            {"z": torch.randint(0, 10, (60, 3))}, 9, "t", ax=ax
        ),
        "contours": lambda ax: posterior.contours(draws.flatten(0, 1), draws, ["x", "y"], ax=ax),
        "images": lambda ax: plots.image_grid(torch.rand(6, 1, 4, 4), 3, "t", ax=ax),
    }


@pytest.mark.parametrize("name", several())
def test_a_picture_takes_the_place_of_axes(name: str) -> None:
    alone = several()[name](None)
    figure, (left, right) = plt.subplots(1, 2)
    part = several()[name](right)
    assert len(part.axes) == len(alone.axes)
    assert set(part.axes) <= set(figure.axes)
    figure.canvas.draw()
    edge = left.get_window_extent().x1
    assert all(axes.get_window_extent().x0 > edge for axes in part.axes)
    plt.close(figure)


def test_axes_that_are_in_no_grid_are_refused() -> None:
    placed = Figure().add_axes((0.0, 0.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="expected axes of a grid"):
        plots.image_grid(torch.rand(6, 1, 4, 4), ax=placed)


@pytest.mark.parametrize("name", several())
def test_the_look_is_the_same_whatever_matplotlib_is_set_to(name: str) -> None:
    plain = several()[name](None)
    with mpl.rc_context({"font.size": 30, "axes.titlesize": 40, "xtick.labelsize": 25}):
        set_otherwise = several()[name](None)
        set_otherwise.canvas.draw()
    plain.canvas.draw()
    for one, other in zip(plain.axes, set_otherwise.axes, strict=True):
        assert one.title.get_size() == other.title.get_size()
        sizes = {label.get_size() for label in one.get_xticklabels()}
        assert sizes == {label.get_size() for label in other.get_xticklabels()}
