"""Pictures of samples held against data: moments, permutation tests, draws of several runs."""

from __future__ import annotations

__all__ = ["criticism", "moments", "nulls", "runs"]

import re
from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ppl_gen.plots.images import image_grid, points
from ppl_gen.plots.style import FAINT, SERIES, literal, panels, styled

_FINE = SERIES[0]
_OFF = SERIES[2]
_MOST_COLUMNS = 12
_WIDEST = 14.0  # inches
_MOST_TICKS = 60


@styled
def moments(found: Any, title: str = "", ax: Axes | None = None) -> Figure:
    """Each kind of moment in the data (across) and in the sample (up); what is off in red.

    Args:
        found: What `ppl_gen.inference.moments` returns.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.
    """
    kinds = [kind for kind in found.kinds if bool(kind.counted.any())]
    figure, axes = panels(len(kinds), width=2.6, height=2.9, most_across=len(kinds), ax=ax)
    for panel, kind in zip(axes, kinds, strict=True):
        _scatter_moments(panel, kind, found.limit)
        if panel is axes[0]:
            panel.set_ylabel("sample")
    figure.suptitle(title)
    return figure


def _scatter_moments(axes: Any, kind: Any, limit: float) -> None:
    """One kind of moment; those whose z is beyond the limit in red."""
    data = kind.data[kind.counted].cpu()
    sample = kind.sample[kind.counted].cpu()
    off = kind.z[kind.counted].cpu().abs() > limit
    colours = [_OFF if one else _FINE for one in off.tolist()]
    axes.scatter(data.numpy(), sample.numpy(), s=6, c=colours, alpha=0.6, linewidths=0)
    lowest = float(torch.cat([data, sample]).min())
    axes.axline((lowest, lowest), slope=1, color=FAINT, linewidth=0.8)
    axes.set_title(f"{kind.name}: {int(off.sum())} of {len(off)} off")
    axes.set_xlabel("data")


@styled
def nulls(tests: Mapping[str, Any], title: str = "", ax: Axes | None = None) -> Figure:
    """Each statistic after permutations, and on the samples as they are, as a line.

    Args:
        tests: What `ppl_gen.inference.two_sample_test` returns, by the name of the statistic.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.
    """
    figure, axes = panels(len(tests), width=2.6, height=2.4, most_across=len(tests), ax=ax)
    for panel, (name, test) in zip(axes, tests.items(), strict=True):
        panel.hist(test.null.cpu().numpy(), bins=30, color=FAINT)
        panel.axvline(test.statistic, color=_OFF)
        panel.set_title(literal(name))
        panel.tick_params(labelsize=6)
        panel.set_yticks([])
    said = "statistic (red) and its permutations"
    if title:
        said = f"{title}: {said}"
    figure.suptitle(said)
    return figure


@styled
def runs(drawn: Mapping[str, Tensor], title: str = "", ax: Axes | None = None) -> Figure:
    """The data and each run's draws: rows of images, or points in colours.

    Args:
        drawn: Images (N, C, H, W), or vectors of any other shape, by the name of the run.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.
    """
    first = next(iter(drawn.values()))
    if first.dim() != 4:
        return points(drawn, title, ax=ax)
    fewest = min(len(images) for images in drawn.values())
    columns = min(fewest, _MOST_COLUMNS)
    rows = torch.cat([images[:columns].cpu() for images in drawn.values()])
    return image_grid(rows, columns, title, list(drawn), ax)


@styled
def criticism(found: Any, title: str = "", ax: Axes | None = None) -> Figure:
    """z of means and of spreads, of each feature (across) in each group (down); dots where found.

    Args:
        found: What `ppl_gen.inference.criticise` returns.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.
    """
    kinds = ("mean", "spread")
    shown = [difference for difference in found.differences if difference.kind in kinds]
    groups = sorted({difference.group for difference in shown}, key=_in_order)
    features = list(dict.fromkeys(sorted((d.feature for d in shown), key=_in_order)))
    z = torch.full((len(kinds), len(groups), len(features)), torch.nan)
    places = []
    is_found = set(found.found)
    for difference in shown:
        row = groups.index(difference.group)
        column = features.index(difference.feature)
        kind = kinds.index(difference.kind)
        z[kind, row, column] = difference.z
        if difference in is_found:
            places.append((kind, row, column))
    largest = float(z.nan_to_num().abs().max())
    width = min(max(2.6, 0.22 * len(features)), _WIDEST)
    figure, axes = panels(
        len(kinds), width=width, height=1.6 + 0.16 * len(groups), most_across=1, ax=ax
    )
    for number, panel in enumerate(axes):
        image = panel.imshow(
            z[number].numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto"
        )
        dots = [place for place in places if place[0] == number]
        panel.plot([dot[2] for dot in dots], [dot[1] for dot in dots], "k.", markersize=4)
        panel.set_yticks(range(len(groups)), list(map(literal, groups)), fontsize=7)
        panel.set_title(f"{kinds[number]}: draws − data, in standard errors")
        panel.set_xticks([])
        if number == len(kinds) - 1 and len(features) <= _MOST_TICKS:
            panel.set_xticks(
                range(len(features)), list(map(literal, features)), fontsize=6, rotation=90
            )
        figure.colorbar(image, ax=panel, pad=0.01)
    figure.suptitle(title)
    return figure


def _in_order(name: str) -> list[tuple[bool, int, str]]:
    """A name cut into words and numbers, by which "class 10" comes after "class 9"."""
    keys = []
    for part in re.findall(r"\d+|\D+", name):
        number = 0
        if part.isdecimal():
            number = int(part)
        keys.append((part.isdecimal(), number, part))
    return keys
