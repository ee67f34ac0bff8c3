"""Images, points, curves and samples in pictures: what is shown is what was given."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor

from ppl_gen import plots
from ppl_gen.inference import mmd, moments, two_sample_test
from ppl_gen.plots import image_grid, points
from ppl_gen.plots.style import figure_of


def shown(figure: Figure) -> Tensor:
    """The image in the only axes of a picture."""
    (image,) = figure.axes[0].get_images()
    return torch.as_tensor(image.get_array().data)


class TestImageGrid:
    @pytest.mark.parametrize(("channels", "colours"), [(1, 1), (2, 1), (3, 3), (4, 3)])
    def test_each_image_has_its_place(self, channels: int, colours: int) -> None:
        images = torch.rand(5, channels, 4, 6)
        sheet = shown(plots.image_grid(images, columns=3))
        assert sheet.shape[:2] == (2 * 5, 3 * 7)
        last = sheet.reshape(10, 21, colours)[5:9, 7:13].permute(2, 0, 1)
        assert torch.equal(last, images[4, :colours])
        assert bool((sheet[5:, 14:] == 1).all())

    def test_values_are_clipped(self) -> None:
        sheet = shown(plots.image_grid(torch.tensor([-1.0, 2.0]).reshape(2, 1, 1, 1)))
        assert sheet[0, [0, 2]].tolist() == [0.0, 1.0]

    @pytest.mark.parametrize("channels", [1, 3])
    def test_what_is_missing_is_blue(self, channels: int) -> None:
        images = torch.rand(2, channels, 4, 6)
        images[1, 0, 2, 3] = torch.nan
        sheet = shown(plots.image_grid(images))
        assert sheet.shape == (5, 14, 3)
        red, green, blue = sheet[2, 7 + 3].tolist()
        assert blue > green > red
        is_known = torch.ones(4, 6, dtype=torch.bool)
        is_known[2, 3] = False
        expected = images[1].expand(3, -1, -1).permute(1, 2, 0)
        assert torch.equal(sheet[:4, 7:13][is_known], expected[is_known])

    def test_rows_are_labelled(self) -> None:
        axes = plots.image_grid(torch.rand(4, 1, 3, 3), 2, "title", ["a", "b"]).axes[0]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
        assert axes.get_yticks().tolist() == [2, 6]

    def test_vectors_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"got \(4, 3\); for vectors there is points"):
            plots.image_grid(torch.rand(4, 3))


def test_reconstructions_stand_below_their_data() -> None:
    data, reconstructed = torch.rand(2, 3, 1, 4, 4)
    sheet = shown(plots.reconstructions(data, reconstructed, columns=2))
    assert sheet.shape == (4 * 5, 2 * 5)
    assert torch.equal(sheet[10:14, :4], data[2, 0])
    assert torch.equal(sheet[15:19, :4], reconstructed[2, 0])


def test_the_manifold_goes_up_and_to_the_right() -> None:
    seen: list[Tensor] = []

    def decode(z: Tensor) -> Tensor:
        seen.append(z)
        return torch.zeros(len(z), 1, 2, 2)

    plots.latent_manifold(decode, side=3)
    across, up = seen[0].reshape(3, 3, 2).unbind(-1)
    assert bool((across.diff(dim=1) > 0).all())
    assert bool((up.diff(dim=0) < 0).all())


def records(count: int) -> list[Any]:
    return [SimpleNamespace(epoch=i, metrics={"elbo": -100.0 / (i + 1)}) for i in range(count)]


def test_the_first_tenth_of_a_run_is_out_of_view() -> None:
    low, high = plots.training_curve(records(20)).axes[0].get_ylim()
    assert -100 / 2 < low < -100 / 3
    assert -5 < high < 0


def pictures() -> dict[str, Callable[[], Figure]]:
    data, sample = torch.randn(2, 60, 2)
    return {
        "points on a line": lambda: plots.points({"a": data[:, :1], "b": sample[:, :1]}),
        "points in a plane": lambda: plots.points({"a": data, "b": sample}, "both"),
        "points in space": lambda: plots.points({"a": torch.randn(9, 3)}),
        "reconstructed points": lambda: plots.reconstructions(data, sample),
        "curve": lambda: plots.training_curve(records(2)),
        "moments": lambda: plots.samples.moments(moments(sample, data), "moments"),
        "nulls": lambda: plots.samples.nulls(
            {"mmd": two_sample_test(sample, data, statistic=mmd, permutations=100)}
        ),
        "runs of points": lambda: plots.samples.runs({"a": data, "b": sample}),
        "runs of images": lambda: plots.samples.runs({"a": torch.rand(4, 1, 3, 3)}, "images"),
    }


@pytest.mark.parametrize("name", pictures())
def test_it_can_be_drawn(name: str) -> None:
    picture = pictures()[name]()
    picture.canvas.draw()
    assert picture.axes


class TestInANotebook:
    """A figure is the value of a cell: IPython shows it, once, with or without pyplot's help."""

    def test_ipython_shows_it_without_pyplot(self) -> None:
        formatters = pytest.importorskip("IPython.core.formatters")
        figure = plots.image_grid(torch.rand(2, 1, 4, 4))
        shown, _ = formatters.DisplayFormatter().format(figure)
        assert shown["image/png"].startswith(b"\x89PNG")
        assert shown.keys() == {"text/plain", "image/png"}

    def test_inline_figures_take_precedence_and_show_it_once(self) -> None:
        formatters = pytest.importorskip("IPython.core.formatters")
        pylabtools = pytest.importorskip("IPython.core.pylabtools")
        formatter = formatters.DisplayFormatter()
        pylabtools.select_figure_formats(SimpleNamespace(display_formatter=formatter), {"png"})
        figure = plots.image_grid(torch.rand(2, 1, 4, 4))
        shown, _ = formatter.format(figure)
        assert shown.keys() == {"text/plain", "image/png"}

    def test_pyplot_does_not_keep_it(self) -> None:
        from matplotlib import pyplot

        before = pyplot.get_fignums()
        assert plots.training_curve(records(3))._repr_png_()  # type: ignore[attr-defined]
        assert pyplot.get_fignums() == before


@pytest.mark.parametrize(
    ("count", "shape"),
    [(100, (1, 5000, 1)), (100, (1, 1, 5000)), (1000, (1, 400, 1)), (4, (3, 900, 1200))],
    ids=str,
)
def test_images_of_any_shape_are_drawn_within_limits(count: int, shape: tuple[int, ...]) -> None:
    """5000 × 1 pixels, ten in a row, asked for a picture of 4.5 million rows of dots."""
    figure = image_grid(torch.rand(count, *shape))
    width, height = figure.get_size_inches() * figure.dpi
    assert max(width, height) <= 2**15
    assert width * height <= 1.01 * 2**26
    (sheet,) = figure.axes[0].images
    assert sheet.get_array().size < 2**26
    figure.set_dpi(10)
    figure.canvas.draw()


def test_points_have_the_names_of_their_columns() -> None:
    for size, expected in ((1, ("a", "")), (2, ("a", "b")), (3, ("a", "c")), (4, ("a", "b"))):
        (axes,) = points({"x": torch.rand(5, size)}, names="abcd"[:size]).axes
        assert (axes.get_xlabel(), axes.get_ylabel()) == expected


def test_small_images_are_drawn_as_they_are() -> None:
    figure = image_grid(torch.rand(20, 1, 28, 20), columns=10)
    assert figure.dpi == 150
    assert figure.axes[0].images[0].get_array().shape == (2 * 29, 10 * 21)
    assert figure.axes[0].get_aspect() == 1


def test_figures_beyond_what_can_be_drawn_have_fewer_dots() -> None:
    for width, height in ((6, 3000), (3000, 6), (300, 300)):
        figure = figure_of(width, height)
        assert max(width, height) * figure.dpi <= 2**15
        assert width * height * figure.dpi**2 <= 1.01 * 2**26
    assert figure_of(7, 5).dpi == 150
    confusion = plots.games.confusion(torch.eye(4000))
    assert not confusion.axes[0].texts
    assert max(confusion.get_size_inches()) < 40


@pytest.mark.filterwarnings("ignore:constrained_layout")
def test_names_from_outside_are_no_mathematics(tmp_path) -> None:
    strange = "a$\\frac{$\x1b[31m" + 100 * "x"
    images = torch.rand(2, 1, 4, 4)
    drawn = torch.randn(2, 30, 2)
    figures = [
        image_grid(images, 1, row_labels=[strange, strange]),
        points({strange: torch.rand(3, 2)}),
        plots.samples.runs({strange: images}),
        plots.games.confusion(torch.eye(2), [strange, strange]),
        plots.evidence.bounds({strange: (0.0, 1.0)}),
        plots.evidence.rank_histograms({strange: torch.arange(40) % 10}, 9),
        plots.posterior.contours(drawn[0], drawn, [strange, strange]),
        plots.posterior.forest(drawn[0], drawn, [strange, strange]),
        plots.posterior.traces(drawn, [strange, strange]),
    ]
    for figure in figures:
        figure.savefig(tmp_path / "picture.png", dpi=20)
        shown = [text.get_text() for text in figure.findobj(Text)]
        said = [text for text in shown if "frac" in text]
        assert said
        assert all("\x1b" not in text and len(text) < 70 for text in said)
