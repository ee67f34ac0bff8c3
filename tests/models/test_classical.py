"""Classical density models: exact evidence, beside scikit-learn's, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from pyro import poutine
from sklearn.decomposition import FactorAnalysis as Analysis
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from ppl_gen import data
from ppl_gen.inference import log_evidence
from ppl_gen.models import factor_analysis, gaussian, gaussian_mixture, ppca, toy
from ppl_gen.program import simulate

FITS: dict[str, Callable[[Tensor], nn.Module]] = {
    "gaussian": gaussian,
    "mixture": lambda x: gaussian_mixture(x, 3),
    "factor analysis": lambda x: factor_analysis(x, 4),
    "ppca": lambda x: ppca(x, 4),
}


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.mark.parametrize("name", FITS)
def test_importance_weights_are_the_evidence(name: str, digits: data.Dataset) -> None:
    """The guide is the exact posterior."""
    program = FITS[name](digits.train.x.double())
    x = digits.test.x[:20].double()
    found = log_evidence(program, None, x, particles=3, seed=0)
    torch.testing.assert_close(found.value, program.exact_log_evidence(x), rtol=1e-6, atol=1e-6)
    assert float(found.standard_error.max()) < 1e-6


def test_they_are_those_of_scikit_learn(digits: data.Dataset) -> None:
    x = digits.train.x.double()
    flat = x.flatten(1).numpy()
    mixture = GaussianMixture(3, reg_covar=1e-4, random_state=0, max_iter=500).fit(flat)
    found = gaussian_mixture(x, 3).exact_log_evidence(x)
    torch.testing.assert_close(found, torch.as_tensor(mixture.score_samples(flat)))
    noisy = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    analysis = Analysis(4, svd_method="lapack", max_iter=5000, tol=1e-4)
    analysis.fit(noisy.flatten(1).numpy())
    expected = torch.as_tensor(analysis.score_samples(noisy.flatten(1).numpy()))
    torch.testing.assert_close(factor_analysis(noisy, 4).exact_log_evidence(noisy), expected)


def test_a_gaussian_has_the_moments_of_its_data(digits: data.Dataset) -> None:
    x = digits.train.x
    program = gaussian(x)
    torch.manual_seed(0)
    drawn = simulate(program, 4000)
    assert drawn.shape == (4000, 1, 8, 8)
    error = x.std(0) / 4000**0.5 + 1e-3
    assert bool(((drawn.mean(0) - x.mean(0)).abs() < 5 * error).all())
    mean = poutine.trace(program.model).get_trace(x[:2]).nodes["x"]["fn"].mean
    torch.testing.assert_close(mean[0], x.mean(0))


def test_ppca_is_the_toy_of_images(digits: data.Dataset) -> None:
    x = digits.train.x
    exact = toy.PPCA.maximum_likelihood(x.flatten(1), 10)
    found = ppca(x, 10).exact_log_evidence(digits.test.x)
    torch.testing.assert_close(found, exact.exact_log_evidence(digits.test.x.flatten(1)))
    assert float(found.mean()) == pytest.approx(16.6285, abs=1e-3)


def test_more_freedom_fits_the_training_data_better(digits: data.Dataset) -> None:
    x = digits.train.x.double()
    evidence = {name: float(fit(x).exact_log_evidence(x).mean()) for name, fit in FITS.items()}
    assert evidence["mixture"] > evidence["gaussian"] > evidence["ppca"]
    assert evidence["factor analysis"] > evidence["ppca"]


class TestBadInput:
    def test_too_few_data(self) -> None:
        with pytest.raises(ValueError, match=r"expected data .* of at least 5 rows"):
            gaussian_mixture(torch.randn(4, 3), 5)
        with pytest.raises(ValueError, match=r"expected data .* of at least 2 rows"):
            gaussian(torch.randn(1, 3))

    def test_numbers_out_of_range(self) -> None:
        x = torch.randn(9, 3)
        with pytest.raises(ValueError, match="ridge"):
            gaussian(x, ridge=0.0)
        with pytest.raises(ValueError, match="components"):
            gaussian_mixture(x, 0)
        with pytest.raises(ValueError, match="components as a whole number"):
            gaussian_mixture(x, 2.5)
        with pytest.raises(ValueError, match="a latent dimension as a whole number"):
            factor_analysis(x, 1.5)
        with pytest.raises(ValueError, match=re.escape("from 1 to 3, got 4")):
            factor_analysis(x, 4)
        with pytest.raises(ValueError, match=re.escape("from 1 to 2, got 3")):
            ppca(x, 3)
