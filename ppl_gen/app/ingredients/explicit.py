"""What the recipes of all models with a likelihood and a guide share.

Torch and Pyro are imported when it is used: the help of the command is made of recipes.
"""

from __future__ import annotations

__all__ = ["by_svi", "judges", "pictures"]

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppl_gen.app.ingredients.fitting import Fitting, Start


def by_svi(start: Start) -> Fitting:
    """Fits by stochastic variational inference."""
    from ppl_gen.app.ingredients import svi

    return svi.by_svi(start)


def judges() -> Sequence[Any]:
    """The judges of a model with a likelihood and a guide."""
    from ppl_gen.app.evaluation import judges

    return judges.EXPLICIT


def pictures() -> Sequence[Callable[..., Any]]:
    """Samples, reconstructions, and the bound over the epochs."""
    from ppl_gen.app.run import pictures

    return (pictures.samples, pictures.reconstructions, pictures.training)
