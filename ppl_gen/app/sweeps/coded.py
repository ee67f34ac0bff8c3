"""A VAE fitted as the third lecture does, with its data: what presets about codes begin with."""

from __future__ import annotations

__all__ = ["Coded", "coded", "coded_cell", "tile"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ppl_gen.app.sweeps.cell import Cell, Measure
from ppl_gen.app.sweeps.fits import FittedVAE, fit_vae, lecture_settings
from ppl_gen.app.sweeps.preset import Scope
from ppl_gen.data import Split, load
from ppl_gen.models import VAE

_FEW = 10_000  # training data that are searched


@dataclass(frozen=True, kw_only=True)
class Coded:
    """A VAE and the data that it was fitted to.

    Attributes:
        fitted: The VAE, with its records.
        train: The first training data, in order.
        test: The test data.
    """

    fitted: FittedVAE
    train: Split
    test: Split

    @property
    def program(self) -> VAE:
        """The VAE."""
        return self.fitted.program


def coded(
    data: str,
    root: str | None,
    *,
    latent_dim: int,
    binarize: str | None = None,
    **fitting: Any,
) -> Coded:
    """Fits a VAE to all training data, for a number of epochs.

    Args:
        data: Their name or path.
        root: Folder of torchvision's data.
        latent_dim: Dimension of z.
        binarize: How pixels are made black or white; None leaves them grey.
        **fitting: hidden, epochs, batch_size and rate of `fit_vae`.
    """
    read = load(data, root, binarize=binarize)
    assert isinstance(read.train, Split)
    fitted = fit_vae(read.train, None, latent_dim=latent_dim, **fitting)
    return Coded(fitted=fitted, train=read.train.fixed(0, _FEW), test=read.test.fixed(0))


def coded_cell(
    measure: Measure, scope: Scope, *, latent_dim: int, epochs: int, **more: Any
) -> Cell:
    """A cell of a measure that begins with `coded`.

    Args:
        measure: Of a preset.
        scope: What the preset is asked for.
        latent_dim: Dimension of z.
        epochs: Of the lecture.
        **more: Further settings.
    """
    settings: Mapping[str, Any] = {
        "data": scope.data,
        "latent_dim": latent_dim,
        **lecture_settings(scope, epochs),
        **more,
    }
    return Cell(measure=measure, settings={"seed": 0, **settings}, places=scope.places)


def tile(images: Tensor, side: int) -> Tensor:
    """A square of images (side², C, H, W) as one image (C, side H, side W).

    Args:
        images: Row by row.
        side: How many in a row.
    """
    rows = images.unflatten(0, (side, side)).permute(2, 0, 3, 1, 4)
    return rows.flatten(3, 4).flatten(1, 2)
