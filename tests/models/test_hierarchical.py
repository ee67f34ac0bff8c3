"""The hierarchical VAE: exact where all is linear and Gaussian, whichever way its guide goes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn
from torch.distributions import kl_divergence

from ppl_gen.guides import BottomUp, DiagonalGaussian, TopDown
from ppl_gen.guides.layers import precision_weighted
from ppl_gen.inference import collapse, elbo, svi_step
from ppl_gen.likelihoods import Gaussian
from ppl_gen.models import HierarchicalVAE, conv_vae, hierarchical_vae, with_layer_above
from ppl_gen.priors import ConditionalNormal, StandardNormal
from ppl_gen.program import simulate
from ppl_gen.testing import check_program

ABOVE, NOISE = 0.6, 0.3  # the standard deviations of z1 given z2, and of x given z1
SLOPES = torch.tensor([1.5, -0.7])  # of z1 in z2


def linear(slope: Tensor, scale: float) -> nn.Linear:
    """A layer (D,) → (2D,): slope · z, and the log of a fixed scale."""
    size = len(slope)
    net = nn.Linear(size, 2 * size)
    net.weight.data = torch.cat([slope.diag(), torch.zeros(size, size)])
    net.bias.data = torch.cat([torch.zeros(size), torch.full((size,), math.log(scale))])
    return net


def gaussian(encoder: nn.Module) -> HierarchicalVAE:
    """z2 ~ N(0, I), z1 ~ N(slope · z2, 0.6² I), x ~ N(z1, 0.3² I): coordinates apart."""
    layer = ConditionalNormal(linear(SLOPES, ABOVE))
    return HierarchicalVAE(StandardNormal(2), [layer], nn.Identity(), Gaussian(NOISE), encoder)


def exact_evidence(x: Tensor) -> Tensor:
    scale = (SLOPES.square() + ABOVE**2 + NOISE**2).sqrt()
    return dist.Normal(torch.zeros(2), scale).log_prob(x).sum(-1)


def posterior(slope: Tensor, noise: float) -> DiagonalGaussian:
    """q(u | v) of u ~ N(0, 1) and v ~ N(slope · u, noise²)."""
    total = slope.square() + noise**2
    net = linear(slope / total, 1.0)
    net.bias.data[2:] = (noise / total.sqrt()).log()
    return DiagonalGaussian(net)


def up() -> BottomUp:
    """The exact posterior as q(z1 | x) q(z2 | z1)."""
    prior_scale = (SLOPES.square() + ABOVE**2).sqrt()
    first = linear(prior_scale.square() / (prior_scale.square() + NOISE**2), 1.0)
    first.bias.data[2:] = -0.5 * (prior_scale.pow(-2) + NOISE**-2).log()
    return BottomUp([DiagonalGaussian(first), posterior(SLOPES, ABOVE)])


def down() -> TopDown:
    """The exact posterior as q(z2 | x) q(z1 | z2, x)."""
    said = DiagonalGaussian(linear(torch.ones(2), NOISE))
    return TopDown(
        [nn.Identity(), nn.Identity()], [said, posterior(SLOPES, math.hypot(ABOVE, NOISE))]
    )


@pytest.mark.parametrize("encoder", [up, down])
def test_the_exact_posterior_gives_the_exact_evidence_in_one_draw(
    encoder: Callable[[], nn.Module],
) -> None:
    program = gaussian(encoder())
    torch.manual_seed(0)
    x = simulate(program, 20)
    found = elbo(program, None, x, particles=2)
    torch.testing.assert_close(found.value.float(), exact_evidence(x), rtol=1e-4, atol=1e-4)
    assert float(found.standard_error.max()) < 1e-4


def test_precision_weighting_is_the_normalised_product() -> None:
    q = dist.Normal(torch.tensor([0.3, -2.0]), torch.tensor([0.5, 3.0])).to_event(1)
    p = dist.Normal(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 1e-3])).to_event(1)
    joined = precision_weighted(q, p)
    z = torch.tensor([[0.1, 4.0], [0.9, 4.001], [0.5, 3.999]])
    ratio = q.log_prob(z) + p.log_prob(z) - joined.log_prob(z)
    torch.testing.assert_close(ratio, ratio[:1].expand(3), rtol=1e-4, atol=1e-3)


def test_each_layer_has_its_own_rate() -> None:
    """Exact for z2 top down, KL(q(z2 | x) ‖ p(z2)), and in sum either way."""
    x = simulate(gaussian(up()), 200)
    seen = {}
    for name, encoder in (("up", up()), ("down", down())):
        found = collapse(gaussian(encoder), None, x, seed=0)
        rates = found.by_layer()["rate"]
        assert list(rates.index) == ["z2", "z1"]
        assert rates.sum() == pytest.approx(float(found.rate.mean().value), rel=1e-6)
        seen[name] = found
    q = posterior(SLOPES, math.hypot(ABOVE, NOISE))(x).base_dist
    kl = kl_divergence(q, dist.Normal(torch.zeros(2), 1.0)).sum(-1).mean().item()
    layer = seen["down"].layers[0]
    rate = layer.rate.mean()
    assert layer.latents == slice(0, 2)
    assert abs(float(rate.value) - kl) < 4 * float(rate.standard_error)
    assert "layers: z2 2 of 2 active" in str(seen["up"])


def test_a_layer_that_is_not_used_is_named() -> None:
    program = gaussian(up())
    program.layers[0].net.weight.data.zero_()
    program.encoder.encoders[1].net.weight.data.zero_()
    program.encoder.encoders[1].net.bias.data.zero_()
    found = collapse(program, None, simulate(program, 50), seed=0)
    assert found.unused_layers == ["z2"]
    assert "layer-unused" in found.verdict.tags
    assert "no latent of z2 is active" in str(found)


def test_the_defaults_are_those_of_burda_et_al() -> None:
    program = hierarchical_vae((1, 28, 28))
    shapes = [tuple(p.shape) for p in program.encoder.parameters() if p.dim() == 2]
    assert shapes == [(200, 784), (200, 200), (200, 200), (100, 100), (100, 100), (100, 100)]
    shapes = [tuple(p.shape) for p in program.decoder.parameters() if p.dim() == 2]
    assert shapes == [(200, 100), (200, 200), (784, 200)]


@pytest.mark.long
@pytest.mark.parametrize("top_down", [False, True])
def test_an_engine_gives_the_numbers_of_another(top_down: bool, binary: Tensor) -> None:
    seen = {}
    for engine in ("eager", "fx"):
        torch.manual_seed(0)
        program = hierarchical_vae((1, 8, 8), (5, 3), hidden=(16,), top_down=top_down)
        step = svi_step(program, torch.optim.Adam(program.parameters()), engine=engine)
        seen[engine] = torch.stack([step(binary[:20])["elbo"] for _ in range(4)])
    torch.testing.assert_close(seen["fx"], seen["eager"])


def test_plain_svi_trains_it(binary: Tensor) -> None:
    pyro.clear_param_store()
    program = hierarchical_vae((1, 8, 8), (5, 3), hidden=(16,), top_down=True)
    before = [p.clone() for p in program.parameters()]
    svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    svi.step(binary[:20])
    for old, new in zip(before, program.parameters(), strict=True):
        assert not torch.equal(old, new)
    pyro.clear_param_store()


def test_a_vae_gets_a_layer_above_its_own(binary: Tensor) -> None:
    vae = conv_vae((1, 8, 8), 3, hidden=16)
    program = with_layer_above(vae, 3, hidden=(8,))
    assert program.decoder is vae.decoder
    check_program(program, binary[:6])


@pytest.mark.parametrize("dims", [(5,), (), 5])
def test_a_single_layer_is_a_vae(dims: object) -> None:
    said = f"two layers of latents or more, from the data up, such as (100, 50), got {dims}; one"
    with pytest.raises(ValueError, match=re.escape(said)):
        hierarchical_vae((1, 8, 8), dims)
    with pytest.raises(ValueError, match=re.escape("got none; a program of one layer")):
        HierarchicalVAE(StandardNormal(2), [], nn.Identity(), Gaussian(), up())


def test_a_guide_of_other_sites_is_named(binary: Tensor) -> None:
    program = hierarchical_vae((1, 8, 8), (4, 3), hidden=(16,))
    program.encoder = BottomUp(program.encoder.encoders[:1])
    with pytest.raises(ValueError, match=re.escape("latent sites ['z1', 'z2'], got ['z1']")):
        check_program(program, binary[:3])
    with pytest.raises(ValueError, match="expected a family of guides"):
        hierarchical_vae((1, 8, 8), (4, 3), guide=BottomUp([]))
