"""The laws of a likelihood: a density or mass of its own draws, with its mean and its gradient."""

from __future__ import annotations

__all__ = ["DENSITY_LAWS", "Case", "check_likelihood"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen.contexts import copied, evaluating, forked
from ppl_gen.integrals import Integrals, integrals
from ppl_gen.protocols import Conditional, Distribution
from ppl_gen.sites import unwrapped
from ppl_gen.supports import support_of

_DRAWS = 4000
_MOST = 4096  # values that are integrated at once
# Of the largest difference between two distribution functions, times √n: chance goes beyond it
# three times in a million.
_FAR = 2.6
_STEP = 1e-7  # of a finite difference, in units of 1 + |η|
# What integrals are off by: nodes are rounded in single precision, and peaks may be hidden.
_ROUNDING = 2e-3
_KINKS = 5e-3  # of slopes, a finite difference across a kink being no slope
_LAST_DIGITS = 1e-6  # of a mean in single precision


@dataclass(frozen=True)
class Case:
    """Single numbers with a distribution each, draws of them, and the integrals of its density.

    Attributes:
        d: The distribution, of event shape ().
        draws: Of d, (n, *batch).
        over: The integrals of d.
        likelihood: What gave d, in the precision of the draws; None if not known.
        parameters: η, what it was given, (*batch) or (*batch, P); None if not known.
    """

    d: Any
    draws: Tensor
    over: Integrals
    likelihood: Conditional | None = None
    parameters: Tensor | None = None

    @classmethod
    def of(
        cls,
        d: Distribution,
        likelihood: Conditional | None = None,
        parameters: Tensor | None = None,
    ) -> Case | None:
        """With draws of d and its integrals; None where d is not of single numbers, or has none.

        Args:
            d: Any distribution.
            likelihood: What gave it.
            parameters: What that was given.
        """
        d = unwrapped(d, masks=True)
        if d.event_shape or math.prod(d.batch_shape) > _MOST:
            return None
        try:
            draws = d.sample((_DRAWS,))
            if draws.shape != (_DRAWS, *d.batch_shape):  # as of Pyro's TruncatedPolyaGamma
                return None
            over = integrals(d, draws)
        except NotImplementedError:  # draws, or a density, are what it does not have
            return None
        if over is None:
            return None
        return cls(d=d, draws=draws, over=over, likelihood=likelihood, parameters=parameters)

    def expect_small(self, what: str, error: Tensor, most: Tensor | float) -> None:
        """Raises AssertionError if the error of a value is above `most`, or is no number.

        Args:
            what: What should hold.
            error: Of each value, (*batch).
            most: What it may be.
        """
        is_wrong = ~(error.abs() <= most) & self.over.is_resolved
        if not bool(is_wrong.any()):
            return
        index = tuple(is_wrong.nonzero()[0].tolist())
        where = ""
        if self.parameters is not None:
            where = f" at the parameters {self.parameters[index].tolist()} in {self.draws.dtype}"
        raise AssertionError(f"{what}: off by {float(error[index]):.3g}{where}")


def _is_a_density(case: Case) -> None:
    case.expect_small("∫ p(x) dx = 1", case.over.mass - 1, _ROUNDING)


def _has_the_mean_that_it_claims(case: Case) -> None:
    if isinstance(case.d, torch.distributions.VonMises):  # the mean of angles is a direction
        return
    try:
        mean = case.d.mean.double()
    except NotImplementedError:
        return
    most = _ROUNDING * case.over.deviation + _LAST_DIGITS * mean.abs()
    exists = torch.isfinite(most)  # Cauchy's does not
    error = torch.where(exists, mean - case.over.mean, 0.0)
    case.expect_small("mean = ∫ x p(x) dx", error, most.nan_to_num())


def _draws_what_it_scores(case: Case) -> None:
    is_outside = ~support_of(case.d).check(case.draws)
    case.expect_small("draws lie in the support", is_outside.double().mean(0), 0.0)
    draws = case.draws.double().movedim(0, -1).contiguous().sort(-1).values
    edges = case.over.edges.movedim(0, -1).contiguous()
    drawn = torch.searchsorted(draws, edges, right=True) / _DRAWS
    scored = case.over.masses.cumsum(0).movedim(0, -1)
    distance = (drawn - scored).abs().amax(-1)
    most = _FAR / _DRAWS**0.5 + _ROUNDING
    case.expect_small("P(draw ≤ x) = ∫ˣ p(t) dt", distance, most)


def _has_the_gradient_of_its_density(case: Case) -> None:
    if case.likelihood is None or case.parameters is None:
        return
    x = case.over.x
    given = case.parameters.expand(len(x), *case.parameters.shape).clone().requires_grad_()
    with torch.enable_grad():
        total = unwrapped(case.likelihood(given), masks=True).log_prob(x).sum()
    (gradient,) = torch.autograd.grad(total, given)
    slopes = _slopes(case.likelihood, given.detach().double(), x.double())
    error = _average(case.over.weights, gradient - slopes)
    most = _KINKS * (_average(case.over.weights, slopes) + 1e-3)
    case.expect_small("∇ log p(x | η) is its slope", error, most)


def _average(weights: Tensor, slopes: Tensor) -> Tensor:
    """Σ |slope|, weighted, over nodes and the parameters of a value, (*batch)."""
    sizes = slopes.abs().reshape(*weights.shape, -1).sum(-1)
    return torch.where(weights > 0, weights * sizes, 0.0).sum(0)


def _slopes(likelihood: Conditional, parameters: Tensor, x: Tensor) -> Tensor:
    """∂ log p(x | η)/∂η by central differences in double precision, of the shape of η."""
    exact = _in_type(likelihood, torch.float64)
    if parameters.dim() == x.dim():
        columns = [torch.ones_like(parameters)]
    else:
        size = parameters.shape[-1]
        columns = list(torch.eye(size, dtype=parameters.dtype, device=parameters.device))
    slopes = torch.zeros_like(parameters)
    for column in columns:
        step = _STEP * (1 + parameters.abs()) * column
        above = unwrapped(exact(parameters + step), masks=True).log_prob(x)
        below = unwrapped(exact(parameters - step), masks=True).log_prob(x)
        rise = (above - below).reshape(*x.shape, *(1,) * (parameters.dim() - x.dim()))
        slopes = slopes + torch.where(column > 0, rise / (2 * step), 0.0)
    return slopes


def _in_type(likelihood: Conditional, dtype: torch.dtype) -> Conditional:
    """A copy of a module with weights of a type; a function follows its argument as it is."""
    if not isinstance(likelihood, nn.Module):
        return likelihood
    return copied(likelihood).to(dtype)


DENSITY_LAWS: dict[str, Callable[[Case], None]] = {
    "it integrates to one": _is_a_density,
    "it has the mean that it claims": _has_the_mean_that_it_claims,
    "it draws what it scores": _draws_what_it_scores,
    "its gradient is its slope": _has_the_gradient_of_its_density,
}


def check_likelihood(likelihood: Conditional, parameters: Tensor, *, seed: int = 0) -> None:
    """Holds a likelihood against every law in `DENSITY_LAWS`, in single and double precision.

    Integrals are by quadrature around draws, or sums over the support.

    Args:
        likelihood: Any conditional whose values are single numbers.
        parameters: η, what a decoder may give it, as extreme as it may be: (N,), or (N, P) for a
            likelihood that takes P numbers per value.
        seed: Seed of all draws; the global generator is left as it was.

    Raises:
        ValueError: If the values are not single numbers in an interval or a list.
        AssertionError: Names the law that is broken, what it is off by, and at which parameters.

    Examples:
        >>> import pyro.distributions as dist
        >>> check_likelihood(lambda loc: dist.StudentT(4.0, loc, 0.1), torch.tensor([-9.0, 0, 9]))
    """
    for dtype in (torch.float32, torch.float64):
        cast = _in_type(likelihood, dtype)
        given = parameters.to(dtype)
        with evaluating(cast), forked(given.device, seed):
            d = cast(given)
            case = Case.of(d, cast, given)
            if case is None:
                raise ValueError(
                    "expected a likelihood of single numbers, in an interval or a list, got "
                    f"{type(d).__name__} of event shape {tuple(d.event_shape)} and support "
                    f"{d.support}; hold a program with it against the laws (check_program)"
                )
            for name, law in DENSITY_LAWS.items():
                try:
                    law(case)
                except AssertionError as error:
                    raise AssertionError(f"law broken, {name!r}: {error}") from None
