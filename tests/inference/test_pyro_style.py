"""Programs as Pyro's tutorials write them: sites and plate of any name, and no n to draw."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_gen.guides import from_prior
from ppl_gen.inference import (
    IWAE,
    FreeBits,
    ais,
    bdmc,
    collapse,
    compare,
    elbo,
    gaps,
    log_evidence,
    sbc,
    svi_step,
)
from ppl_gen.likelihoods import Gaussian
from ppl_gen.program import Observed, log_density, reconstruct, simulate

X = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0] * 16).reshape(5, 1, 4, 4)


class _PyroVAE(nn.Module):
    """Latents at "latent", images made flat at "obs", in a plate of the data.

    Args:
        plate: The name of the plate.
        size: The number of all data, of which a batch is a subsample; that of the batch if None.
    """

    def __init__(self, plate: str = "data", size: int | None = None) -> None:
        super().__init__()
        self.plate = plate
        self.size = size
        self.decoder = nn.Sequential(nn.Linear(1, 16), nn.Sigmoid())
        self.loc = nn.Linear(16, 1)
        self.log_scale = nn.Linear(16, 1)

    def over(self, x: Tensor) -> Any:
        if self.size is None:
            return pyro.plate(self.plate, x.shape[0])
        return pyro.plate(self.plate, self.size, subsample_size=x.shape[0])

    def model(self, x):  # type: ignore[no-untyped-def]
        pyro.module("decoder", self.decoder)
        with self.over(x):
            at_zero = x.new_zeros(x.shape[0], 1)
            z = pyro.sample("latent", dist.Normal(at_zero, 1.0).to_event(1))
            pixels = dist.Bernoulli(self.decoder(z), validate_args=False).to_event(1)
            pyro.sample("obs", pixels, obs=x.reshape(-1, 16))

    def guide(self, x):  # type: ignore[no-untyped-def]
        pyro.module("encoder", self.loc)
        with self.over(x):
            flat = x.reshape(-1, 16)
            q = dist.Normal(self.loc(flat), self.log_scale(flat).exp())
            pyro.sample("latent", q.to_event(1))

    def exact(self, x: Tensor) -> Tensor:
        """log p(x) by quadrature over the one latent."""
        z = torch.linspace(-8, 8, 4001)
        with torch.no_grad():
            p = self.decoder(z[:, None])
        pixels = dist.Bernoulli(p[:, None]).log_prob(x.reshape(1, -1, 16)).sum(-1)
        prior = dist.Normal(0.0, 1.0).log_prob(z)[:, None]
        return (pixels + prior).logsumexp(0) + math.log(16 / 4000)


PROGRAMS = {
    "data": lambda: _PyroVAE(),
    "minibatch": lambda: _PyroVAE("minibatch"),
    "a subsample": lambda: _PyroVAE("images", 600),
}


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> _PyroVAE:
    torch.manual_seed(3)
    return PROGRAMS[request.param]()


class TestScored:
    def test_the_evidence_is_exact(self, program: _PyroVAE) -> None:
        exact = program.exact(X).double()
        stored = set(pyro.get_param_store().keys())
        for guide in (None, from_prior(program)):
            found = log_evidence(program, guide, X, particles=2000, seed=0, engine="eager")
            assert bool(((found.value - exact).abs() < 4 * found.standard_error + 0.02).all())
        bound = elbo(program, None, X, particles=50, seed=0, engine="eager")
        assert bool((bound.value < exact + 4 * bound.standard_error).all())
        assert set(pyro.get_param_store().keys()) == stored

    def test_its_density_is_that_of_its_sites(self, program: _PyroVAE) -> None:
        z = torch.linspace(-1, 1, 15).reshape(3, 5, 1)
        joint = log_density(program.model, {"latent": z}, X)
        prior = dist.Normal(0.0, 1.0).log_prob(z).sum(-1)
        pixels = dist.Bernoulli(program.decoder(z)).log_prob(X.reshape(5, 16)).sum(-1)
        torch.testing.assert_close(joint.prior, prior)
        torch.testing.assert_close(joint.likelihood, pixels)

    def test_every_datum_has_a_posterior_of_its_own(self) -> None:
        program = PROGRAMS["minibatch"]()
        compared = compare(
            program, None, X, draws=8, warmup=4, chains=4, guide_draws=8, engine="eager", seed=0
        )
        assert compared.draws.log_density.shape == (4, 8, 5)

    def test_what_else_takes_data(self) -> None:
        torch.manual_seed(3)
        program = PROGRAMS["minibatch"]()
        exact = program.exact(X).double()
        annealed = ais(program, X, temperatures=10, chains=16, seed=0, engine="eager")
        assert bool(((annealed.value - exact).abs() < 4 * annealed.standard_error + 0.05).all())
        assert collapse(program, None, X, particles=2, seed=0).means.shape == (5, 1)
        evidence = log_evidence(program, None, X, particles=5, seed=0, engine="eager")
        found = gaps(
            program, None, X, evidence=evidence, particles=4, steps=2, seed=0, engine="eager"
        )
        assert found.inference.value.shape == (5,)
        assert reconstruct(program, X).shape == X.shape
        for objective in (IWAE(2), FreeBits(0.1)):
            step = svi_step(
                program, torch.optim.SGD(program.parameters(), 0.0), objective, engine="eager"
            )
            assert all(bool(value.isfinite()) for value in step(X).values())


def test_what_needs_draws_says_what_is_missing() -> None:
    program = _PyroVAE()
    said = r"draws data by model\(None, .*got _PyroVAE\.model\(x\), which takes no n"
    for evaluate in (simulate, bdmc, sbc):
        with pytest.raises(ValueError, match=said):
            evaluate(program, 20)
    with pytest.raises(ValueError, match=said):
        log_evidence(Observed(program, Gaussian(0.1)), None, X, particles=2)


def test_a_likelihood_is_not_replaced_at_another_site() -> None:
    class Named(_PyroVAE):
        def model(self, x=None, *, n=1):  # type: ignore[no-untyped-def]
            return super().model(X[:n] if x is None else x)

    with pytest.raises(ValueError, match="Named to sample the data at a site 'x'"):
        log_evidence(Observed(Named(), Gaussian(0.1)), None, X, particles=2)


class TestPlates:
    def test_of_several_that_hold_all_sites_one_is_to_be_named(self) -> None:
        def model(x: Tensor) -> None:
            with pyro.plate("rows", 3, dim=-2), pyro.plate("columns", 4, dim=-1):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        with pytest.raises(ValueError, match=r"in 'columns', 'rows' .*name it 'data'"):
            log_density(model, {"z": torch.zeros(3, 4)}, torch.zeros(3, 4))

    def test_sites_in_plates_of_their_own_share_none(self) -> None:
        def model(x: Tensor) -> None:
            with pyro.plate("features", 4):
                w = pyro.sample("w", dist.Normal(0.0, 1.0))
            with pyro.plate("items", 4):
                pyro.sample("x", dist.Normal(w.sum(), 1.0), obs=x)

        with pytest.raises(ValueError, match="inside the plate 'data', got 'w' outside it"):
            log_density(model, {"w": torch.zeros(4)}, torch.zeros(4))


class TestForgottenLatents:
    """Of plain Pyro models, whose latents Pyro would draw from the prior."""

    def _model(self, x: Tensor) -> None:
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("data", x.shape[0]):
            pyro.sample("x", dist.Normal(a + 3 * b, 1.0), obs=x)

    def _step(self, *names: str) -> Any:
        loc = nn.Parameter(torch.zeros(()))

        def guide(x: Tensor) -> None:
            for name in names:
                pyro.sample(name, dist.Normal(loc, 0.1))

        return svi_step(self._model, torch.optim.SGD([loc], 0.01), guide=guide, engine="eager")

    @pytest.mark.parametrize("names", [("a",), ("a", "b", "c"), ("a", "B")])
    def test_they_are_named(self, names: tuple[str, ...]) -> None:
        with pytest.raises(ValueError, match=r"model's latent sites \['a', 'b'\], got \['"):
            self._step(*names)(torch.ones(4))

    def test_the_same_sites_are_trained(self) -> None:
        assert torch.isfinite(self._step("a", "b")(torch.ones(4))["elbo"])

    def test_shapes_are_compared(self) -> None:
        def wide(x: Tensor) -> None:
            pyro.sample("a", dist.Normal(torch.zeros(1), 0.1).to_event(1))
            pyro.sample("b", dist.Normal(0.0, 0.1))

        unused = nn.Parameter(torch.zeros(()))
        step = svi_step(self._model, torch.optim.SGD([unused], 0.01), guide=wide)
        with pytest.raises(ValueError, match=r"'a' of shape \(\), as the model does, got \(1,\)"):
            step(torch.ones(4))
