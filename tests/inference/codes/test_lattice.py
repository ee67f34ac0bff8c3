"""Lattices by quantiles, traversals and walks, against closed forms."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_gen.inference import lattice, random_walk, ticks, traversal
from ppl_gen.models import VAE, cvae, gan, pca, vae
from ppl_gen.priors import StandardNormal, Uniform


def with_prior(prior: object) -> VAE:
    program = vae((4,), 2, hidden=(5,))
    program.prior = prior
    return program


class Of(nn.Module):
    """A prior of a user's own."""

    def __init__(self, fn: dist.TorchDistribution) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, *context: torch.Tensor) -> dist.TorchDistribution:
        return self.fn


def test_ticks_are_normal_quantiles() -> None:
    found = ticks(vae((4,), 3, hidden=(5,)), steps=20)
    levels = torch.linspace(0.05, 0.95, 20, dtype=torch.float64)
    expected = torch.special.ndtri(levels).float()
    torch.testing.assert_close(found, expected[:, None].expand(20, 3))


@pytest.mark.parametrize(
    "prior",
    [
        Of(dist.Laplace(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 3.0])).to_event(1)),
        Of(dist.Normal(torch.tensor([5.0, -1.0]), torch.tensor([0.1, 2.0])).to_event(1)),
        Uniform(2),
    ],
    ids=["laplace", "normal", "uniform"],
)
def test_ticks_of_other_priors_are_their_own_quantiles(prior: nn.Module) -> None:
    found = ticks(with_prior(prior), steps=5, ends=(0.1, 0.9))
    base = prior().base_dist
    levels = torch.linspace(0.1, 0.9, 5)[:, None].expand(5, 2)
    torch.testing.assert_close(base.cdf(found), levels)


def test_priors_without_quantiles_say_what_to_do() -> None:
    correlated = Of(dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
    gamma = Of(dist.Gamma(torch.ones(2), 1.0).to_event(1))
    for prior in (correlated, gamma):
        program = with_prior(prior)
        with pytest.raises(ValueError, match=r"evenly spaced ones \(within=3"):
            ticks(program)
        even = ticks(program, steps=3, within=2.0)
        assert even.tolist() == [[-2.0, -2.0], [0.0, 0.0], [2.0, 2.0]]
    codes = torch.arange(11.0)[:, None].repeat(1, 2)
    own = ticks(None, steps=3, ends=(0.1, 0.9), codes=codes)
    torch.testing.assert_close(own, torch.tensor([1.0, 5.0, 9.0])[:, None].expand(3, 2))


def test_a_lattice_goes_up_and_to_the_right() -> None:
    points = lattice(vae((4,), 2, hidden=(5,)), side=3)
    q = float(torch.special.ndtri(torch.tensor(0.95)))
    across, up = points.reshape(3, 3, 2).unbind(-1)
    expected = torch.tensor([-q, 0.0, q])
    torch.testing.assert_close(across, expected.expand(3, 3))
    torch.testing.assert_close(up, expected.flip(0)[:, None].expand(3, 3))


def test_a_lattice_of_two_among_many_holds_the_others_at_their_medians() -> None:
    prior = Of(dist.Normal(torch.tensor([0.0, 7.0, 3.0]), 1.0).to_event(1))
    program = vae((4,), 3, hidden=(5,))
    program.prior = prior
    points = lattice(program, side=4, axes=(2, 0))
    assert bool((points[:, 1] == 7).all())
    assert len(points[:, [0, 2]].unique(dim=0)) == 16
    with pytest.raises(ValueError, match=r"2 latents for a lattice, got 3; name two"):
        lattice(program)
    with pytest.raises(ValueError, match=r"two different coordinates from 0 to 2"):
        lattice(program, axes=(0, 3))


def test_a_lattice_under_a_label() -> None:
    program = cvae((4,), 2, classes=3, hidden=(5,))
    assert lattice(program, torch.tensor([2]), side=3).shape == (9, 2)


def test_a_traversal_moves_one_coordinate() -> None:
    z = torch.tensor([1.0, 2.0, 3.0])
    along = torch.arange(12.0).reshape(4, 3)
    moved = traversal(z, along, [2, 0])
    assert moved.shape == (2, 4, 3)
    assert torch.equal(moved[0, :, 2], along[:, 2])
    assert torch.equal(moved[0, :, :2], z[:2].expand(4, 2))
    assert torch.equal(moved[1, :, 0], along[:, 0])
    assert traversal(z, along).shape == (3, 4, 3)
    for wrong in (3, -1):
        with pytest.raises(ValueError, match="coordinates from 0 to 2"):
            traversal(z, along, [wrong])
    with pytest.raises(ValueError, match="one code of 3 dimensions"):
        traversal(z[:2], along)


def test_a_walk_stays_where_the_prior_is() -> None:
    """Moments of N(5, 0.25) at every step, and correlation √(1 − s²) from one to the next."""
    walks = 4000
    prior = Of(dist.Normal(torch.full((walks,), 5.0), 0.5).to_event(1))
    program = vae((4,), walks, hidden=(5,))
    program.prior = prior
    steps = random_walk(program, steps=6, size=0.6, seed=0)
    centred = (steps - 5) / 0.5
    assert bool((centred.mean(1).abs() < 4 / walks**0.5).all())
    assert bool(((centred.var(1) - 1).abs() < 4 * (2 / walks) ** 0.5).all())
    correlation = (centred[1:] * centred[:-1]).mean(1)
    assert bool(((correlation - 0.8).abs() < 4 * (2 / walks) ** 0.5).all())


def test_a_walk_begins_where_it_is_told_to() -> None:
    program = gan((1, 4, 4), 3)
    start = torch.tensor([9.0, 9.0, 9.0])
    steps = random_walk(program, start=start, steps=4, size=1e-6, seed=0)
    torch.testing.assert_close(steps, start.expand(4, 3), atol=1e-4, rtol=0)
    codes = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    assert random_walk(None, codes=codes, steps=4, seed=0).shape == (4, 3)
    with pytest.raises(ValueError, match="expected a size of at most 1"):
        random_walk(program, size=2.0)


def test_an_autoencoder_has_no_prior() -> None:
    exact = pca(torch.rand(20, 4), 2)
    with pytest.raises(ValueError, match="got an autoencoder, which has none; give codes"):
        lattice(exact)
    assert isinstance(vae((4,), 2, hidden=(5,)).prior, StandardNormal)
