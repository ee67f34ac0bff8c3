"""Discrete latents summed out: by hand, in every plate, and in every estimator."""

from __future__ import annotations

import functools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ppl_gen.enumeration import is_enumerable
from ppl_gen.inference import ais, elbo, hmc, log_evidence, sbc
from ppl_gen.program import log_density

MARKED = {"enumerate": "parallel"}


class Labelled:
    """z ~ N(0, 1), k ~ Bernoulli(0.3), x ~ N(z + 2k, ½²), with a guide that leaves k out."""

    infer = MARKED

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        if x is not None:
            n = x.shape[0]
        with pyro.plate("data", n):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            k = pyro.sample("k", dist.Bernoulli(0.3), infer=self.infer)
            return pyro.sample("x", dist.Normal(z + 2 * k, 0.5), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(x / 2, 1.0))

    @staticmethod
    def exact(x: Tensor) -> Tensor:
        """log p(x), of a mixture of N(0, 1.25) and N(2, 1.25)."""
        sd = math.sqrt(1.25)
        without = math.log(0.7) + dist.Normal(0.0, sd).log_prob(x)
        return torch.logaddexp(without, math.log(0.3) + dist.Normal(2.0, sd).log_prob(x)).double()


class Unmarked(Labelled):
    infer = {}


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("particles", [(), (1,), (3,), (2, 3)])
def test_a_label_that_depends_on_a_latent(n: int, particles: tuple[int, ...]) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            k = pyro.sample("k", dist.Bernoulli(torch.sigmoid(z)))
            pyro.sample("x", dist.Normal(z + 2 * k, 0.5), obs=x)

    x = torch.randn(n)
    z = torch.randn(*particles, n)
    found = log_density(model, {"z": z}, x)
    p = torch.sigmoid(z)
    without = (1 - p).log() + dist.Normal(z, 0.5).log_prob(x)
    expected = torch.logaddexp(without, p.log() + dist.Normal(z + 2, 0.5).log_prob(x))
    torch.testing.assert_close(found.likelihood, expected)
    torch.testing.assert_close(found.prior, dist.Normal(0.0, 1.0).log_prob(z))


@pytest.mark.parametrize(("data_axis", "inner_axis"), [(-2, -1), (-1, -2), (-1, -3)])
@pytest.mark.parametrize("particles", [(), (5,)])
def test_labels_of_a_datum_and_of_its_parts(
    data_axis: int, inner_axis: int, particles: tuple[int, ...]
) -> None:
    """j of each of four data, which its z depends on; k of each of its three parts."""
    sizes = {data_axis: 4, inner_axis: 3}
    width = -min(sizes)
    both = [sizes.get(axis, 1) for axis in range(-width, 0)]
    alone = [4 if axis == data_axis else 1 for axis in range(-width, 0)]
    y = torch.randn(both)
    z = torch.randn(*particles, *alone)
    w = torch.randn(*particles, *both)
    odds = torch.tensor([0.2, 0.5, 0.3])

    def model(x: Tensor) -> None:
        inner = pyro.plate("inner", 3, dim=inner_axis)
        with pyro.plate("data", len(x), dim=data_axis):
            j = pyro.sample("j", dist.Categorical(odds))
            z = pyro.sample("z", dist.Normal(1.0 * j, 1.0))
            with inner:
                k = pyro.sample("k", dist.Bernoulli(0.3))
                w = pyro.sample("w", dist.Normal(z, 1.0))
                pyro.sample("y", dist.Normal(w + k + j, 0.5), obs=y)

    def by_datum(values: Tensor) -> Tensor:
        return values.movedim(data_axis, -1).reshape(*particles, -1, 4).sum(-2)

    found = log_density(model, {"z": z, "w": w}, torch.zeros(4))
    priors = []
    joints = []
    for j in range(3):
        own = dist.Normal(float(j), 1.0).log_prob(z) + odds[j].log()
        prior = by_datum(own) + by_datum(dist.Normal(z, 1.0).log_prob(w))
        without = math.log(0.7) + dist.Normal(w + j, 0.5).log_prob(y)
        with_k = math.log(0.3) + dist.Normal(w + 1 + j, 0.5).log_prob(y)
        priors.append(prior)
        joints.append(prior + by_datum(torch.logaddexp(without, with_k)))
    torch.testing.assert_close(found.prior, torch.stack(priors).logsumexp(0))
    torch.testing.assert_close(found.joint, torch.stack(joints).logsumexp(0))


def test_what_can_be_listed() -> None:
    assert is_enumerable(dist.Categorical(torch.ones(3)))
    assert is_enumerable(dist.OneHotCategorical(torch.ones(3)))
    assert not is_enumerable(dist.Poisson(1.0))
    assert not is_enumerable(dist.Normal(0.0, 1.0))
    assert not is_enumerable(dist.Bernoulli(torch.full((2,), 0.5)).to_event(1))


class TestEstimators:
    x = torch.linspace(-1, 3, 6)

    def test_evidence_of_a_guide_that_leaves_the_label_out(self) -> None:
        program = Labelled()
        exact = program.exact(self.x)
        weighted = log_evidence(program, None, self.x, particles=2000, seed=0)
        assert bool(((weighted.value - exact).abs() < 4 * weighted.standard_error).all())
        assert bool((elbo(program, None, self.x, seed=0).value < exact).all())
        annealed = ais(
            program, self.x, guide=program.guide, chains=16, temperatures=50, seed=0, engine="fx"
        )
        assert bool(((annealed.value - exact).abs() < 4 * annealed.standard_error).all())

    def test_a_label_that_is_not_marked_is_asked_for(self) -> None:
        for estimator in (log_evidence, elbo):
            with pytest.raises(ValueError, match=r"summed out: .*'enumerate': 'parallel'"):
                estimator(Unmarked(), None, self.x)

    @pytest.mark.slow
    def test_hmc_datum_by_datum(self) -> None:
        """E[z | x] of a mixture of two normals."""
        draws = hmc(
            Labelled().model,
            self.x,
            draws=100,
            warmup=60,
            chains=16,
            trajectory=1.5,
            local=True,
            seed=0,
            engine="fx",
        )
        assert draws.remarks == ("discrete latents summed out: k",)
        label = dist.Normal(2.0, math.sqrt(1.25)).log_prob(self.x) + math.log(0.3)
        weight = (label - Labelled.exact(self.x)).exp()
        exact = (1 - weight) * self.x * 0.8 + weight * (self.x - 2) * 0.8
        z = (draws.mean["z"] - exact) / draws.mcse["z"]
        assert float(z.abs().max()) < 4

    @pytest.mark.slow
    @pytest.mark.parametrize("program", [Labelled(), Unmarked()])
    def test_calibration_ranks_what_is_drawn(self, program: Labelled) -> None:
        sampler = functools.partial(
            hmc, local=True, draws=30, warmup=60, chains=8, trajectory=1.5, engine="fx"
        )
        calibration = sbc(program, 40, sampler=sampler, draws=19, seed=0)
        assert set(calibration.ranks) == {"z", "log p(x | z)"}
        assert calibration.passes()

    def test_calibration_of_a_guide_that_leaves_the_label_out(self) -> None:
        calibration = sbc(Labelled(), 60, draws=19, seed=0)
        assert set(calibration.ranks) == {"z", "log p(x | z)"}
        assert not calibration.passes()
