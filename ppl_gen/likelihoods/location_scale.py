"""p(x | μ, s) of a location and a scale."""

from __future__ import annotations

__all__ = [
    "DiscretizedLogistic",
    "Gaussian",
    "HeteroscedasticGaussian",
    "IsotropicGaussian",
    "Laplace",
    "LogNormal",
    "StudentT",
]

import math
from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen import distributions
from ppl_gen.counts import expect_at_least, expect_number, expect_positive
from ppl_gen.likelihoods.parameters import columns_of
from ppl_gen.protocols import Distribution


class _LocationScale(nn.Module):
    """p(x | μ) = f((x − μ) / s) / s, with s fixed, or learned and shared by all values and data.

    A subclass names its family. One whose family takes more than location and scale overrides
    `forward`, as `DiscretizedLogistic` does.

    Attributes:
        family: A distribution of (loc, scale).

    Raises:
        ValueError: If a scale is not positive.
    """

    family: Callable[[Tensor, Tensor], Distribution]

    def __init__(self, scale: float | None = None, initial_scale: float = 0.5) -> None:
        super().__init__()
        for name, value in {"scale": scale, "initial_scale": initial_scale}.items():
            if value is None:
                continue
            expect_number(**{name: value})
            if not 0 < value < math.inf:
                raise ValueError(
                    f"expected a positive {name}, got {value}; leave scale out to have it learned"
                )
        if scale is None:
            self.log_scale = nn.Parameter(torch.tensor(math.log(initial_scale)))
        else:
            self.register_buffer("log_scale", torch.tensor(math.log(scale)))

    @property
    def scale(self) -> Tensor:
        """s, a positive scalar."""
        return self.log_scale.exp()

    def forward(self, loc: Tensor) -> Distribution:
        family = type(self).family  # of the class, lest a function become a bound method
        return family(loc, self.scale.to(loc.dtype))


class Gaussian(_LocationScale):
    """p(x | μ) = N(x; μ, s²), with s fixed or, when `scale` is left out, learned.

    Args:
        scale: s in the unit of x; None has it learned, one number for all values and all data.
        initial_scale: Where a learned s starts.

    Examples:
        >>> Gaussian(0.1)(torch.zeros(3)).scale
        tensor([0.1000, 0.1000, 0.1000])
        >>> [name for name, _ in Gaussian().named_parameters()]
        ['log_scale']
    """

    family = dist.Normal


class Laplace(_LocationScale):
    """p(x | μ) = exp(−|x − μ| / s) / 2s, with s fixed or, when `scale` is left out, learned.

    Args:
        scale: s in the unit of x; None has it learned, one number for all values and all data.
        initial_scale: Where a learned s starts.

    Examples:
        >>> Laplace(1.0)(torch.zeros(2)).log_prob(torch.tensor([0.0, 1.0]))
        tensor([-0.6931, -1.6931])
    """

    family = dist.Laplace


class LogNormal(_LocationScale):
    """p(x | μ) = N(log x; μ, s²) / x for x > 0, with μ the mean of log x.

    Zero is outside its support: it has no logarithm.

    Args:
        scale: s, the standard deviation of log x; None has it learned, one number for all values
            and all data.
        initial_scale: Where a learned s starts.

    Examples:
        >>> incomes = LogNormal(1.0)(torch.tensor([0.0, 1.0]))
        >>> incomes.mean  # exp(μ + 1/2)
        tensor([1.6487, 4.4817])
    """

    family = distributions.LogNormal


class StudentT(_LocationScale):
    """p(x | μ) ∝ (1 + (x − μ)²/νs²)^(−(ν+1)/2): a Gaussian with tails for outliers.

    Args:
        df: ν, the degrees of freedom: 1 is Cauchy's, many are a Gaussian. None has them learned,
            one number for all values and all data.
        scale: s in the unit of x; None has it learned, one number for all values and all data.
        initial_scale: Where a learned s starts.
        initial_df: Where a learned ν starts.

    Raises:
        ValueError: If a scale or the degrees of freedom are not positive.

    Examples:
        >>> StudentT(df=4.0, scale=1.0)(torch.zeros(1)).log_prob(torch.tensor([10.0]))
        tensor([-9.1261])
        >>> likelihoods.Gaussian(1.0)(torch.zeros(1)).log_prob(torch.tensor([10.0]))
        tensor([-50.9189])
    """

    def __init__(
        self,
        df: float | None = 4.0,
        scale: float | None = None,
        initial_scale: float = 0.5,
        initial_df: float = 4.0,
    ) -> None:
        super().__init__(scale, initial_scale)
        expect_positive(df=df, initial_df=initial_df)
        if df is None:
            self.log_df = nn.Parameter(torch.tensor(math.log(initial_df)))
        else:
            self.register_buffer("log_df", torch.tensor(math.log(df)))

    @property
    def df(self) -> Tensor:
        """ν, a positive scalar."""
        return self.log_df.exp()

    def forward(self, loc: Tensor) -> Distribution:
        return distributions.StudentT(loc, self.scale.to(loc.dtype), self.df.to(loc.dtype))


class DiscretizedLogistic(_LocationScale):
    """P(x | μ) = σ((x + δ/2 − μ)/s) − σ((x − δ/2 − μ)/s) on the grid x = 0, δ, 2δ, …, 1.

    The two ends of the grid take the mass of the tails. This is a probability mass, for images as
    stored: its nats are comparable with those of other discrete likelihoods only.

    Args:
        scale: s in the unit of x; None has it learned, one number for all values and all data.
        levels: The number of grid values, 1/δ + 1: 256 for 8-bit images, 17 for scikit-learn's
            digits.
        initial_scale: Where a learned s starts.

    Examples:
        >>> bytes_ = DiscretizedLogistic(0.1)(torch.full((3,), 0.5))
        >>> levels = bytes_.sample() * 255
        >>> bool((levels == levels.round()).all())
        True

    Reference:
        Kingma et al. (2016), Improved variational inference with inverse autoregressive flow,
        appendix.
    """

    def __init__(
        self, scale: float | None = None, levels: int = 256, initial_scale: float = 0.1
    ) -> None:
        super().__init__(scale, initial_scale)
        expect_at_least(2, levels=levels)
        self.levels = levels

    def forward(self, loc: Tensor) -> Distribution:
        return distributions.DiscretizedLogistic(loc, self.scale.to(loc.dtype), self.levels)


class HeteroscedasticGaussian(nn.Module):
    """p(x | μ, η) = N(x; μ, (s₀ + exp η)²), with μ and η for every value.

    The decoder's output is of shape (*batch, *shape, 2).

    Args:
        minimum_scale: s₀ in the unit of x. Without it the evidence would be unbounded where a value
            can be predicted exactly.

    Raises:
        ValueError: If s₀ is not positive.

    Examples:
        >>> likelihood = HeteroscedasticGaussian()
        >>> likelihood.parameters_per_value
        2
        >>> likelihood(torch.zeros(5, 3, 2)).scale.unique()  # (μ, η) of 3 values; s₀ + exp η
        tensor([1.0010])
    """

    parameters_per_value = 2

    def __init__(self, minimum_scale: float = 1e-3) -> None:
        super().__init__()
        expect_positive(minimum_scale=minimum_scale)
        self.minimum_scale = minimum_scale

    def forward(self, parameters: Tensor) -> Distribution:
        loc, log_scale = columns_of(parameters)
        return distributions.Normal(loc, self.minimum_scale + log_scale.exp())


class IsotropicGaussian(HeteroscedasticGaussian):
    """p(x | μ, η) = N(x; μ, (s₀ + exp η)² I), with μ for every value and one η for every datum.

    The decoder's output is of shape (*batch, *shape, 2), its second number the same for all values
    of a datum, as `ppl_gen.nn.Shape(shape, 1, 1)` puts it there.

    Args:
        minimum_scale: s₀ in the unit of x. Without it the evidence would be unbounded where a datum
            can be predicted exactly.

    Raises:
        ValueError: If s₀ is not positive.

    Examples:
        >>> likelihood = IsotropicGaussian()
        >>> likelihood.parameters_per_value, likelihood.parameters_per_datum
        (1, 1)
        >>> models.vae((4,), 2, likelihood=likelihood).decoder(torch.zeros(1, 2)).shape
        torch.Size([1, 4, 2])
    """

    parameters_per_value = 1
    parameters_per_datum = 1
