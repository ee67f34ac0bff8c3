"""Pathfinder: exact where the posterior is Gaussian, fair to modes, and at home in bad places."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from scenarios import SCENARIOS, counts, walk
from torch import Tensor

from ppl_gen.inference import Pathfinder, hmc
from ppl_gen.inference.latents.pathfinder import Gaussians, _Curvature, _Walk
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.models import toy


def _gaussian(y: Tensor) -> None:
    """z | y is normal, with correlated coordinates of scales from 0.1 to 10."""
    mixing = torch.tensor([[1.0, 0.0, 0.0], [5.0, 10.0, 0.0], [0.05, 0.0, 0.1]])
    pyro.sample("z", dist.MultivariateNormal(y, scale_tril=mixing))


MEAN = torch.tensor([1.0, -2.0, 3.0])


def _paths(potential: Potential, paths: int = 4, **options: Any) -> Gaussians:
    energies, _ = potential.fastest
    walked = _Walk(energies, potential.tensors, potential.starts(paths), Pathfinder(**options))
    return walked.run()


def test_a_gaussian_posterior_is_found() -> None:
    torch.manual_seed(0)
    best = _paths(Potential(_gaussian, (MEAN,)), steps=60)
    mixing = torch.tensor([[1.0, 0.0, 0.0], [5.0, 10.0, 0.0], [0.05, 0.0, 0.1]])
    points, log_q = best.draw(4000)
    found = points.flatten(0, 2)
    n = 4000  # of each path; those of several paths only make it better
    covariance = mixing @ mixing.T
    error = covariance.diagonal().sqrt() / math.sqrt(n)
    assert bool(((found.mean(0) - MEAN).abs() < 4 * error).all())
    ratio = found.T.cov() / covariance
    assert bool((ratio - 1).abs().max() < 8 / math.sqrt(n))
    exact = dist.MultivariateNormal(MEAN, scale_tril=mixing).log_prob(found)
    assert abs(float((log_q.flatten() - exact).mean())) < 0.02  # KL, in nats


def test_densities_are_those_of_the_matrices() -> None:
    torch.manual_seed(0)
    curvature = _Curvature(torch.zeros(2, 3, 5, dtype=torch.double), 4)
    for _ in range(3):
        s = torch.randn(2, 3, 5, dtype=torch.double)
        curvature.see(s, s * torch.tensor([1.0, 2.0, 0.5, 4.0, 1.0]) + 0.1 * torch.randn_like(s))
    x, gradient = torch.randn(2, 2, 3, 5, dtype=torch.double)
    gaussians = Gaussians.at(x, gradient, curvature)
    left, middle = curvature.compact()
    dense = torch.diag_embed(curvature.diagonal) + left @ middle @ left.mT
    torch.testing.assert_close(gaussians.mean, x - (dense @ gradient[..., None])[..., 0])
    points, log_q = gaussians.draw(6)
    exact = torch.distributions.MultivariateNormal(gaussians.mean, (dense + dense.mT) / 2)
    torch.testing.assert_close(log_q, exact.log_prob(points))
    each = torch.stack(
        [
            torch.distributions.MultivariateNormal(
                gaussians.mean[i], covariance_matrix=(dense[i] + dense[i].mT) / 2
            ).log_prob(points)
            for i in range(2)
        ]
    )
    torch.testing.assert_close(gaussians.log_mixture(points), each.logsumexp(0) - math.log(2))


def test_the_last_pair_is_met() -> None:
    curvature = _Curvature(torch.zeros(1, 1, 4), 3)
    for _ in range(5):
        s = torch.randn(1, 1, 4)
        y = s * torch.tensor([1.0, 3.0, 0.3, 2.0])
        curvature.see(s, y)
    torch.testing.assert_close(curvature.times(y), s)
    before = curvature.diagonal.clone()
    curvature.see(s, -y)  # a curvature below zero says nothing
    assert torch.equal(curvature.diagonal, before)


def test_modes_count_for_their_mass_not_for_the_paths_that_end_there() -> None:
    def two(y: Tensor) -> None:
        """Modes at −3 and 3; most of [−2, 2] leads to the left one."""
        z = pyro.sample("z", dist.Normal(0.0, 10.0))
        modes = torch.stack([dist.Normal(-3.0, 1.0).log_prob(z), dist.Normal(3.0, 0.3).log_prob(z)])
        pyro.factor("modes", modes.logsumexp(0))

    torch.manual_seed(0)
    potential = Potential(two, (torch.zeros(()),))
    shares = []
    for _ in range(20):
        q = Pathfinder(paths=32).starts(potential, 64)
        shares.append((q > 0).double().mean())
    found = torch.stack(shares)
    assert abs(float(found.mean()) - 0.5) < 4 * float(found.std()) / math.sqrt(20)


def test_local_posteriors_have_paths_of_their_own() -> None:
    def each(y: Tensor) -> None:
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 0.5), obs=y)

    torch.manual_seed(0)
    y = torch.tensor([-3.0, 0.0, 5.0])
    q = Pathfinder().starts(Potential(each, (y,), local=True), 400)
    assert q.shape == (400, 3, 1)
    error = math.sqrt(0.2 / 400)
    assert float((q[..., 0].mean(0) - 0.8 * y).abs().max()) < 5 * error


def test_a_density_without_maximum_is_refused() -> None:
    def endless(y: Tensor) -> None:
        z = pyro.sample("z", dist.ImproperUniform(dist.constraints.real, (), ()))
        pyro.factor("up", z.exp())

    with pytest.raises(ValueError, match="under an improper prior"):
        Pathfinder(paths=2).starts(Potential(endless, (torch.zeros(()),)), 2)


def test_numbers_are_counts() -> None:
    with pytest.raises(ValueError, match="expected paths"):
        Pathfinder(paths=0)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [60, 200])
def test_a_random_walk_is_sampled_from_there(steps: int) -> None:
    draws = hmc(
        walk,
        counts(steps),
        init=Pathfinder(),
        draws=100,
        warmup=200,
        chains=32,
        seed=0,
        engine="fx",
    )
    assert draws.max_r_hat < 1.05


@pytest.mark.slow
def test_no_mode_of_the_ordered_mixture_is_lost() -> None:
    posterior = SCENARIOS["ordered mixture"]()
    assert isinstance(posterior, toy.OrderedMixture)
    draws = hmc(
        posterior.model,
        *posterior.data,
        init=Pathfinder(),
        draws=200,
        warmup=200,
        seed=0,
        engine="fx",
    )
    assert draws.max_r_hat < 1.02
