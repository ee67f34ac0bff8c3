"""Mixtures: a draw is one of a single component, and costs no more than at K = 1."""

from __future__ import annotations

__all__ = ["GaussianMixture", "Mixture"]

import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

from ppl_gen.distributions.normal import LogScaleNormal
from ppl_gen.protocols import Distribution


class Mixture(TorchDistribution):
    """p(z) = Σₖ πₖ pₖ(z), of K components of one family.

    A draw takes an index k ~ π and then z ~ pₖ: its gradient reaches whatever pₖ depends on, where
    the family has one, and not π.

    Args:
        logits: log π but for a constant, (K, *batch), or broadcast to it.
        components: pₖ, of batch shape (K, *batch).
        chosen: From indices k, of shape (*sample, *batch), to the pₖ of that batch shape.
        batch_shape: As `.expand` gives it; *batch if None.

    Examples:
        >>> rates = torch.tensor([1.0, 5.0])
        >>> counts = Mixture(torch.zeros(2), dist.Poisson(rates), lambda k: dist.Poisson(rates[k]))
        >>> counts.mean, counts.variance  # more than Poisson's, which is the mean
        (tensor(3.), tensor(7.))
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self,
        logits: Tensor,
        components: Distribution,
        chosen: Callable[[Tensor], Distribution],
        batch_shape: Any = None,
    ) -> None:
        self.log_weights = logits.log_softmax(0)
        self.components = components
        self.chosen = chosen
        if batch_shape is None:
            batch_shape = components.batch_shape[1:]
        super().__init__(Size(batch_shape), components.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:
        return bool(self.components.has_rsample)

    @property
    def support(self) -> constraints.Constraint:
        return self.components.support

    @property
    def mean(self) -> Tensor:
        mean = self._average(self.components.mean)
        return mean.expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        """E_π Var pₖ + Var_π E pₖ."""
        centred = self.components.mean - self._average(self.components.mean)
        variance = self._average(self.components.variance + centred.square())
        return variance.expand(self.batch_shape + self.event_shape)

    def _average(self, values: Tensor) -> Tensor:
        """Σₖ πₖ vₖ, (*batch, *event), of values (K, *batch, *event)."""
        weights = self.log_weights.exp()
        weights = weights.reshape(*weights.shape, *[1] * len(self.event_shape))
        return (weights * values).sum(0)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Mixture:
        return Mixture(self.log_weights, self.components, self.chosen, batch_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self.chosen(self._indices(sample_shape)).sample()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.chosen(self._indices(sample_shape)).rsample()

    def _indices(self, sample_shape: Any) -> Tensor:
        """k ~ π, of shape (*sample, *batch)."""
        logits = self.log_weights.movedim(0, -1)
        logits = logits.expand((*self.batch_shape, len(self.log_weights)))
        return dist.Categorical(logits=logits, validate_args=False).sample(Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        events = len(self.event_shape)
        inner = len(self.components.batch_shape) - 1  # axes right of that of the components
        batch = torch.broadcast_shapes(value.shape[: value.dim() - events], self.batch_shape)
        each = value.expand(batch + self.event_shape).unsqueeze(-1 - events - inner)
        scores = self.components.log_prob(each) + self.log_weights
        return scores.logsumexp(-1 - inner)


class GaussianMixture(Mixture):
    """p(z) = Σₖ πₖ N(z; μₖ, diag exp(ηₖ)²), with draws whose gradient reaches π as well.

    Of π it is the implicit one, by the distribution functions F_d(z_d | z_<d) of the mixture:
    dz/dπ = −(∂F/∂z)⁻¹ ∂F/∂π. It is unbiased. Mass goes from one component to another through all
    that lies between, so that its noise grows with their distance.

    Args:
        loc: μ, (K, *batch, D).
        log_scale: η, of the same shape.
        logits: log π but for a constant, (K, *batch).
        batch_shape: As `.expand` gives it; *batch if None.

    Examples:
        >>> loc = torch.tensor([[-1.0], [5.0]])  # two components in one dimension
        >>> z = GaussianMixture(loc, torch.zeros(2, 1), logits=torch.tensor([0.75, 0.25]).log())
        >>> z.mean, z.rsample((5,)).shape
        (tensor([0.5000]), torch.Size([5, 1]))

    Reference:
        Figurnov, Mohamed and Mnih (2018), Implicit reparameterization gradients, section 3.3.
    """

    def __init__(
        self, loc: Tensor, log_scale: Tensor, logits: Tensor, batch_shape: Any = None
    ) -> None:
        self.loc = loc
        self.log_scale = log_scale
        components = LogScaleNormal(loc, log_scale).to_event(1)
        super().__init__(logits, components, self._gathered, batch_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> GaussianMixture:
        return GaussianMixture(self.loc, self.log_scale, self.log_weights, batch_shape)

    def by_datum(self) -> tuple[dict[str, Tensor], Callable[..., GaussianMixture]]:
        """The parameters with the batch's axes first, with what makes a mixture of them."""
        parameters = {
            "loc": self.loc.movedim(0, -2),
            "log_scale": self.log_scale.movedim(0, -2),
            "logits": self.log_weights.movedim(0, -1),
        }

        def make(loc: Tensor, log_scale: Tensor, logits: Tensor) -> GaussianMixture:
            return GaussianMixture(
                loc.movedim(-2, 0), log_scale.movedim(-2, 0), logits.movedim(-1, 0)
            )

        return parameters, make

    def _gathered(self, k: Tensor) -> Distribution:
        """N(μₖ, diag exp(ηₖ)²) for each index."""
        components = len(self.loc)
        dim = self.loc.shape[-1]
        place = k[..., None, None].expand(*k.shape, 1, dim)
        moments = []
        for each in (self.loc, self.log_scale):
            by_draw = each.movedim(0, -2).expand(*k.shape, components, dim)
            moments.append(by_draw.gather(-2, place).squeeze(-2))
        return LogScaleNormal(*moments).to_event(1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        z = super().rsample(sample_shape)
        if not (torch.is_grad_enabled() and self.log_weights.requires_grad):
            return z
        return z + self._shift(z.detach())

    def _shift(self, z: Tensor) -> Tensor:
        """Zero, with the gradient of a draw z in π: −(∂F/∂z)⁻¹ (F(z; π) − F(z))."""
        loc = self.loc.detach().movedim(0, -2)
        log_scale = self.log_scale.detach().movedim(0, -2)
        log_weights = self.log_weights.movedim(0, -1)
        standardised = (z[..., None, :] - loc) / log_scale.exp()  # (..., K, D), as all below
        log_density = -0.5 * standardised.square() - log_scale
        before = log_density.cumsum(-1) - log_density
        share = (log_weights[..., None] + before).softmax(-2)  # of k, given z_<d
        below = torch.special.ndtr(standardised)
        levels = (share * below).sum(-2)
        with torch.no_grad():
            density = (share * log_density.exp()).sum(-2) / math.sqrt(2 * math.pi)
            excess = share * (below - levels[..., None, :])
            slope = -standardised / log_scale.exp()
            jacobian = (excess.mT @ slope).tril(-1) + torch.diag_embed(density)
        change = (levels.detach() - levels)[..., None]
        return torch.linalg.solve_triangular(jacobian, change, upper=False).squeeze(-1)
