"""Networks that take no axis of particles: found before a number is wrong, and wrapped."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_gen.guides import DiagonalGaussian, from_prior
from ppl_gen.inference import IWAE, ais, collapse, hmc, log_evidence, svi_step
from ppl_gen.likelihoods import Bernoulli, Gaussian
from ppl_gen.models import GAN, VAE
from ppl_gen.nn import Batched
from ppl_gen.priors import StandardNormal
from ppl_gen.program import Observed

X = torch.tensor([0.0, 1.0, 1.0, 0.0] * 20).reshape(5, 1, 4, 4)


class _Viewed(nn.Module):
    """Makes images of whatever leading axes there are, on one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 16)

    def forward(self, z: Tensor) -> Tensor:
        return self.linear(z).view(-1, 1, 4, 4)


def _transposed() -> nn.Module:
    return nn.Sequential(
        nn.Linear(2, 16), nn.Unflatten(1, (4, 2, 2)), nn.ConvTranspose2d(4, 1, 2, 2)
    )


def _normalised() -> nn.Module:
    """Of the right shape, whatever is in front, but its softmax is over axis 1 from the left."""
    return nn.Sequential(nn.Linear(2, 16), nn.Softmax(1), nn.Unflatten(-1, (1, 4, 4)))


DECODERS = {"transposed": _transposed, "viewed": _Viewed, "normalised": _normalised}


def _vae(decoder: nn.Module) -> VAE:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    return VAE(StandardNormal(2), decoder, Bernoulli(), DiagonalGaussian(encoder))


@pytest.mark.parametrize("kind", DECODERS)
class TestOwnDecoders:
    def test_the_network_and_its_wrapper_are_named(self, kind: str) -> None:
        program = _vae(DECODERS[kind]())
        said = r"program\.decoder = ppl_gen\.nn\.Batched\(program\.decoder, axes=1\)"
        with pytest.raises(ValueError, match=said):
            log_evidence(program, None, X, particles=4)
        with pytest.raises(ValueError, match=said):
            ais(program, X, temperatures=2, chains=2)
        with pytest.raises(ValueError, match=said):
            collapse(program, None, X, particles=4)
        step = svi_step(program, torch.optim.SGD(program.parameters(), 0.0), IWAE(2))
        with pytest.raises(ValueError, match=said):
            step(X)

    def test_one_draw_needs_no_wrapper(self, kind: str) -> None:
        program = _vae(DECODERS[kind]())
        step = svi_step(program, torch.optim.SGD(program.parameters(), 0.0), engine="eager")
        assert torch.isfinite(step(X)["elbo"])
        draws = hmc(program.model, X, local=True, draws=2, warmup=2, chains=2, seed=0)
        assert draws.samples["z"].shape == (2, 2, 5, 2)

    def test_the_wrapped_network_gives_the_evidence(self, kind: str) -> None:
        torch.manual_seed(0)
        program = _vae(DECODERS[kind]())
        alone = []
        for k in range(3):  # particle by particle
            torch.manual_seed(k)
            z = torch.randn(5, 2)
            alone.append(program.decoder(z))
        program.decoder = Batched(program.decoder, axes=1)
        together = []
        for k in range(3):
            torch.manual_seed(k)
            together.append(torch.randn(5, 2))
        torch.testing.assert_close(program.decoder(torch.stack(together)), torch.stack(alone))
        estimate = log_evidence(program, None, X, particles=50, seed=0)
        simple = log_evidence(program, from_prior(program), X, particles=2000, seed=1)
        difference = (estimate.mean().value - simple.mean().value).abs()
        error = estimate.mean().standard_error + simple.mean().standard_error
        assert difference < 4 * error + 0.2  # the logarithm's bias at 50 particles


def test_the_generator_of_a_gan_is_named_inside() -> None:
    gan = Observed(GAN(StandardNormal(2), _transposed()), Gaussian(0.5))
    with pytest.raises(ValueError, match=r"program\.program\.decoder = .*Batched"):
        log_evidence(gan, from_prior(gan), X, particles=4)


def test_nothing_is_left_of_the_look() -> None:
    program = _vae(Batched(_transposed(), axes=1)).train()
    before = torch.get_rng_state()
    log_evidence(program, None, X, particles=2, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in program.modules())
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_axes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="expected axes of at least 1, got 0; 3 for images"):
        Batched(nn.Identity(), axes=0)


def test_an_axis_of_a_plate_that_is_summed_away() -> None:
    class Summed(nn.Module):
        def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
            data = pyro.plate("data", n if x is None else len(x), dim=-1)
            with data, pyro.plate("inner", 3, dim=-2):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with data:
                return pyro.sample("x", dist.Normal(z.sum(-2), 1.0), obs=x)

    program = Summed()
    with pytest.raises(
        ValueError, match=r"leading axes, .* keep those of plates, as z\.sum\(-2, k"
    ):
        log_evidence(program, from_prior(program), torch.zeros(4), particles=4)
