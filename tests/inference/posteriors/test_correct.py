"""Posteriors are corrected by the route that the weights allow, and come out as the exact ones."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from posteriors import ppca, rough
from programs import digits
from torch import Tensor, nn

from ppl_gen import models
from ppl_gen.inference import Corrected, correct, sbc
from ppl_gen.models import toy

N = 6


class ByRow:
    """A guide of three qualities, told apart by a context."""

    def __init__(self, program: toy.PPCA) -> None:
        self.ppca = program

    def model(self, x: Tensor | None = None, kind: Any = None, *, n: int = 1) -> Any:
        return self.ppca.model(x, n=n)

    def guide(self, x: Tensor, kind: Tensor) -> Tensor:
        posterior = self.ppca.exact_posterior(x)
        kind = kind.long()
        shift = torch.tensor([0.0, 0.2, 1.0])[kind][:, None] * posterior.stddev
        wide = torch.tensor([1.0, 1.3, 0.3])[kind][:, None, None]
        with pyro.plate("data", x.shape[0]):
            return pyro.sample(
                "z",
                dist.MultivariateNormal(
                    posterior.mean + shift, scale_tril=wide * posterior.scale_tril
                ),
            )


@pytest.fixture(scope="module")
def corrected() -> tuple[toy.PPCA, Tensor, Corrected]:
    program = ppca()
    x = digits().x[:N].flatten(1)
    kind = torch.arange(N) % 3
    found = correct(ByRow(program), x, kind.float(), particles=4000, engine="fx", seed=0)
    return program, x, found


class TestPPCA:
    """Its posterior is Gaussian."""

    def test_each_datum_goes_the_way_that_its_weights_allow(self, corrected: Any) -> None:
        _, _, found = corrected
        assert found.how.tolist() == ["guide", "weighted", "hmc"] * (N // 3)
        assert found.shares == pytest.approx({"guide": 1 / 3, "weighted": 1 / 3, "hmc": 1 / 3})
        assert found.verdict.tags == ("corrected",)

    def test_means_are_the_exact_ones_within_their_errors(self, corrected: Any) -> None:
        program, x, found = corrected
        exact = program.exact_posterior(x)
        z = (found.mean["z"] - exact.mean) / found.error["z"]
        assert float(z.abs().max()) < 4.5
        off = (found.mean["z"] - exact.mean) / exact.stddev
        assert float(off.square().mean().sqrt()) < 0.05

    def test_draws_have_the_exact_moments(self, corrected: Any) -> None:
        program, x, found = corrected
        exact = program.exact_posterior(x)
        drawn = found.draws["z"]
        off = (drawn.mean(0) - exact.mean) / exact.stddev
        # Of a draw of draws, whose sizes are at least 400 and 1000.
        assert float(off.abs().max()) < 4.5 * (1 / 400 + 1 / 1000) ** 0.5
        assert float((drawn.std(0) / exact.stddev - 1).abs().max()) < 0.2
        assert found.log_density.shape == drawn.shape[:2]

    def test_the_bound_holds_and_is_not_stated_where_k_hat_is_high(self, corrected: Any) -> None:
        program, x, found = corrected
        exact = program.exact_posterior(x)
        kind = torch.arange(N) % 3
        shift = torch.tensor([0.0, 0.2, 1.0])[kind]
        width = torch.tensor([1.0, 1.3, 0.3])[kind]
        off = shift / width  # of each mean, in standard deviations of the guide
        stated = ~found.bound.isnan()
        assert stated.tolist() == [True, True, False] * (N // 3)
        assert bool((off[stated] <= found.bound[stated] + 1e-3).all())
        assert float(found.bound[0]) < 1e-2
        # χ² of a Gaussian, coordinate by coordinate: wider by s and off by d standard deviations.
        s2 = 1.3**2
        one = s2 / (2 * s2 - 1) ** 0.5 * torch.tensor(0.2**2 / (2 * s2 - 1)).exp()
        chi2 = float(one ** exact.mean.shape[1]) - 1
        assert float(found.bound[1]) == pytest.approx(chi2**0.5, rel=0.1)

    def test_it_says_how_much_hmc_cost(self, corrected: Any) -> None:
        _, _, found = corrected
        assert found.gradients > 0
        assert "33.3% hmc" in found.headline

    @pytest.mark.long
    def test_calibration_fails_before_and_passes_after(self) -> None:
        program = ppca()
        guide = rough(program)
        n = 300
        before = sbc(program, n, guide=guide, seed=0)
        assert not before.passes()

        def sampler(model: Any, x: Tensor) -> Any:
            found = correct(program, x, guide=guide, particles=1000, engine="fx", draws=200)
            return found.as_draws()

        after = sbc(program, n, sampler=sampler, seed=0)
        assert after.passes()


class TestInput:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"particles": 20}, "particles of at least 100"),
            ({"good": 1.5}, "expected good"),
            ({"draws": 4000, "particles": 200}, "raise particles"),
        ],
    )
    def test_numbers_out_of_range(self, options: Any, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            correct(models.vae((4,), 2), torch.ones(5, 4), **options)

    def test_a_model_without_continuous_latents(self) -> None:
        def model(x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                k = pyro.sample("k", dist.Categorical(torch.ones(3)))
                pyro.sample("x", dist.Normal(k.float(), 1.0), obs=x)

        def guide(x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("k", dist.Categorical(torch.ones(3)))

        program = type("Discrete", (), {"model": staticmethod(model), "guide": staticmethod(guide)})
        with pytest.raises(ValueError, match="continuous"):
            correct(program(), torch.zeros(5))

    def test_a_guide_that_leaves_out_a_part_is_mended_by_hmc(self) -> None:
        def model(x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Uniform(torch.zeros(len(x)), 1.0))

        program = type("Half", (), {"model": staticmethod(model), "guide": staticmethod(guide)})
        x = torch.tensor([-1.0, 0.0, 1.0])
        found = correct(program(), x, warmup=40, draws=500, engine="fx", seed=0)
        assert found.how.tolist() == ["hmc"] * 3
        assert found.bound.isnan().all()
        assert "support" in found.verdict.tags
        off = (found.mean["z"] - x / 2) / found.error["z"]
        assert float(off.abs().max()) < 4.5


class Shared(nn.Module):
    """Data of one unknown mean, each with a latent of its own."""

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample("z", dist.Normal(mean, 1.0))
            return pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(x / 2, 1.0))


def test_a_latent_of_all_data_is_for_posterior() -> None:
    with pytest.raises(ValueError, match=r"got the site 'mean' outside it, .* by posterior"):
        correct(Shared(), torch.zeros(4))
