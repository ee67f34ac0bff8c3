"""Pictures from arrays and records: matplotlib figures that are neither shown nor saved."""

from __future__ import annotations

__all__ = [
    "canvases",
    "image_grid",
    "latent_manifold",
    "points",
    "reconstructions",
    "training_curve",
]

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from ppl_gen.arguments import expect_tensor
from ppl_gen.counts import expect_at_least
from ppl_gen.memory import SINGLE, expect_memory
from ppl_gen.plots.bound import zoom
from ppl_gen.plots.style import array, literal, one_axes, styled

_CELL = 0.6  # inches that an image is wide
_CELL_PIXELS = 90  # that it is wide on the picture
_LONG = 8  # times its shorter side, the longest that an image is drawn
_MOST_SIDE = 256  # pixels of an image that is drawn
_MOST_VALUES = 2**25  # of all images together
_FEW_RECORDS = 30  # below which each is marked by a dot
_MISSING = (0.35, 0.6, 0.85)  # the colour of a pixel that is NaN, a blue


@styled
def image_grid(
    images: Tensor,
    columns: int = 10,
    title: str = "",
    row_labels: Sequence[str] = (),
    ax: Axes | None = None,
) -> Figure:
    """Images (N, C, H, W) in [0, 1], row by row.

    Three channels or more are shown in colour, by the first three; fewer in grey, by the first.
    Pixels that are missing, NaN, are blue. Images above 256 pixels a side are drawn smaller, and
    very narrow ones wider than they are.

    Args:
        images: What is shown, (N, C, H, W); values outside [0, 1] are clipped.
        columns: The number of images in a row.
        title: Stands above.
        row_labels: Stand left of the rows.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If the images are not of shape (N, C, H, W).

    Examples:
        >>> digits = data.load("digits")
        >>> figure = image_grid(digits.test.x[:20], columns=10, title="digits")
        >>> figure.axes[0].get_title()
        'digits'
        >>> figure.savefig("digits.png")  # doctest: +SKIP
    """
    expect_tensor("images", images)
    if images.dim() != 4 or 0 in images.shape:
        raise ValueError(
            f"expected images (N, C, H, W), got {tuple(images.shape)}; for vectors there is "
            "points(...)"
        )
    expect_at_least(1, columns=columns)
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    images = _drawable(images)
    height, width = images.shape[2:]
    figure, axes = one_axes(_CELL * columns + 0.6, _CELL * rows * height / width + 0.5, ax=ax)
    sheet = _sheet(images, rows, columns)
    axes.imshow(array(sheet), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title)
    axes.set_xticks([])
    middles = [(height + 1) * (row + 0.5) for row in range(len(row_labels))]
    axes.set_yticks(middles, list(map(literal, row_labels)))
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    return figure


def _drawable(images: Tensor) -> Tensor:
    """Images (N, C, H, W) as large as a picture can show, their sides at most `_LONG` to one.

    They are shrunk by averages over areas, and very narrow ones made wider.
    """
    n, channels, *sides = images.shape
    most = min(_MOST_SIDE, max(_CELL_PIXELS, math.isqrt(_MOST_VALUES // (n * channels))))
    longest = max(sides)
    scale = min(1.0, most / longest)
    least = math.ceil(scale * longest / _LONG)
    shown = [max(least, round(scale * side)) for side in sides]
    if shown == sides:
        return images
    return F.adaptive_avg_pool2d(images.detach().cpu().float(), (shown[0], shown[1]))


def _sheet(images: Tensor, rows: int, columns: int) -> Tensor:
    """All images in one, with white lines between them.

    It is of shape (height, width, 3) in colour, and (height, width) in grey with nothing missing.
    """
    shown = images[:, :3]
    if images.shape[1] < 3:
        shown = images[:, :1]
    is_missing = shown.isnan().any(1, keepdim=True)
    if bool(is_missing.any()):
        blue = shown.new_tensor(_MISSING)[:, None, None]
        shown = torch.where(is_missing, blue, shown)
    n, channels, height, width = shown.shape
    cells = shown.new_ones(rows * columns, channels, height + 1, width + 1, device="cpu")
    cells[:n, :, :height, :width] = shown.detach().cpu().clamp(0, 1)
    cells = cells.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2)
    return cells.reshape(rows * (height + 1), columns * (width + 1), channels).squeeze(-1)


@styled
def reconstructions(
    data: Tensor, reconstructed: Tensor, columns: int = 12, ax: Axes | None = None
) -> Figure:
    """Rows of images, each above its reconstruction, or points beside theirs.

    Args:
        data: (N, *shape).
        reconstructed: (N, *shape).
        columns: The number of images in a row.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Examples:
        >>> from ppl_gen.program import reconstruct
        >>> digits = data.load("digits").test.x[:6]
        >>> vae = models.vae((1, 8, 8), latent_dim=2)
        >>> figure = reconstructions(digits, reconstruct(vae, digits))
        >>> len(figure.axes)
        1
    """
    if data.dim() != 4:
        return points(
            {"data": data, "reconstruction": reconstructed}, "data and reconstructions", ax=ax
        )
    expect_at_least(1, columns=columns)
    columns = min(columns, len(data))
    blank = data.new_ones(-len(data) % columns, *data.shape[1:])
    originals = torch.cat([data, blank]).split(columns)
    copies = torch.cat([reconstructed, blank]).split(columns)
    rows: list[Tensor] = []
    for original, copy in zip(originals, copies, strict=True):
        rows += [original, copy]
    labels = ["data", "mean"] * len(originals)
    return image_grid(torch.cat(rows), columns, "data above their reconstructions", labels, ax)


@styled
def canvases(pictures: Tensor, title: str = "", ax: Axes | None = None) -> Figure:
    """Pictures as they are drawn: a row for each, from its first step to its last.

    Args:
        pictures: Each canvas after each step, (T, N, C, H, W); values outside [0, 1] are clipped.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If the pictures are not of shape (T, N, C, H, W).

    Examples:
        >>> figure = canvases(torch.rand(3, 5, 1, 8, 8), title="five steps of three pictures")
        >>> figure.axes[0].get_title()
        'five steps of three pictures'
    """
    expect_tensor("pictures", pictures)
    if pictures.dim() != 5 or 0 in pictures.shape:
        raise ValueError(
            f"expected pictures after each step (T, N, C, H, W), got {tuple(pictures.shape)}; "
            "`DRAW.canvases` makes them of images"
        )
    steps = pictures.shape[0]
    return image_grid(pictures.transpose(0, 1).flatten(0, 1), steps, title, ax=ax)


@styled
def points(
    samples: Mapping[str, Tensor],
    title: str = "",
    names: Sequence[str] = (),
    ax: Axes | None = None,
) -> Figure:
    """Scatter of each named sample (N, D): the first two coordinates, or first and last of three.

    Args:
        samples: One colour each; vectors of any shape are flattened, and those of one coordinate
            drawn as histograms.
        title: Stands above.
        names: Of the D coordinates, which stand beside the axes; none if left out.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Examples:
        >>> x, _ = data.ring(500, seed=0)
        >>> figure = points({"data": x, "noise": torch.randn(500, 2)})
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['data', 'noise']
    """
    shown: list[int] = []
    figure, axes = one_axes(4.5, 4, ax=ax)
    for name, sample in samples.items():
        expect_tensor(name, sample)
        flat = array(sample.flatten(1))
        size = flat.shape[1]
        shown = [0]
        if size == 1:
            axes.hist(flat[:, 0], bins=60, density=True, alpha=0.5, label=literal(name))
            continue
        second = 1
        if size == 3:
            second = 2
        shown = [0, second]
        axes.scatter(flat[:, 0], flat[:, second], s=4, alpha=0.5, label=literal(name))
    if names:
        for label, column in zip((axes.set_xlabel, axes.set_ylabel), shown, strict=False):
            label(literal(names[column]))
    axes.set_title(title)
    axes.legend()
    return figure


@styled
def latent_manifold(
    decode: Callable[[Tensor], Tensor], side: int = 20, title: str = "", ax: Axes | None = None
) -> Figure:
    """Decoded images at a square lattice of standard normal quantiles of a 2-D latent.

    Args:
        decode: Maps z (N, 2) to images (N, C, H, W), for example `lambda z:
            vae.likelihood(vae.decoder(z)).mean`.
        side: The number of quantiles along each axis.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Examples:
        >>> vae = models.vae((1, 8, 8), latent_dim=2)
        >>> figure = latent_manifold(lambda z: vae.likelihood(vae.decoder(z)).mean, side=5)
        >>> len(figure.axes)
        1
    """
    expect_memory(f"{side} × {side} images", 2 * SINGLE * side**2, "take a smaller side")
    quantiles = torch.special.ndtri((torch.arange(side) + 0.5) / side)
    z = torch.cartesian_prod(-quantiles, quantiles).flip(-1)
    with torch.no_grad():
        return image_grid(decode(z), side, title, ax=ax)


@styled
def training_curve(
    records: Sequence[Any],
    metric: str = "elbo",
    label: str = "ELBO, nats per datum",
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """A metric against the epoch.

    The axis leaves out the first tenth of the run, whose scale would hide the rest.

    Args:
        records: Anything with `.epoch` and `.metrics`, as `fit` returns.
        metric: The key in `.metrics`.
        label: Stands beside the axis.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Examples:
        >>> from ppl_gen.inference import iterate, svi_step
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> step = svi_step(vae, torch.optim.Adam(vae.parameters(), 1e-3))
        >>> records = list(iterate(step, [(torch.ones(20, 4),)], epochs=3))
        >>> training_curve(records).axes[0].get_ylabel()
        'ELBO, nats per datum'
    """
    figure, axes = one_axes(5, 3, ax=ax)
    epochs = [record.epoch for record in records]
    values = [record.metrics[metric] for record in records]
    marker = "." if len(records) < _FEW_RECORDS else ""
    axes.plot(epochs, values, marker=marker)
    zoom(axes, torch.tensor(values, dtype=torch.float64))
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    return figure
