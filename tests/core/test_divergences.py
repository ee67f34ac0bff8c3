"""Closed forms of KL(q ‖ p) against those of torch, by trace and determinant, and by draws."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from ppl_gen.distributions import LogScaleNormal
from ppl_gen.divergences import closed_divergence
from ppl_gen.protocols import Distribution

D = 4


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.manual_seed(0)


def _rand(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def _full() -> Distribution:
    scale_tril = _rand(3, D, D).tril(-1) + _rand(3, D).exp().diag_embed()
    return dist.MultivariateNormal(_rand(3, D), scale_tril=scale_tril)


def _low_rank() -> Distribution:
    return dist.LowRankMultivariateNormal(_rand(3, D), _rand(3, D, 2), _rand(3, D).exp())


@pytest.mark.parametrize("make", [_full, _low_rank])
def test_to_a_standard_normal_by_trace_and_log_determinant(make) -> None:
    q = make()
    zero = torch.zeros(D, dtype=torch.float64)
    covariance = q.covariance_matrix
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    expected = 0.5 * (trace + q.mean.square().sum(-1) - D - covariance.logdet())
    for p in (LogScaleNormal(zero, zero).to_event(1), dist.Normal(zero, 1.0).to_event(1)):
        torch.testing.assert_close(kl_divergence(q, p), expected)


@pytest.mark.parametrize("make", [_full, _low_rank])
def test_to_a_normal_of_other_moments_it_is_torchs_of_the_same_covariances(make) -> None:
    q = make()
    p = LogScaleNormal(_rand(3, D), _rand(3, D)).to_event(1)
    same_p = dist.MultivariateNormal(p.mean, p.variance.diag_embed())
    same_q = dist.MultivariateNormal(q.mean, q.covariance_matrix)
    torch.testing.assert_close(kl_divergence(q, p), kl_divergence(same_q, same_p))


def test_of_log_scales_it_is_that_of_normals_and_stays_finite_far_out() -> None:
    q = LogScaleNormal(_rand(3, D), _rand(3, D))
    p = LogScaleNormal(_rand(D), _rand(D))
    expected = kl_divergence(dist.Normal(q.loc, q.scale), dist.Normal(p.loc, p.scale))
    torch.testing.assert_close(kl_divergence(q, p), expected)
    narrow = LogScaleNormal(torch.zeros(1), torch.tensor([-200.0]))  # whose scale is 0
    wide = LogScaleNormal(torch.zeros(1), torch.zeros(1))
    assert float(kl_divergence(narrow, wide)) == pytest.approx(199.5)


def test_what_has_no_closed_form_is_none() -> None:
    zero = torch.zeros(D)
    laplace = dist.Laplace(zero, 1.0).to_event(1)
    two_axes = dist.Normal(torch.zeros(2, D), 1.0).to_event(2)
    gaussian = dist.MultivariateNormal(zero, torch.eye(D))
    assert closed_divergence(gaussian, laplace) is None
    assert closed_divergence(gaussian, two_axes) is None
