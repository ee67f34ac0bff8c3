"""Codes of data, and what is decoded of them, where both are known exactly."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_gen import guides, paths
from ppl_gen.inference import aggregate_draws, decode, encode
from ppl_gen.models import autoencoder, cvae, gan, hierarchical_vae, pca, toy, vae
from ppl_gen.program import reconstruct

N = 12


@pytest.fixture(scope="module")
def ppca() -> toy.PPCA:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 2, generator=generator)
    return toy.PPCA(weight, torch.arange(5.0), 0.5)


@pytest.fixture(scope="module")
def x(ppca: toy.PPCA) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return ppca.loc + 2 * torch.randn(N, 5, generator=generator)


def test_codes_are_the_moments_of_the_posterior(ppca: toy.PPCA, x: Tensor) -> None:
    codes = encode(ppca, x)
    exact = ppca.exact_posterior(x)
    torch.testing.assert_close(codes.mean, exact.mean)
    torch.testing.assert_close(codes.covariance, exact.covariance_matrix.expand(N, 2, 2))
    torch.testing.assert_close(codes.sd, exact.variance.sqrt())


def test_decoding_is_the_mean_of_the_likelihood(ppca: toy.PPCA) -> None:
    z = torch.randn(7, 2, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(decode(ppca, z), z @ ppca.weight.T + ppca.loc)


def test_a_guide_without_moments_is_drawn_from(x: Tensor) -> None:
    class Program(nn.Module):
        """z ~ N(x, 4), by a distribution that keeps its moments to itself."""

        def model(self, x: Tensor | None = None, *, n: int = 1) -> None:
            pass

        def guide(self, x: Tensor) -> Tensor:
            moved = dist.transforms.AffineTransform(0.0, 2.0)
            with pyro.plate("data", len(x)):
                own = dist.Normal(x[:, :2] / 2, 1.0)
                return pyro.sample("z", dist.TransformedDistribution(own, [moved]).to_event(1))

    program = Program()
    codes = encode(program, x)
    assert bool(((codes.mean - x[:, :2]).abs() < 4 * 2 / 200**0.5).all())
    assert bool(((codes.sd - 2).abs() < 4 * 2 / 400**0.5).all())
    again = encode(program, x)
    assert torch.equal(codes.mean, again.mean)


def test_flows_have_codes() -> None:
    program = vae((3,), 2, hidden=(4,), guide=guides.flow)
    codes = encode(program, torch.rand(4, 3))
    assert codes.mean.shape == (4, 2)
    assert codes.covariance.shape == (4, 2, 2)


def test_codes_of_an_autoencoder_have_no_width(x: Tensor) -> None:
    exact = pca(x, 2)
    codes = encode(exact, x)
    assert torch.equal(codes.mean, exact.encoder(x))
    torch.testing.assert_close(decode(exact, codes.mean), exact(x))
    with pytest.raises(ValueError, match="got those of an autoencoder"):
        _ = codes.covariance


def test_a_context_goes_to_both() -> None:
    torch.manual_seed(0)
    program = cvae((4,), 2, classes=3, hidden=(5,))
    x, y = torch.rand(6, 4).round(), torch.arange(6) % 3
    codes = encode(program, x, y)
    mean = decode(program, codes.mean, y)
    expected = program.likelihood(program.decoder(codes.mean, y)).mean
    torch.testing.assert_close(mean, expected)
    assert not torch.allclose(mean, decode(program, codes.mean, (y + 1) % 3))


def test_a_generator_is_decoded_without_a_guide() -> None:
    program = gan((1, 4, 4), 3)
    z = torch.randn(5, 3)
    assert decode(program, z).shape == (5, 1, 4, 4)
    with pytest.raises(ValueError, match="GAN has no guide"):
        encode(program, torch.rand(5, 1, 4, 4))


def test_draws_of_the_aggregate_posterior_have_its_moments(ppca: toy.PPCA, x: Tensor) -> None:
    """Mean and covariance of a mixture of N normals, within four standard errors."""
    m = 4000
    draws = aggregate_draws(ppca, x, draws=m, seed=0)
    exact = ppca.exact_posterior(x)
    centred = exact.mean - exact.mean.mean(0)
    between = centred.T @ centred / N
    covariance = between + exact.covariance_matrix[0]
    error = (covariance.diagonal() / m).sqrt()
    assert bool(((draws.mean(0) - exact.mean.mean(0)).abs() < 4 * error).all())
    found = torch.cov(draws.T).diagonal()
    assert bool(((found / covariance.diagonal() - 1).abs() < 4 * (2 / m) ** 0.5).all())
    of_points = aggregate_draws(pca(x, 2), x, draws=50, seed=0)
    codes = encode(pca(x, 2), x).mean
    apart = (of_points[:, None] - codes).abs().amax(-1)
    assert float(apart.amin(1).max()) < 1e-5


class TestErrors:
    def test_several_layers(self) -> None:
        program = hierarchical_vae((3,), (2, 2))
        with pytest.raises(ValueError, match=r"one vector z of shape \(N, D\).*got the sites z"):
            encode(program, torch.rand(4, 3))
        with pytest.raises(ValueError, match=r"one vector z of shape \(N, D\).*got the sites z"):
            decode(program, torch.randn(4, 2))

    def test_labels(self) -> None:
        weights = torch.ones(2) / 2
        mixture = toy.GaussianMixture(weights, torch.zeros(2, 3), 1.0)
        with pytest.raises(ValueError, match="one vector z of shape"):
            decode(mixture, torch.randn(4, 2))

    def test_another_dimension(self, ppca: toy.PPCA) -> None:
        with pytest.raises(ValueError, match=r"expected codes of shape \(M, 2\), .*got \(4, 3\)"):
            decode(ppca, torch.randn(4, 3))
        with pytest.raises(ValueError, match="expected finite codes"):
            decode(ppca, torch.full((4, 2), torch.nan))
        with pytest.raises(ValueError, match="a row for each of 4 codes, got 3"):
            decode(cvae((4,), 2, classes=3, hidden=(5,)), torch.randn(4, 2), torch.arange(3))


class TestPaths:
    def test_a_circle_keeps_its_length_and_its_pace(self) -> None:
        start, end = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 2.0])
        share = torch.linspace(0, 1, 5)
        points = paths.great_circle(start, end, share)
        angles = torch.pi / 2 * share
        expected = torch.stack([2 * angles.cos(), 0 * angles, 2 * angles.sin()], 1)
        torch.testing.assert_close(points, expected)

    def test_lengths_go_straight_from_one_to_the_other(self) -> None:
        start, end = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
        share = torch.linspace(0, 1, 7)
        points = paths.great_circle(start, end, share)
        torch.testing.assert_close(points[[0, -1]], torch.stack([start, end]))
        torch.testing.assert_close(points.norm(dim=1), start.norm().lerp(end.norm(), share))

    @pytest.mark.parametrize("factor", [3.0, -1.0, 0.0])
    def test_ends_on_one_line_are_joined_straight(self, factor: float) -> None:
        start = torch.tensor([1.0, 2.0])
        share = torch.linspace(0, 1, 4)
        found = paths.great_circle(start, factor * start, share)
        torch.testing.assert_close(found, paths.straight(start, factor * start, share))

    def test_a_path_of_an_autoencoder(self, x: Tensor) -> None:
        exact = pca(x, 2)
        found = paths.path(exact, x[:2], steps=3)
        torch.testing.assert_close(
            found, torch.lerp(exact(x[0]), exact(x[1]), torch.tensor([[0.0], [0.5], [1.0]]))
        )
        with pytest.raises(ValueError, match="expected two data"):
            paths.path(autoencoder((5,), 2), x)

    def test_a_path_along_a_circle(self, ppca: toy.PPCA, x: Tensor) -> None:
        codes = encode(ppca, x[:2]).mean
        z = paths.great_circle(codes[0], codes[1], torch.linspace(0, 1, 5))
        found = paths.path(ppca, x[:2], steps=5, along=paths.great_circle)
        torch.testing.assert_close(found, decode(ppca, z))


def test_a_reconstruction_is_decoded_from_a_draw_about_the_code() -> None:
    torch.manual_seed(0)
    program = vae((4,), 2, hidden=(5,))
    x = torch.rand(3, 4).round()
    assert reconstruct(program, x).shape == decode(program, encode(program, x).mean).shape
