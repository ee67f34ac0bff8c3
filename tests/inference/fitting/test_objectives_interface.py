"""Objectives as Pyro's: what takes them, what they are called, and what they say of bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs import PROGRAMS, TwoLayers
from pyro.infer import ELBO, SVI
from pyro.optim import ClippedAdam
from torch import Tensor, nn

from ppl_gen.guides import DiagonalGaussian
from ppl_gen.inference import svi_step
from ppl_gen.inference.fitting.objectives import IWAE, DReG, FreeBits, StickingTheLanding, annealed
from ppl_gen.models import VAE, toy
from ppl_gen.priors import StandardNormal

OBJECTIVES = [IWAE(3), DReG(3), StickingTheLanding(), FreeBits(0.1)]


class TestInterface:
    @pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
    def test_pyro_s_svi_takes_it(self, objective: ELBO) -> None:
        program = VAE(
            StandardNormal(2),
            nn.Linear(2, 4),
            lambda loc: dist.Normal(loc, 1.0),
            DiagonalGaussian(nn.Linear(4, 4)),
        )
        x = torch.randn(20, 4)
        before = objective.loss(program.model, program.guide, x)
        svi = SVI(program.model, program.guide, ClippedAdam({"lr": 0.05}), loss=objective)
        for _ in range(100):
            svi.step(x)
        assert objective.loss(program.model, program.guide, x) < before - 1
        torch.manual_seed(1)
        evaluated = svi.evaluate_loss(x)
        torch.manual_seed(1)
        assert evaluated == pytest.approx(objective.loss(program.model, program.guide, x))

    def test_what_is_no_elbo_is_not_called_one(self) -> None:
        program, x, _ = PROGRAMS["vae"]()
        names = []
        for objective in OBJECTIVES:
            step = svi_step(program, torch.optim.SGD(program.parameters(), 0.0), objective)
            names.append(set(step(x)) - {"gradient_norm"})
        assert names == [{"iwae"}, {"iwae"}, {"elbo"}, {"objective"}]

    def test_nothing_but_the_call_itself_is_seen_by_batch_norm(self) -> None:
        encoder = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        program = VAE(
            StandardNormal(2),
            nn.Linear(2, 4),
            lambda loc: dist.Normal(loc, 1.0),
            DiagonalGaussian(encoder),
        )
        IWAE(2).loss(program.model, program.guide, torch.randn(5, 4))
        assert int(encoder[1].num_batches_tracked) == 1

    def test_the_second_program_is_checked_like_the_first(self) -> None:
        objective = IWAE(2)
        program = VAE(
            StandardNormal(2),
            nn.Linear(2, 4),
            lambda loc: dist.Normal(loc, 1.0),
            DiagonalGaussian(nn.Linear(4, 4)),
        )
        objective.loss(program.model, program.guide, torch.randn(5, 4))
        mixture = toy.GaussianMixture(torch.ones(3), torch.randn(3, 2), 0.5)
        with pytest.raises(ValueError, match="reparameterised draws"):
            objective.loss(mixture.model, mixture.guide, torch.randn(4, 2))

    def test_a_schedule_rises_and_stays(self) -> None:
        assert [annealed(4, 0.2, 1.0)(t) for t in (0, 2, 4, 9)] == pytest.approx(
            [0.2, 0.6, 1.0, 1.0]
        )
        cyclical = annealed(8, cycles=2, rise=0.5)
        assert [cyclical(t) for t in range(9)] == pytest.approx([0, 0.5, 1, 1, 0, 0.5, 1, 1, 1])


def _discrete() -> Any:
    program = toy.GaussianMixture(torch.ones(3), torch.randn(3, 2), 0.5)
    return IWAE(2).loss(program.model, program.guide, torch.randn(4, 2))


def _other_sites() -> Any:
    def guide(x: Tensor) -> None:
        pyro.sample("z1", dist.Normal(torch.zeros(len(x), 3), 1.0).to_event(2))

    return IWAE(2).loss(TwoLayers().model, guide, torch.zeros(4, 64))


def _outside() -> Any:
    def model(x: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    return IWAE(2).loss(model, lambda x: pyro.sample("z", dist.Normal(0.0, 1.0)), torch.zeros(4))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: IWAE(0), "num_particles of at least 1, got 0"),
        (lambda: FreeBits(-1.0), "free nats of at least 0, got -1.0"),
        (lambda: annealed(0), "steps of at least 1, got 0"),
        (lambda: annealed(5, -1.0), "finite β of at least 0"),
        (lambda: annealed(5, rise=0.0), "rise above 0"),
        (_discrete, "reparameterised draws of 'z' for IWAE, got Categorical"),
        (_other_sites, r"model's latent sites \['z1', 'z2'\], got \['z1'\]"),
        (_outside, "outside it"),
    ],
)
def test_bad_input(wrong: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
