"""Pictures of lossy compression: what is lost against the bits that are taken."""

from __future__ import annotations

__all__ = ["rate_distortion"]

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppl_gen.plots.style import EXACT, SERIES, describe_axes, literal, one_axes, styled

_MARKERS = "os^Dvx"


@styled
def rate_distortion(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    errors: Mapping[str, Sequence[float]] | None = None,
    marked: float | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Squared error per dimension, on a logarithmic axis, against bits per dimension.

    Args:
        curves: Points (rate, distortion) by the name of the codec.
        errors: The standard error of each distortion, by the same names; none where left out. Bars
            are two of them to either side.
        marked: A rate that a line marks; None for no line.
        title: Above the figure.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If there is nothing to draw.
    """
    if not any(curves.values()):
        raise ValueError("expected at least one curve with a point, got none")
    figure, axes = one_axes(6.0, 4.2, ax=ax)
    for number, (name, points) in enumerate(curves.items()):
        ordered = sorted(range(len(points)), key=lambda place: points[place][0])
        rates = [points[place][0] for place in ordered]
        distortions = [points[place][1] for place in ordered]
        bars = None
        if errors is not None and name in errors:
            bars = [2 * errors[name][place] for place in ordered]
        axes.errorbar(
            rates,
            distortions,
            bars,
            color=SERIES[number % len(SERIES)],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=4,
            lw=1,
            capsize=2,
            label=literal(name),
        )
    if marked is not None:
        axes.axvline(marked, color=EXACT, linestyle=":", lw=1, label=f"{marked:g} bits")
    axes.set_yscale("log")
    axes.grid(alpha=0.3, which="both")
    describe_axes(axes, "bits per dimension", "squared error per dimension")
    axes.legend()
    if title:
        axes.set_title(title)
    return figure
