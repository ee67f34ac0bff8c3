"""Pictures from arrays and records, as matplotlib figures: no global state, nothing shown or saved
by itself.
"""

from __future__ import annotations

__all__ = ["image_grid", "latent_manifold", "points", "reconstructions", "training_curve"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor


def image_grid(
    images: Tensor, columns: int = 10, title: str = "", row_labels: Sequence[str] = ()
) -> Figure:
    """Images (N, C, H, W) in [0, 1], row by row; in colour for three channels or more, else the
    first channel in grey.

    Args:
        images: What is shown; values outside [0, 1] are clipped.
        columns: The number of images in a row.
        title: Stands above.
        row_labels: Stand left of the rows.

    Raises:
        ValueError: If the images are not of shape (N, C, H, W).
    """
    if images.dim() != 4 or 0 in images.shape:
        raise ValueError(
            f"expected images (N, C, H, W), got {tuple(images.shape)}; for vectors there is "
            "points(...)"
        )
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1]
    n, channels, height, width = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    canvas = images.new_ones(rows * columns, channels, height + 1, width + 1, device="cpu")
    canvas[:n, :, :height, :width] = images.detach().cpu().clamp(0, 1)
    sheet = (
        canvas.unflatten(0, (rows, columns))
        .permute(0, 3, 1, 4, 2)
        .reshape(rows * (height + 1), columns * (width + 1), -1)
    )
    inches = 0.6
    figure = Figure(
        figsize=(inches * columns + 0.6, inches * rows * height / width + 0.5),
        layout="constrained",
        dpi=150,
    )
    axes = figure.add_subplot()
    axes.imshow(sheet.squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks(
        [(height + 1) * (i + 0.5) for i in range(len(row_labels))], row_labels, fontsize=8
    )
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    return figure


def reconstructions(data: Tensor, reconstructed: Tensor, columns: int = 12) -> Figure:
    """Rows of images, each above its reconstruction, or points joined with theirs.

    Args:
        data: (N, *shape).
        reconstructed: (N, *shape).
        columns: The number of images in a row.
    """
    if data.dim() != 4:
        return points({"data": data, "reconstruction": reconstructed}, "data and reconstructions")
    columns = min(columns, len(data))
    blank = data.new_ones(-len(data) % columns, *data.shape[1:])
    rows = zip(
        torch.cat([data, blank]).split(columns),
        torch.cat([reconstructed, blank]).split(columns),
        strict=True,
    )
    pairs = [row for both in rows for row in both]
    labels = ["data", "mean"] * (len(pairs) // 2)
    return image_grid(torch.cat(pairs), columns, "data above their reconstructions", labels)


def points(samples: Mapping[str, Tensor], title: str = "") -> Figure:
    """Scatter of each named sample (N, D): the first two coordinates, or the first and last where
    there are three.

    Args:
        samples: One colour each; vectors of any shape are flattened, and those of one coordinate
            drawn as histograms.
        title: Stands above.
    """
    figure = Figure(figsize=(4.5, 4), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    for name, sample in samples.items():
        flat = sample.detach().cpu().flatten(1).numpy()
        if flat.shape[1] == 1:
            axes.hist(flat[:, 0], bins=60, density=True, alpha=0.5, label=name)
        else:
            axes.scatter(
                flat[:, 0], flat[:, 2 if flat.shape[1] == 3 else 1], s=4, alpha=0.5, label=name
            )
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    return figure


def latent_manifold(decode: Callable[[Tensor], Tensor], side: int = 20, title: str = "") -> Figure:
    """What a decoder makes of a 2-D latent: images at a square lattice of standard normal
    quantiles.

    Args:
        decode: Maps z (N, 2) to images (N, C, H, W), for example `lambda z:
            vae.likelihood(vae.decoder(z)).mean`.
        side: The number of quantiles along each axis.
        title: Stands above.
    """
    quantiles = torch.special.ndtri((torch.arange(side) + 0.5) / side)
    z = torch.cartesian_prod(-quantiles, quantiles).flip(-1)
    with torch.no_grad():
        return image_grid(decode(z), side, title)


def training_curve(
    records: Sequence[Any], metric: str = "elbo", label: str = "ELBO, nats per datum"
) -> Figure:
    """A metric against the epoch; the axis leaves out the first tenth of the run, whose scale would
    hide the rest.

    Args:
        records: Anything with `.epoch` and `.metrics`, as `fit` returns.
        metric: The key in `.metrics`.
        label: Stands beside the axis.
    """
    figure = Figure(figsize=(5, 3), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    values = [r.metrics[metric] for r in records]
    axes.plot([r.epoch for r in records], values, marker="." if len(records) < 30 else "")
    settled = values[len(values) // 10 :]
    margin = 0.05 * (max(settled) - min(settled)) or 1.0
    axes.set_ylim(min(settled) - margin, max(settled) + margin)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    return figure
