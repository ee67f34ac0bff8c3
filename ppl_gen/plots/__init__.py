"""Pictures as matplotlib figures: images and curves here; one file for each other kind."""

from ppl_gen.plots import bound, codes, evidence, games, posterior, rates, samples
from ppl_gen.plots.images import (
    canvases,
    image_grid,
    latent_manifold,
    points,
    reconstructions,
    training_curve,
)

__all__ = [
    "bound",
    "canvases",
    "codes",
    "evidence",
    "games",
    "image_grid",
    "latent_manifold",
    "points",
    "posterior",
    "rates",
    "reconstructions",
    "samples",
    "training_curve",
]
