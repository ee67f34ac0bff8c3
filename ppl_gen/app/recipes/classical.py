"""`ppl-gen fit gaussian`, `gaussian-mixture`, `ppca` and `factor-analysis`: log p(x) is exact."""

from __future__ import annotations

__all__ = ["RECIPES"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import DATA_SET, LATENT_DIM, SEED, Option, above_zero, at_least

# Torch and Pyro are imported when a recipe is used: the help of the command is made of recipes.
if TYPE_CHECKING:
    from torch import Tensor

    from ppl_gen.app.ingredients.fitting import Fitting, Start

COMPONENTS = Option(
    name="components",
    kind=int,
    default=10,
    help="The number of Gaussians, of full covariance.",
    check=at_least(1),
)
RIDGE = Option(
    name="ridge",
    kind=float,
    default=1e-4,
    help=(
        "Added to the variance of each value, in its unit squared: some pixels never change. The "
        "least variance of the noise in factor-analysis."
    ),
    check=above_zero,
)


@dataclass(frozen=True, kw_only=True)
class _Classical:
    """What one of these models has that another has not.

    Attributes:
        name: What the user calls it.
        own: The options of its own.
        blank: A program of its form, not fitted, from the configuration and its data.
        fit: The fitted one, from the configuration and data (N, *shape).
        has_components: Whether its latent is the number of a component.
    """

    name: str
    own: tuple[Option, ...]
    blank: Callable[[Config, Any], Any]
    fit: Callable[[Config, Tensor], Any]
    has_components: bool = False


def _gaussian(config: Config, x: Tensor) -> Any:
    from ppl_gen import models

    return models.gaussian(x, ridge=config.ridge)


def _mixture(config: Config, x: Tensor) -> Any:
    from ppl_gen import models

    return models.gaussian_mixture(x, config.components, ridge=config.ridge, seed=config.seed)


def _ppca(config: Config, x: Tensor) -> Any:
    from ppl_gen import models

    return models.ppca(x, config.latent_dim)


def _factors(config: Config, x: Tensor) -> Any:
    from ppl_gen import models

    return models.factor_analysis(x, config.latent_dim, ridge=config.ridge)


def _components(config: Config, data: Any) -> Any:
    """As many standard normal components."""
    import torch

    from ppl_gen.models.classical import CovarianceMixture, expect_room_for_covariances

    count = config.values.get("components", 1)
    least = max(2, count)
    if len(data.train) < least:
        raise ValueError(
            f"expected at least {least} data for a {config.model} of {count}, got "
            f"{len(data.train)}; lower --components, or give more data"
        )
    size = math.prod(data.shape)
    expect_room_for_covariances(count, size)
    trils = torch.eye(size).repeat(count, 1, 1)
    weights = torch.ones(count) / count
    return CovarianceMixture(weights, torch.zeros(count, size), trils, data.shape)


def _factor_analysis(config: Config, data: Any) -> Any:
    """Unit noise, and factors without weight."""
    import torch

    from ppl_gen.models.classical import FactorAnalysis, expect_room_for_covariances

    size = math.prod(data.shape)
    expect_room_for_covariances(1, size)
    most = size
    if "ridge" not in config:
        most = size - 1  # what is left is one noise for all values
    if config.latent_dim > most:
        raise ValueError(
            f"expected --latent-dim from 1 to {most} for a {config.model} of data of {size} "
            f"values, got {config.latent_dim}; take fewer"
        )
    weight = torch.zeros(size, config.latent_dim)
    return FactorAnalysis(weight, torch.zeros(size), torch.ones(size), data.shape)


_MODELS = (
    _Classical(
        name="gaussian",
        own=(RIDGE,),
        blank=_components,
        fit=_gaussian,
        has_components=True,
    ),
    _Classical(
        name="gaussian-mixture",
        own=(COMPONENTS, RIDGE),
        blank=_components,
        fit=_mixture,
        has_components=True,
    ),
    _Classical(name="ppca", own=(LATENT_DIM,), blank=_factor_analysis, fit=_ppca),
    _Classical(
        name="factor-analysis",
        own=(LATENT_DIM, RIDGE),
        blank=_factor_analysis,
        fit=_factors,
    ),
)


def _at_once(start: Start) -> Fitting:
    from ppl_gen.app.ingredients.fitting import at_once

    return at_once(start)


def _recipe(place: int, model: _Classical) -> Recipe:
    """The recipe of a model that is fitted by one call."""

    def program(config: Config, data: Any, condition: Any) -> Any:
        return model.blank(config, data)

    def complete(config: Config, program: Any, data: Any) -> None:
        found = model.fit(config, data.train.fixed(config.seed).x)
        program.load_state_dict(found.state_dict(), strict=False)  # which is_complete is not of

    return Recipe(
        name=model.name,
        place=place,
        options=(*DATA_SET, *model.own, SEED),
        program=program,
        fitting=_at_once,
        complete=complete,
        explicit=True,
        exact=True,
        has_components=model.has_components,
    )


RECIPES = tuple([_recipe(60, model) for model in _MODELS])
