"""Objectives against the bounds and gradients that they promise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs import PROGRAMS, TwoLayers
from pyro import poutine
from pyro.infer import ELBO, SVI, RenyiELBO, Trace_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor, nn

from ppl_gen.guides import DiagonalGaussian
from ppl_gen.inference import elbo, log_evidence, svi_step
from ppl_gen.inference.objectives import IWAE, DReG, FreeBits, StickingTheLanding, annealed
from ppl_gen.models import VAE, toy, vae
from ppl_gen.priors import StandardNormal
from ppl_gen.program import log_density, simulate

N = 40


class Shifted(nn.Module):
    """A guide around a PPCA's posterior: a little off in location and scale, with a parameter for each."""

    def __init__(self, program: toy.PPCA, offset: float = 0.1, scale: float | None = 0.5) -> None:
        super().__init__()
        self.program = [program]
        self.loc, self.log_scale = nn.Parameter(torch.tensor(offset)), nn.Parameter(torch.zeros(()))
        self.fixed = scale

    def forward(self, x: Tensor) -> Tensor:
        posterior = self.program[0].exact_posterior(x)
        with pyro.plate("data", x.shape[0]):
            if self.fixed is None:
                tril = posterior.scale_tril * self.log_scale.exp()
                return pyro.sample("z", dist.MultivariateNormal(posterior.mean + self.loc, scale_tril=tril))
            return pyro.sample(
                "z", dist.Normal(posterior.mean + self.loc, self.fixed * self.log_scale.exp()).to_event(1)
            )


@pytest.fixture
def ppca() -> tuple[toy.PPCA, Tensor]:
    program = toy.PPCA(torch.randn(8, 3), torch.zeros(8), 0.7)
    return program, simulate(program, N)


def average(objective: ELBO, model: Any, guide: Any, x: Tensor, repeats: int = 100) -> tuple[float, float]:
    """−loss per datum, with the standard error over repeats."""
    values = torch.tensor([-objective.loss(model, guide, x) / len(x) for _ in range(repeats)], dtype=torch.float64)
    return float(values.mean()), float(values.std()) / repeats**0.5


def gradients(
    objective: ELBO, model: Any, guide: Any, x: Tensor, parameters: list[Tensor], repeats: int = 300
) -> Tensor:
    """(repeats, number of parameters)."""
    draws = []
    for _ in range(repeats):
        loss = objective.differentiable_loss(model, guide, x)
        draws.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    return torch.stack(draws).double()


class TestBounds:
    def test_more_particles_are_tighter_and_below_the_exact_evidence(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        curve = toy.Curve(lambda z: torch.cat([z, z.square() / 2], -1), 0.5)
        points = simulate(curve, N)

        def rough(x: Tensor) -> None:
            with pyro.plate("data", x.shape[0]):
                pyro.sample("z", dist.Normal(0.8 * x[:, :1], 0.5).to_event(1))

        for model, guide, data, exact in (
            (program.model, Shifted(program), x, program.exact_log_evidence(x)),
            (curve.model, rough, points, curve.exact_log_evidence(points)),
        ):
            bounds = [average(o, model, guide, data) for o in (Trace_ELBO(), IWAE(5), IWAE(50))]
            bounds.append((float(exact.mean()), 0.0))
            for (loose, e1), (tight, e2) in itertools.pairwise(bounds):
                assert tight - loose > -4 * math.hypot(e1, e2)
            assert bounds[1][0] - bounds[0][0] > 4 * math.hypot(bounds[0][1], bounds[1][1])

    @pytest.mark.parametrize("particles", [1, 5])
    @pytest.mark.parametrize("scale", [1, 2, 4, 8, 16])
    @pytest.mark.parametrize("kind", [IWAE, DReG])
    def test_the_bound_does_not_hang_on_the_plate_s_scale(
        self, ppca: tuple[toy.PPCA, Tensor], kind: type[ELBO], scale: int, particles: int
    ) -> None:
        program, x = ppca
        guide = Shifted(program)
        # The bound of K particles, by the average of what `log_evidence` makes of K of them at a time.
        many = [log_evidence(program, guide, x, particles=particles).value.mean() for _ in range(200)]
        exact, exact_error = float(torch.stack(many).mean()), float(torch.stack(many).std()) / 200**0.5
        got, error = average(kind(particles), *scaled(program, guide, x, scale), x)
        assert abs(got / scale - exact) < 4 * math.hypot(error / scale, exact_error)

    @pytest.mark.parametrize("scale", [2, 16])
    def test_pyro_s_own_is_no_bound_there(self, ppca: tuple[toy.PPCA, Tensor], scale: int) -> None:
        """What this project's check would catch: RenyiELBO with its scale inside the logarithm."""
        program, x = ppca
        model, guide = scaled(program, Shifted(program), x, scale)
        renyi = RenyiELBO(alpha=0.0, num_particles=50, vectorize_particles=True, max_plate_nesting=1)
        got, error = average(renyi, model, guide, x, 20)
        exact = float(program.exact_log_evidence(x).mean())
        assert abs(got / scale - exact) > 0.5 + 4 * error / scale

    def test_a_scale_by_hand_is_one_too(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        guide = Shifted(program)
        torch.manual_seed(1)
        plain = IWAE(5).loss(program.model, guide, x)
        torch.manual_seed(1)
        scaled = IWAE(5).loss(poutine.scale(program.model, 0.1), poutine.scale(guide, 0.1), x)
        assert scaled == pytest.approx(plain / 10)

    def test_beta_weighs_the_latents_inside(self) -> None:
        program, x, _ = PROGRAMS["vae"]()
        weighed = _metrics(IWAE(1), program, x, beta=3.0)["objective"]
        assert float(weighed) == pytest.approx(
            float(_metrics(Trace_ELBO(), program, x, beta=3.0)["objective"]), rel=1e-5
        )

    @pytest.mark.parametrize("kind", [IWAE, DReG, StickingTheLanding])
    def test_one_particle_is_the_elbo(self, kind: type[ELBO]) -> None:
        program, x, _ = PROGRAMS["two latent layers"]()
        exact = elbo(program, None, x, particles=2000).mean()
        got, error = average(kind(1), program.model, program.guide, x, 300)
        assert abs(got - float(exact.value)) < 4 * math.hypot(error, float(exact.standard_error))


def scaled(program: toy.PPCA, guide: Any, x: Tensor, scale: int) -> tuple[Any, Any]:
    """Model and guide whose plate "data" is a subsample of so many times as many data."""

    def subsample(x: Tensor, run: Callable[[], Any]) -> Any:
        with pyro.plate("data", scale * len(x), subsample=torch.arange(len(x))):
            return run()

    def model(x: Tensor) -> Any:
        def inside() -> Any:
            z = pyro.sample("z", program.prior())
            return pyro.sample("x", dist.Normal(z @ program.weight.T + program.loc, program.scale).to_event(1), obs=x)

        return subsample(x, inside)

    def proposal(x: Tensor) -> Any:
        posterior = program.exact_posterior(x)
        return subsample(
            x,
            lambda: pyro.sample(
                "z", dist.Normal(posterior.mean + guide.loc, guide.fixed * guide.log_scale.exp()).to_event(1)
            ),
        )

    return model, proposal


def _metrics(objective: ELBO, program: Any, x: Tensor, **options: Any) -> Any:
    step = svi_step(program, torch.optim.SGD(program.parameters(), 0.0), objective, **options)
    torch.manual_seed(5)
    return step(x)


class TestGradients:
    def test_dreg_s_is_iwae_s_with_a_higher_signal_to_noise_ratio(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        guide = Shifted(program)
        draws = [gradients(o, program.model, guide, x, list(guide.parameters())) for o in (IWAE(64), DReG(64))]
        same_expectation(*draws)
        signal = [g.mean(0).abs() / g.std(0) for g in draws]
        assert bool((signal[1] > 3 * signal[0]).all())

    @pytest.mark.parametrize("particles", [1, 4])
    def test_dreg_s_and_sticking_s_expectations_in_two_layers(self, particles: int) -> None:
        """Where one latent's path goes through the other, a weight must not be counted twice."""
        program = TwoLayers()
        x = PROGRAMS["two latent layers"]()[1][:2]
        parameters = [
            program.up1.net[-1].bias,
            program.up2.net[-1].bias,
            program.decoder[-1].bias,
            program.down[-1].bias,
        ]
        kinds = [IWAE, DReG] if particles > 1 else [IWAE, StickingTheLanding]
        same_expectation(
            *[gradients(kind(particles), program.model, program.guide, x, parameters, 1500) for kind in kinds]
        )

    def test_sticking_lands_where_the_guide_is_the_posterior(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        guide = Shifted(program, offset=0.0, scale=None)
        parameters = list(guide.parameters())
        stuck = gradients(StickingTheLanding(), program.model, guide, x, parameters, 5)
        plain = gradients(Trace_ELBO(), program.model, guide, x, parameters, 5)
        assert float(stuck.abs().max()) < 1e-2
        assert float(plain.abs().max()) > 1.0

    def test_a_compiled_hook_is_a_hook(self) -> None:
        """DReG weighs gradients by a hook; the traced graph has it too (bit for bit: test_engine.py)."""
        program, x, _ = PROGRAMS["vae"]()
        found = []
        for engine in ("eager", "fx"):
            step = svi_step(program, torch.optim.SGD(program.parameters(), 0.0), DReG(4), engine=engine)
            torch.manual_seed(3)
            step(x)
            found.append([p.grad.clone() for p in program.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def same_expectation(a: Tensor, b: Tensor) -> None:
    error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
    z = (a.mean(0) - b.mean(0)) / error
    # Of M entries the largest of |z| is below this but once in a thousand runs.
    assert float(z.abs().max()) < math.sqrt(2 * math.log(1000 * len(z)))
    assert float(z.square().mean()) < 1 + 4 * math.sqrt(2 / len(z))


class TestFreeBits:
    def test_at_nothing_free_it_is_the_elbo(self) -> None:
        program, x, _ = PROGRAMS["vae"]()
        got, error = average(FreeBits(0.0), program.model, program.guide, x, 300)
        exact = elbo(program, None, x, particles=2000).mean()
        assert abs(got - float(exact.value)) < 4 * math.hypot(error, float(exact.standard_error))

    def test_below_the_threshold_no_coordinate_gains(self) -> None:
        program, x, _ = PROGRAMS["vae"]()
        q = program.encoder(x)
        kl = torch.distributions.kl_divergence(q.base_dist, dist.Normal(0.0, 1.0)).mean(0)
        nats = float(kl.detach().median())
        torch.manual_seed(2)
        got = -FreeBits(nats).loss(program.model, program.guide, x) / len(x)
        torch.manual_seed(2)
        z = {"z": q.rsample((1,))}
        likelihood = log_density(program.model, z, x).likelihood.mean()
        assert got == pytest.approx(float(likelihood - kl.clamp(min=nats).sum()), rel=1e-5)

    def test_a_family_without_a_closed_divergence_is_averaged(self) -> None:
        """A full covariance does not factorise: it is taken in one piece, by draws."""
        program = toy.PPCA(torch.randn(5, 2), torch.zeros(5), 0.5)
        x = simulate(program, N)
        exact = float(program.exact_log_evidence(x).mean())
        got, error = average(FreeBits(0.0, 50), program.model, program.guide, x, 200)
        assert (
            abs(got - exact) < 4 * error + 1e-4
        )  # the guide is the posterior: each draw gives the evidence, but for rounding
        posterior = program.exact_posterior(x)
        prior = dist.MultivariateNormal(torch.zeros(2), torch.eye(2))
        whole = float(torch.distributions.kl_divergence(posterior, prior).mean())
        high, error = average(FreeBits(whole + 10, 50), program.model, program.guide, x, 200)
        assert abs(exact - high - 10) < 4 * error + 0.5

    def test_free_bits_keep_a_coordinate_alive(self) -> None:
        """At β = 20 the guide of a small VAE is the prior; with a nat free for each coordinate it is not."""
        x = PROGRAMS["vae"]()[1]
        kept = []
        for objective in (Trace_ELBO(), FreeBits(1.0)):
            torch.manual_seed(0)
            program = vae((1, 8, 8), 2, hidden=(16,))
            step = svi_step(program, torch.optim.Adam(program.parameters(), 1e-2), objective, beta=20.0)
            for _ in range(300):
                step(x)
            kept.append(
                float(
                    torch.distributions.kl_divergence(program.encoder(x).base_dist, dist.Normal(0.0, 1.0))
                    .mean()
                    .detach()
                )
            )
        assert kept[0] < 0.3
        assert kept[1] > 0.7


OBJECTIVES = [IWAE(3), DReG(3), StickingTheLanding(), FreeBits(0.1)]


class TestInterface:
    @pytest.mark.parametrize(
        "objective", [IWAE(3), DReG(3), StickingTheLanding(), FreeBits(0.1)], ids=lambda o: type(o).__name__
    )
    def test_pyro_s_svi_takes_it(self, objective: ELBO) -> None:
        program = VAE(
            StandardNormal(2), nn.Linear(2, 4), lambda loc: dist.Normal(loc, 1.0), DiagonalGaussian(nn.Linear(4, 4))
        )
        x = torch.randn(20, 4)
        before = objective.loss(program.model, program.guide, x)
        svi = SVI(program.model, program.guide, ClippedAdam({"lr": 0.05}), loss=objective)
        for _ in range(100):
            svi.step(x)
        assert objective.loss(program.model, program.guide, x) < before - 1
        assert svi.evaluate_loss(x) == pytest.approx(objective.loss(program.model, program.guide, x), abs=10.0)

    def test_what_is_no_elbo_is_not_called_one(self) -> None:
        program, x, _ = PROGRAMS["vae"]()
        names = [
            set(_metrics(o, program, x)) - {"gradient_norm"}
            for o in (StickingTheLanding(), IWAE(2), DReG(2), FreeBits(1.0))
        ]
        assert names == [{"elbo"}, {"iwae"}, {"iwae"}, {"objective"}]

    def test_a_schedule_rises_and_stays(self) -> None:
        assert [annealed(4, 0.2, 1.0)(t) for t in (0, 2, 4, 9)] == pytest.approx([0.2, 0.6, 1.0, 1.0])
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
        (lambda: annealed(0), "steps and cycles of at least 1"),
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
