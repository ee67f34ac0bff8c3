"""Pictures of codes: ellipses have the posterior's axes, maps its averages, GIFs all frames."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from PIL import Image

from ppl_gen.plots.codes import animation, error_map, latents, roc_curves, scatters
from ppl_gen.plots.style import one_axes


def test_an_ellipse_is_one_standard_deviation() -> None:
    mean = torch.tensor([[1.0, 2.0], [-3.0, 0.0]])
    covariance = torch.tensor([[[4.0, 1.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 9.0]]])
    figure = latents(mean, covariance, torch.tensor([0, -1]), ["zero"])
    (lines,) = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    for segment, centre, matrix in zip(lines.get_segments(), mean, covariance, strict=True):
        offset = torch.as_tensor(segment).float() - centre
        squared = (offset @ torch.linalg.inv(matrix) * offset).sum(1)
        torch.testing.assert_close(squared, torch.ones(len(offset)), atol=1e-4, rtol=0)


def test_an_ellipsoid_has_three_ellipses() -> None:
    mean = torch.randn(5, 3)
    figure = latents(mean, torch.eye(3).expand(5, 3, 3), torch.arange(5))
    figure.canvas.draw()
    lines = figure.axes[0].collections[1]
    assert len(lines.get_colors()) == 15


def test_panels_have_one_scale() -> None:
    mean = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    parts = {"early": (mean / 10, None), "late": (mean, torch.arange(30) % 3 - 1)}
    figure = scatters(parts, "both")
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim() == second.get_ylim()
    assert len(first.collections[0].get_offsets()) == 30
    with pytest.raises(ValueError, match="codes of 2 dimensions"):
        scatters({"flat": (mean[:, :1], None)})


def test_an_error_map_is_an_average() -> None:
    mean = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    figure = error_map(mean, 2 + mean[:, 0], line=mean[:2])
    (mesh,) = [c for c in figure.axes[0].collections if hasattr(c, "get_coordinates")]
    values = np.ma.masked_invalid(mesh.get_array())
    across = values.mean(0)
    steps = np.diff(across.compressed())
    assert steps.mean() > 0
    flat = error_map(mean, torch.full((400,), 3.0))
    (mesh,) = [c for c in flat.axes[0].collections if hasattr(c, "get_coordinates")]
    assert np.nanmax(np.abs(mesh.get_array() - 3.0)) < 1e-6


def test_an_animation_has_all_frames() -> None:
    figures = []
    for k in range(3):
        figure, axes = one_axes(2, 2)
        axes.plot([0, k + 1])
        axes.set_ylim(0, 3)
        figures.append(figure)
    held = Image.open(io.BytesIO(animation(figures, seconds=0.2)))
    assert held.n_frames == 3
    with pytest.raises(ValueError, match="figures of at least 1"):
        animation([])


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="codes of 2 or 3 dimensions, got shape"):
        latents(torch.randn(4, 5))
    with pytest.raises(ValueError, match="expected 4 labels"):
        latents(torch.randn(4, 2), labels=torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="expected 4 errors"):
        error_map(torch.randn(4, 2), torch.zeros(3))
    assert len(roc_curves({"a": (torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))}).axes) == 1
