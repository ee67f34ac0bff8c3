"""Pictures of what a fit is validated by, epoch by epoch: the bound and its terms, or an error."""

from __future__ import annotations

__all__ = ["terms", "zoom"]

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ppl_gen.plots.style import EXACT, GUIDE, MCMC, array, panels, styled

# By the name of a term in the metrics of an epoch: what stands above its panel.
_TERMS = {
    "elbo": "ELBO",
    "log_likelihood": "reconstruction: E[log p(x | z)]",
    "kl": "KL(q(z | x) ‖ p(z))",
    "squared_distance": "‖x̂ − x‖²",
}
_UNITS = {"squared_distance": "squared error per datum"}  # of the others, nats per datum
_PARTS = {"train": ("training", MCMC), "validation": ("held out", GUIDE)}
_FEW_RECORDS = 30  # below which each is marked by a dot


@styled
def terms(records: Sequence[Any], best: int | None = None, ax: Axes | None = None) -> Figure:
    """ELBO, reconstruction log-likelihood and KL against the epoch, for training and held-out data.

    Of autoencoders, whose fit `ReconstructionValidation` measures, it is the squared error.

    Bands are one standard error of the average over data to both sides. The axes leave out the
    first tenth of the run, whose scale would hide the rest.

    Args:
        records: Anything with `.epoch` and `.metrics`, as `fit(..., validation=...)` returns: with
            `validation_elbo`, `validation_kl` and so on, and `train_elbo` where it was measured.
        best: The epoch whose weights were kept, which a line marks; None for no line.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If there are no records, or one has no such metrics.
    """
    known: Sequence[str] = ()
    if records:
        known = list(records[0].metrics)
    shown = {term: title for term, title in _TERMS.items() if f"validation_{term}" in known}
    if not shown:
        raise ValueError(
            "expected records of a fit with validation, got none of its metrics; say "
            "fit(..., validation=Validation(...))"
        )
    parts = [part for part in _PARTS if f"{part}_{next(iter(shown))}" in known]
    figure, axes = panels(len(shown), width=3.6, height=2.8, ax=ax)
    epochs = [record.epoch for record in records]
    marker = "." if len(records) < _FEW_RECORDS else ""
    for panel, (term, title) in zip(axes, shown.items(), strict=True):
        seen = []
        for part in parts:
            name, colour = _PARTS[part]
            values = _column(records, f"{part}_{term}")
            errors = _column(records, f"{part}_{term}_error")
            panel.plot(epochs, array(values), color=colour, marker=marker, label=name)
            low, high = values - errors, values + errors
            panel.fill_between(epochs, array(low), array(high), color=colour, alpha=0.15, lw=0)
            seen.append(values)
        if best is not None:
            panel.axvline(best, color=EXACT, linestyle=":", lw=1, label=f"kept: epoch {best}")
        zoom(panel, torch.stack(seen))
        panel.set_xlabel("epoch")
        panel.set_ylabel(_UNITS.get(term, "nats per datum"))
        panel.set_title(title)
        panel.grid(alpha=0.3)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes[0].legend()
    return figure


def zoom(axes: Any, curves: Tensor) -> None:
    """Has the vertical axis leave out the first tenth of curves.

    Args:
        axes: Of the curves.
        curves: Their values, (..., epochs); those that are not finite are left out.
    """
    settled = curves[..., curves.shape[-1] // 10 :]
    settled = settled[settled.isfinite()]
    if not len(settled):
        return
    lowest = float(settled.min())
    highest = float(settled.max())
    margin = 0.05 * (highest - lowest) or 1.0
    axes.set_ylim(lowest - margin, highest + margin)


def _column(records: Sequence[Any], name: str) -> Tensor:
    """A metric of all records; NaN where one has no such number."""
    values = [record.metrics.get(name, torch.nan) for record in records]
    return torch.tensor(values, dtype=torch.float64)
