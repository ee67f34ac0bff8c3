"""A toy whose evidence is known, a guide that is wrong on purpose, and missing data."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from programs import digits
from torch import Tensor, nn

from ppl_gen.likelihoods import Gaussian, Masked
from ppl_gen.models import VAE, toy
from ppl_gen.protocols import Guide


def rough(program: toy.PPCA) -> Guide:
    """A diagonal guide around a PPCA's posterior, off in location and scale."""

    def guide(x: Tensor) -> Tensor:
        posterior = program.exact_posterior(x)
        with pyro.plate("data", x.shape[0]):
            return pyro.sample(
                "z", dist.Normal(posterior.mean + 0.1, 1.5 * posterior.stddev).to_event(1)
            )

    return guide


class PartlySeen:
    """PPCA whose data lack entries (NaN), as a VAE under a masked Gaussian; all is closed.

    Args:
        ppca: W, μ and σ.
        widening: How many times wider than p(z | x observed) the guide is.
    """

    def __init__(self, ppca: toy.PPCA, widening: float = 1.0) -> None:
        self.ppca = ppca
        self.widening = widening
        size, latents = ppca.weight.shape
        decoder = nn.Linear(latents, size)
        decoder.weight.data = ppca.weight.clone()
        decoder.bias.data = ppca.loc.clone()
        likelihood = Masked(Gaussian(float(ppca.scale)))
        self.program = VAE(ppca.prior, decoder, likelihood, self.posterior)

    def posterior(self, x: Tensor) -> dist.MultivariateNormal:
        """p(z | x observed), (N,), the rows of W that belong to missing entries left out."""
        weight = torch.where(x.isnan()[..., None], 0.0, self.ppca.weight)
        residual = torch.where(x.isnan(), 0.0, x - self.ppca.loc)
        noise = self.ppca.scale.square()
        precision = torch.eye(weight.shape[-1]) + weight.mT @ weight / noise
        covariance = torch.linalg.inv(precision)
        mean = (covariance @ (weight.mT @ residual[..., None])).squeeze(-1) / noise
        scale = self.widening * torch.linalg.cholesky(covariance)
        return dist.MultivariateNormal(mean, scale_tril=scale)

    def exact_log_evidence(self, x: Tensor) -> Tensor:
        """log N(x observed; μ, WWᵀ + σ²I of the observed), (N,)."""
        covariance = self._covariance
        values = []
        for row in x:
            seen = ~row.isnan()
            if not bool(seen.any()):
                values.append(torch.zeros((), dtype=torch.float64))
                continue
            of_seen = dist.MultivariateNormal(
                self.ppca.loc[seen].double(), covariance[seen][:, seen]
            )
            values.append(of_seen.log_prob(row[seen].double()))
        return torch.stack(values)

    def exact_conditional(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and the covariance of the missing entries of one datum, given the observed."""
        seen = ~row.isnan()
        covariance = self._covariance
        across = covariance[~seen][:, seen]
        gain = torch.linalg.solve(covariance[seen][:, seen], across.mT).mT
        loc = self.ppca.loc.double()
        mean = loc[~seen] + gain @ (row[seen].double() - loc[seen])
        return mean, covariance[~seen][:, ~seen] - gain @ across.mT

    @property
    def _covariance(self) -> Tensor:
        weight = self.ppca.weight.double()
        noise = self.ppca.scale.double().square()
        return weight @ weight.mT + noise * torch.eye(len(weight), dtype=torch.float64)


def ppca() -> toy.PPCA:
    """The principal components of scikit-learn's digits: 10 latents, 64 dimensions."""
    return toy.PPCA.maximum_likelihood(digits().x.flatten(1), 10)


def exact_rate_distortion(program: toy.PPCA, x: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """KL(N(μ, Σ) ‖ N(0, I)), Σ = (I + 2βWᵀW)⁻¹, μ = 2βΣWᵀ(x − loc), and E |x − loc − Wz|²."""
    weight = program.weight.double()
    identity = torch.eye(weight.shape[1], dtype=torch.float64)
    covariance = torch.linalg.inv(identity + 2 * beta * weight.T @ weight)
    residual = (x - program.loc).double()
    mean = 2 * beta * residual @ weight @ covariance
    squares = mean.square().sum(1)
    rate = 0.5 * (covariance.trace() + squares - len(identity) - covariance.logdet())
    spread = (weight @ covariance @ weight.T).trace()
    return rate, (residual - mean @ weight.T).square().sum(1) + spread
