"""The metric of HMC: exact where it can be, off where nothing is gained, right in the draws."""

from __future__ import annotations

import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ppl_gen.inference import hmc
from ppl_gen.inference.mcmc.leapfrog import Metric, accept_step, leapfrog
from ppl_gen.inference.mcmc.warmup.metric import Scores, low_rank_metric

DOUBLE = torch.zeros((), dtype=torch.float64)


def covariance(size: int, condition: float) -> Tensor:
    """A covariance of eigenvalues from 1 to a condition number, along directions at random."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(size, size, generator=generator, dtype=torch.float64)
    directions, _ = torch.linalg.qr(noise)
    widths = torch.logspace(0, math.log10(condition), size, dtype=torch.float64)
    return (directions * widths) @ directions.mT


def seen(draws: Tensor, scores: Tensor, chains: int = 16) -> Scores:
    """A window of draws and scores (n, D), divided among chains."""
    window = Scores(chains, draws.shape[1], draws.device)
    q = draws.unflatten(0, (-1, chains)).unsqueeze(2)
    gradient = -scores.unflatten(0, (-1, chains)).unsqueeze(2)
    for state in zip(q, gradient, strict=True):
        window.see(*state)
    return window


def factor(metric: Metric) -> Tensor:
    """L, (D, D)."""
    assert metric.basis is not None
    assert metric.stretch is not None
    inner = (metric.basis * metric.stretch) @ metric.basis.mT
    return metric.scale.mT * (torch.eye(len(inner), dtype=inner.dtype) + inner)


class TestLearning:
    def test_a_gaussian_is_known_from_draws_that_are_not_its_own(self) -> None:
        """Draws of N(0, I), as of chains that have hardly moved, with the scores of N(0, Σ)."""
        sigma = covariance(20, 1e4)
        generator = torch.Generator().manual_seed(1)
        draws = torch.randn(160, 20, generator=generator, dtype=torch.float64)
        scores = -draws @ sigma.inverse()
        metric, condition = low_rank_metric(seen(draws, scores), DOUBLE)
        assert metric is not None
        inverse = factor(metric).inverse()
        left = torch.linalg.eigvalsh(inverse @ sigma @ inverse.mT)
        # What is within a factor of 3 of the diagonal's is left as it is.
        assert float(left.max() / left.min()) < 10
        assert condition > 500

    @pytest.mark.parametrize("kind", ["its own", "heavy tails", "unrelated"])
    def test_white_noise_has_no_directions(self, kind: str) -> None:
        """As many draws as make λmax / λmin of the covariance 12, with 500 coordinates."""
        generator = torch.Generator().manual_seed(2)
        draws = torch.randn(1600, 500, generator=generator, dtype=torch.float64)
        scores = -draws
        if kind == "heavy tails":
            draws = draws / draws[torch.randperm(1600, generator=generator)].abs().clamp(min=0.3)
            scores = -5 * draws / (4 + draws.square())
        if kind == "unrelated":
            scores = torch.randn(1600, 500, generator=generator, dtype=torch.float64)
        widths = torch.linalg.eigvalsh(draws.mT.cov())
        assert float(widths[-1] / widths[0]) > 10
        _, condition = low_rank_metric(seen(draws, scores), DOUBLE)
        assert condition < 3

    def test_too_little_is_said_to_be(self) -> None:
        few = torch.randn(32, 20, generator=torch.Generator().manual_seed(3))
        for draws, chains in ((few, 16), (few[:, :2], 2), (few[:, :1], 16)):
            metric, condition = low_rank_metric(seen(draws, -draws, chains), DOUBLE)
            assert metric is None
            assert math.isnan(condition)

    def test_many_states_are_thinned(self) -> None:
        window = Scores(64, 1024, torch.device("cpu"))
        q = torch.zeros(64, 1, 1024)
        for _ in range(1000):
            window.see(q, q)
        assert len(window._draws) <= window._most + 1


class TestTrajectories:
    def test_they_are_those_in_rescaled_coordinates(self) -> None:
        """With y = L⁻¹ q, the energy V(y) = U(L y) has the same leapfrog steps under M = I."""
        generator = torch.Generator().manual_seed(4)
        basis, _ = torch.linalg.qr(torch.randn(5, 2, generator=generator).double())
        stretch = torch.tensor([2.0, -0.5], dtype=torch.float64)
        metric = Metric(torch.rand(1, 5, generator=generator).double() + 0.5, basis, stretch)
        q, p = torch.randn(2, 3, 1, 5, generator=generator).double()
        bend = factor(metric)

        def energies(q: Tensor) -> tuple[Tensor, Tensor]:
            return (q**4).sum(-1) / 4, q**3

        def rounded(y: Tensor) -> tuple[Tensor, Tensor]:
            energy, gradient = energies(y @ bend.mT)
            return energy, gradient @ bend

        y = q @ bend.mT.inverse()
        step = torch.full((3, 1, 1), 0.1, dtype=torch.float64)
        plain = Metric(torch.ones(1, 5, dtype=torch.float64))
        outcomes = []
        for at, field, chosen in ((q, energies, metric), (y, rounded, plain)):
            energy, gradient = field(at)
            travel = partial(leapfrog, field, 3, len(chosen.tensors))
            moved = travel(at, p, gradient, step, *chosen.tensors)
            q1, p1, energy1, gradient1 = moved
            log_u = torch.full_like(energy, -50.0)
            before = (at, energy, gradient, p)
            after = (q1, energy1, gradient1, p1)
            outcomes.append((p1, *accept_step(*before, *after, log_u, *chosen.tensors)))
        (p1, q1, energy1, _, *rest), (p2, y2, energy2, _, *expected) = outcomes
        torch.testing.assert_close(p1, p2)
        torch.testing.assert_close(q1, y2 @ bend.mT)
        torch.testing.assert_close(energy1, energy2)
        torch.testing.assert_close(rest, expected)


class TestSampling:
    @staticmethod
    def gaussian(root: Tensor) -> None:
        pyro.sample("z", dist.MultivariateNormal(torch.zeros(len(root)), scale_tril=root))

    @pytest.mark.long
    def test_a_correlated_gaussian(self) -> None:
        sigma = covariance(8, 1e4)
        root = torch.linalg.cholesky(sigma).float()
        options = {"draws": 150, "warmup": 200, "chains": 32, "engine": "fx", "seed": 0}
        draws = hmc(self.gaussian, root, **options)
        assert draws.settings["condition"] > 100
        assert draws.settings["directions"] > 2
        assert draws.settings["leapfrogs"] < 8
        assert draws.max_r_hat < 1.02
        z = draws.mean["z"] / draws.mcse["z"]
        assert float(z.abs().max()) < 4
        spread = (draws.sd["z"] - sigma.diagonal().sqrt()) / draws.mcse_sd["z"]
        assert float(spread.abs().max()) < 4

    @pytest.mark.long
    def test_a_round_one_keeps_its_diagonal(self) -> None:
        options = {"draws": 10, "warmup": 60, "chains": 16, "engine": "fx", "seed": 0}
        draws = hmc(self.gaussian, torch.tensor([0.1, 1.0, 10.0]).diag(), **options)
        assert draws.settings["directions"] == 0
        assert draws.settings["condition"] < 3
