"""Toy models whose answers are known: latent models, posteriors of many shapes, and a game."""

if __name__ != "ppl_gen.models.toy":
    raise ImportError(
        "import ppl_gen.models.toy, not toy: the bare name makes a second copy of every class"
    )

from ppl_gen.models.toy.contract import Moments, Posterior
from ppl_gen.models.toy.geometry import Banana, Funnel
from ppl_gen.models.toy.hierarchical import EightSchools
from ppl_gen.models.toy.latent import PPCA, Curve, GaussianMixture
from ppl_gen.models.toy.line_game import LineCritic, line, line_game
from ppl_gen.models.toy.mixture import HiddenMarkov, OrderedMixture, SignFlip
from ppl_gen.models.toy.regression import LinearRegression, LogisticRegression

__all__ = [
    "PPCA",
    "Banana",
    "Curve",
    "EightSchools",
    "Funnel",
    "GaussianMixture",
    "HiddenMarkov",
    "LineCritic",
    "LinearRegression",
    "LogisticRegression",
    "Moments",
    "OrderedMixture",
    "Posterior",
    "SignFlip",
    "line",
    "line_game",
]
