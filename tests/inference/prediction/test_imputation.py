"""What is missing is drawn from its conditional distribution, exactly known for PPCA."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from posteriors import PartlySeen, ppca
from programs import PROGRAMS, digits
from torch import Tensor

from ppl_gen.inference import Imputation, hmc, impute
from ppl_gen.likelihoods import Bernoulli, Masked
from ppl_gen.models import cvae, vae
from ppl_gen.program import simulate

MOST = 1e-5  # of rounding, in single precision
DRAWS = 1000


def data(n: int) -> tuple[Tensor, Tensor]:
    x = digits().x[:n].flatten(1)
    generator = torch.Generator().manual_seed(0)
    return x, torch.rand(x.shape, generator=generator) < 0.3


def standardised(found: Imputation, seen: PartlySeen, x: Tensor) -> Tensor:
    """How many standard errors each imputed mean is off the exact one."""
    missed = []
    for i, row in enumerate(x):
        mean, _ = seen.exact_conditional(row)
        hole = row.isnan()
        missed.append((found.mean[i, hole] - mean) / (found.standard_error[i, hole] + MOST))
    return torch.cat(missed)


@pytest.fixture(scope="module")
def imputed() -> tuple[PartlySeen, Tensor, Tensor, Imputation]:
    seen = PartlySeen(ppca(), widening=1.2)
    x, mask = data(6)
    return seen, x, mask, impute(seen.program, x, mask, particles=4000, draws=DRAWS, seed=1)


class TestPPCA:
    """Its conditionals are Gaussian."""

    def test_means_are_the_exact_ones_within_four_errors(self, imputed: Any) -> None:
        seen, x, mask, found = imputed
        z = standardised(found, seen, x.masked_fill(mask, torch.nan))
        assert float(z.abs().max()) < 4
        assert float(z.square().mean()) < 2

    def test_draws_have_the_exact_moments(self, imputed: Any) -> None:
        seen, x, mask, found = imputed
        for i in range(len(x)):
            mean, covariance = seen.exact_conditional(x[i].masked_fill(mask[i], torch.nan))
            drawn = found.draws[:, i, mask[i]].double()
            sd = covariance.diagonal().sqrt()
            effective = 1 / (1 / DRAWS + 1 / float(found.ess[i]))
            assert float(((drawn.mean(0) - mean) / sd).abs().max()) < 4.5 / effective**0.5
            ratio = torch.cov(drawn.T) - covariance
            error = (covariance.square() + torch.outer(sd**2, sd**2)) / effective
            assert float((ratio / error.sqrt()).abs().max()) < 5.5  # of some 200 entries

    def test_intervals_hold_the_share_that_they_say(self, imputed: Any) -> None:
        seen, x, mask, found = imputed
        lower, upper = found.interval(0.8)
        held = []
        for i in range(len(x)):
            mean, covariance = seen.exact_conditional(x[i].masked_fill(mask[i], torch.nan))
            normal = torch.distributions.Normal(mean, covariance.diagonal().sqrt())
            held.append(normal.cdf(upper[i, mask[i]]) - normal.cdf(lower[i, mask[i]]))
        share = torch.cat(held)
        assert float((share - 0.8).abs().max()) < 4.5 * (2 * 0.1 * 0.9 / DRAWS) ** 0.5 * 1.5
        assert lower[~mask].equal(x[~mask])

    def test_what_is_observed_stays(self, imputed: Any) -> None:
        _, x, mask, found = imputed
        assert found.mean[~mask].equal(x[~mask])
        assert found.draws[:, ~mask].equal(x[~mask].expand(DRAWS, -1))
        assert found.standard_error[~mask].eq(0).all()
        assert found.missing.equal(mask)
        assert found.verdict.tags == ("reliable",)
        assert len(found.to_pandas()) == int(mask.sum())

    def test_intervals_cover_what_was_hidden(self) -> None:
        """Of data that the program has drawn; 90 % up to 0.7 % of counting, data by data."""
        seen = PartlySeen(ppca(), widening=1.1)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            x = simulate(seen.ppca, 150)
        mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(6)) < 0.3
        found = impute(seen.program, x, mask, particles=200, draws=200, seed=7)
        lower, upper = found.interval(0.9)
        is_inside = ((lower <= x) & (x <= upper) & mask).sum(1).double()
        count = mask.sum(1).double()
        share = is_inside.sum() / count.sum()
        error = (is_inside - share * count).square().sum().sqrt() / count.sum()
        assert 0.003 < error <= 0.007
        assert 0.88 <= share <= 0.92

    def test_of_data_that_are_hidden_altogether_the_answer_is_the_prior(self) -> None:
        """Under the prior as a guide, each draw counts the same: x ~ N(μ, WWᵀ + σ²I)."""
        seen = PartlySeen(ppca())
        x, mask = data(3)
        mask[1] = True
        found = impute(seen.program, x, mask, particles=2000, draws=DRAWS, seed=2)
        assert float(found.ess[1]) == pytest.approx(2000, rel=1e-3)
        loc = seen.ppca.loc
        z = (found.mean[1] - loc) / (found.standard_error[1] + MOST)
        assert float(z.abs().max()) < 4
        sd = (seen.ppca.weight.square().sum(1) + seen.ppca.scale.square()).sqrt()
        assert float((found.draws[:, 1].std(0) / sd - 1).abs().max()) < 5 / (2 * DRAWS) ** 0.5
        everything = impute(seen.program, x, mask | True, particles=500, draws=20, seed=2)
        assert everything.missing.all()
        assert everything.verdict.passes

    @pytest.mark.long
    def test_draws_of_mcmc_do_as_well(self) -> None:
        seen = PartlySeen(ppca())
        x, mask = data(2)
        x = x.masked_fill(mask, torch.nan)
        posterior = hmc(seen.program.model, x, draws=50, warmup=100, chains=16, local=True, seed=0)
        found = impute(seen.program, x, posterior=posterior, seed=0)
        assert found.k_hat is None
        assert float(standardised(found, seen, x).abs().max()) < 4
        with pytest.raises(ValueError, match=r"draws for each of 1 data.*local=True"):
            impute(seen.program, x[:1], posterior=posterior)


def test_a_guide_that_is_far_off_is_said() -> None:
    torch.manual_seed(0)
    program: Any = vae((1, 8, 8), 10, hidden=(8,), likelihood=Masked(Bernoulli()))
    program.decoder[0][-1].weight.data *= 30
    x = digits(binarize="threshold").x[:4]
    found = impute(program, x, x > 0.5, particles=100, draws=5, seed=0)
    assert not found.verdict.passes
    assert found.verdict.tags[0] == "unreliable"
    assert "give draws: impute(..., posterior=hmc" in found.verdict
    assert found.draws.unique().tolist() == [0.0, 1.0]


def test_a_table_and_a_context() -> None:
    program, x, _ = PROGRAMS["vae, a table with holes"]()
    found = impute(program, x, particles=50, draws=30, seed=0)
    assert found.draws[:, 2, 1].unique().tolist() == [0.0, 1.0]
    assert set(found.draws[:, 3, 3].tolist()) <= {0.0, 1.0, 2.0}
    conditional = cvae((1, 8, 8), 2, classes=10, hidden=(8,), likelihood=Masked(Bernoulli()))
    images = digits(binarize="threshold").x[:3]
    labels = torch.tensor([1, 2, -1])
    found = impute(conditional, images, torch.rand_like(images) < 0.5, labels, particles=50, seed=0)
    assert found.mean.shape == images.shape


X = digits(binarize="threshold").x[:3]
PROGRAM = vae((1, 8, 8), 2, hidden=(4,), likelihood=Masked(Bernoulli()))
BAD: dict[str, tuple[Any, str]] = {
    "nothing missing": ((PROGRAM, X), "expected data with missing entries, got none: mark them"),
    "a mask of numbers": ((PROGRAM, X, torch.zeros_like(X)), "a mask of booleans of shape .*True"),
    "a mask of another shape": ((PROGRAM, X, X[0] > 0), r"a mask of booleans of shape \(3, 1, 8"),
    "a context for a mask": ((PROGRAM, X, torch.zeros(3)), "a context comes after it: impute"),
    "whole numbers": ((PROGRAM, X.long(), X > 0), r"floating point numbers, got torch.int64"),
    "no mask is meant": (
        (vae((1, 8, 8), 2, hidden=(4,)), X, X > 0),
        r"expected finite data, got NaN; .*likelihoods\.Masked",
    ),
}


@pytest.mark.parametrize("wrong", BAD)
def test_bad_input(wrong: str) -> None:
    given, said = BAD[wrong]
    with pytest.raises(ValueError, match=said):
        impute(*given)
