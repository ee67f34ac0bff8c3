"""Stored data as a prior: draws by row, in plates of any size; smoothed they have a density."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from ppl_gen.likelihoods import Gaussian
from ppl_gen.models import GAN
from ppl_gen.priors import Empirical
from ppl_gen.program import Observed, log_density, simulate


class TestEmpirical:
    def test_rows_are_drawn_evenly(self) -> None:
        x, draws = torch.arange(10.0)[:, None], 20_000
        z = Empirical(x)().sample((draws,))
        assert z.shape == (draws, 1)
        shares = z.long().flatten().bincount(minlength=10) / draws
        error = (0.1 * 0.9 / draws) ** 0.5  # of a binomial share
        assert ((shares - 0.1).abs() < 4 * error).all()

    def test_moments_are_those_of_the_data(self) -> None:
        x = torch.randn(50, 3)
        prior = Empirical(x, jitter=0.5)()
        z = prior.sample((20_000,))
        variance = x.var(0, correction=0) + 0.25
        assert torch.allclose(prior.mean, x.mean(0))
        assert torch.allclose(prior.variance, variance)
        mean_error = (variance / 20_000).sqrt()
        assert ((z.mean(0) - prior.mean).abs() < 4 * mean_error).all()
        fourth = (z - z.mean(0)).pow(4).mean(0)
        variance_error = ((fourth - variance.square()) / 20_000).sqrt()
        assert ((z.var(0) - variance).abs() < 4 * variance_error).all()

    def test_in_plates(self) -> None:
        prior = Empirical(torch.rand(5, 1, 4, 4))()
        assert (prior.batch_shape, prior.event_dim) == ((), 3)
        with pyro.plate("particles", 6, dim=-2), pyro.plate("data", 7):
            z = pyro.sample("z", prior)
        assert z.shape == (6, 7, 1, 4, 4)

    def test_the_data_move_with_the_module_and_stay_out_of_checkpoints(self) -> None:
        prior = Empirical(torch.rand(5, 2))
        assert not prior.state_dict()
        assert prior.double()().sample((3,)).dtype == torch.float64

    def test_a_translator_is_a_program(self) -> None:
        x = torch.rand(20, 1, 4, 4)
        program = GAN(Empirical(x), nn.Conv2d(1, 1, 1))
        assert simulate(program, 9).shape == (9, 1, 4, 4)
        trace = poutine.trace(program.model).get_trace(None, n=9)
        z = trace.nodes["z"]["value"]
        assert all(any(torch.equal(row, one) for one in x) for row in z)
        assert torch.equal(trace.nodes["x"]["value"], program.decoder(z))

    def test_stored_points_say_that_they_have_no_density(self) -> None:
        with pytest.raises(
            NotImplementedError, match=r"no density: judge what is drawn .*jitter=0.1"
        ):
            Empirical(torch.rand(5, 2))().log_prob(torch.rand(2))

    @pytest.mark.parametrize("batch", [(), (4,), (3, 4)])
    def test_smoothed_density(self, batch: tuple[int, ...]) -> None:
        x, z = torch.randn(30, 2, 3).double(), torch.randn(*batch, 2, 3).double()
        kernels = dist.Normal(x, 0.3).to_event(2)
        mixture = dist.MixtureSameFamily(dist.Categorical(logits=torch.zeros(30).double()), kernels)
        prior = Empirical(x, jitter=0.3)().expand(batch)
        assert torch.allclose(prior.log_prob(z), mixture.log_prob(z))

    def test_a_smoothed_prior_scores(self) -> None:
        program = Observed(
            GAN(Empirical(torch.rand(9, 2), jitter=0.1), nn.Linear(2, 2)), Gaussian(0.1)
        )
        scored = log_density(program.model, {"z": torch.rand(6, 5, 2)}, torch.rand(5, 2))
        assert scored.joint.shape == (6, 5)

    @pytest.mark.parametrize(
        ("attempt", "said"),
        [
            (
                lambda: Empirical(torch.rand(5)),
                r"data \(N, \*shape\) of a floating dtype, got torch.float32 of shape \(5,\)",
            ),
            (lambda: Empirical(torch.ones(5, 2).long()), r"got torch.int64 of shape \(5, 2\)"),
            (lambda: Empirical(torch.rand(0, 2)), r"of shape \(0, 2\)"),
            (
                lambda: Empirical(torch.rand(5, 2), jitter=0.0),
                r"positive, finite jitter, got 0.0; leave it out",
            ),
        ],
    )
    def test_bad_input(self, attempt: Callable[[], Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            attempt()
