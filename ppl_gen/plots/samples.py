"""Pictures of samples held against data: moments, permutation tests, draws of several runs."""

from __future__ import annotations

__all__ = ["moments", "nulls", "runs"]

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ppl_gen.plots.images import image_grid, points


def moments(found: Any, title: str = "") -> Figure:
    """Each kind of moment in the data (across) and in the sample (up), those that are off at the
    level in red.
    """
    kinds = [kind for kind in found.kinds if bool(kind.counted.any())]
    figure = Figure(figsize=(2.6 * len(kinds), 2.9), layout="constrained", dpi=150)
    for i, kind in enumerate(kinds):
        axes = figure.add_subplot(1, len(kinds), i + 1)
        data, sample, z = (t[kind.counted].cpu() for t in (kind.data, kind.sample, kind.z))
        colours = ["#c0392b" if off else "#4c72b0" for off in (z.abs() > found.limit).tolist()]
        axes.scatter(data.numpy(), sample.numpy(), s=6, c=colours, alpha=0.6, linewidths=0)
        ends = torch.cat([data, sample]).aminmax()
        axes.axline((float(ends.min), float(ends.min)), slope=1, color="#888888", linewidth=0.8)
        axes.set_title(
            f"{kind.name}: {int((z.abs() > found.limit).sum())} of {len(z)} off", fontsize=8
        )
        axes.set_xlabel("data", fontsize=8)
        axes.set_ylabel("sample" if i == 0 else "", fontsize=8)
        axes.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=9)
    return figure


def nulls(tests: Mapping[str, Any], title: str = "") -> Figure:
    """For each statistic its values after permutations, and its value on the samples as they are,
    as a line.
    """
    figure = Figure(figsize=(2.6 * len(tests), 2.4), layout="constrained", dpi=150)
    for i, (name, test) in enumerate(tests.items()):
        axes = figure.add_subplot(1, len(tests), i + 1)
        axes.hist(test.null.cpu().numpy(), bins=30, color="#9aa7b8")
        axes.axvline(test.statistic, color="#c0392b")
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=6)
        axes.set_yticks([])
    figure.suptitle(f"{title}: statistic (red) and its permutations", fontsize=9)
    return figure


def runs(drawn: Mapping[str, Tensor], title: str = "") -> Figure:
    """The data and each run's draws: rows of images, or points in colours."""
    first = next(iter(drawn.values()))
    if first.dim() != 4:
        return points(drawn, title)
    columns = min(min(map(len, drawn.values())), 12)
    rows = torch.cat([images[:columns].cpu() for images in drawn.values()])
    return image_grid(rows, columns, title, list(drawn))
