"""∫ p(x) dx and ∫ x p(x) dx of distributions of single numbers, value by value."""

from __future__ import annotations

__all__ = ["Integrals", "integrals"]

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from pyro.distributions import constraints
from torch import Tensor

from ppl_gen.protocols import Distribution
from ppl_gen.supports import support_of

_NODES = 12  # of Gauss and Legendre's rule in each interval
# Intervals double from 2⁻⁴⁰ of the width of the draws, away from their median and from either end
# of the support, up to 2²⁴ of it.
_DOUBLINGS = torch.arange(-40.0, 25.0, dtype=torch.float64).exp2()
_AMONG = 64  # intervals that end at draws, lest a second peak be missed
_MOST = 20_000  # numbers in the list of a mass
_SHORT = 2.0**-35  # of the width of the draws
_AT_A_POLE = 1e-4  # of the mass, in short intervals
_RESOLUTION = 1000  # floating point numbers in the width of the draws


class Integrals(NamedTuple):
    """What the integrals of a density, or the sums of a mass, come to, in double precision.

    Attributes:
        x: The nodes, (M, *batch), in the type of the draws.
        weights: p(x) times the length that a node stands for, (M, *batch).
        edges: The upper ends of intervals, ascending, (J, *batch).
        masses: The integral over each interval, (J, *batch).
        is_resolved: Where the nodes suffice: there is no pole at an end of the support, and draws
            differ by more than their last digits, (*batch).
    """

    x: Tensor
    weights: Tensor
    edges: Tensor
    masses: Tensor
    is_resolved: Tensor

    @property
    def mass(self) -> Tensor:
        """∫ p(x) dx, (*batch)."""
        return self.masses.sum(0)

    @property
    def mean(self) -> Tensor:
        """∫ x p(x) dx / ∫ p(x) dx, (*batch)."""
        return (self.weights * self.x).sum(0) / self.mass

    @property
    def deviation(self) -> Tensor:
        """√(∫ (x − mean)² p(x) dx / ∫ p(x) dx), (*batch)."""
        square = (self.x - self.mean).square()
        return ((self.weights * square).sum(0) / self.mass).sqrt()


def integrals(d: Distribution, draws: Tensor) -> Integrals | None:
    """The integrals of every value's density by quadrature, or the sums of its mass.

    The intervals follow the draws, so that a peak is found however narrow it is.

    Args:
        d: A distribution of single numbers, of event shape ().
        draws: Of d, (n, *batch), some thousand.

    Returns:
        None if the support is neither an interval nor a list of numbers.
    """
    support = support_of(d)
    if support is None or support.event_dim > 0:
        return None
    if support.is_discrete:
        return _of_mass(d, support, draws)
    return _of_density(d, support, draws)


def _of_mass(d: Distribution, support: Any, draws: Tensor) -> Integrals | None:
    x = _listed(d, support, draws)
    if x is None:
        return None
    masses = d.log_prob(x).double().exp()
    numbers = x.double()
    midpoints = (numbers[:-1] + numbers[1:]) / 2
    edges = torch.cat([midpoints, torch.full_like(numbers[:1], math.inf)])
    return Integrals(
        x=x,
        weights=masses,
        edges=edges,
        masses=masses,
        is_resolved=torch.ones(x.shape[1:], dtype=torch.bool, device=x.device),
    )


def _listed(d: Distribution, support: Any, draws: Tensor) -> Tensor | None:
    """The values that a mass is on, ascending, (M, *batch); None if there are too many."""
    ones = (1,) * (draws.dim() - 1)
    if d.has_enumerate_support:
        values = d.enumerate_support(expand=False)
    elif hasattr(support, "lower_bound"):
        # Far beyond all draws: no tail is as heavy as the draws are many.
        most = 3 * float(draws.max()) + 50
        if most > _MOST:
            return None
        values = torch.arange(float(support.lower_bound), most).to(draws)
    else:
        return None
    return values.reshape(-1, *ones).expand(-1, *draws.shape[1:])


def _of_density(d: Distribution, support: Any, draws: Tensor) -> Integrals | None:
    ends = _ends(support)
    if ends is None:
        return None
    ascending = draws.double().sort(0).values
    quarter = len(ascending) // 4
    centre = ascending[2 * quarter]
    width = ascending[3 * quarter] - ascending[quarter]
    among = ascending[:: max(1, len(ascending) // _AMONG)]
    edges = torch.cat([among, _edges(centre, width, *ends)]).sort(0).values
    lengths = edges.diff(dim=0)
    abscissae, quadrature = (
        torch.as_tensor(numbers, device=draws.device)
        for numbers in np.polynomial.legendre.leggauss(_NODES)
    )
    columns = (-1, *(1,) * edges.dim())
    x = edges[:-1] + lengths * (abscissae.reshape(columns) + 1) / 2
    x = x.flatten(0, 1).to(draws.dtype)
    density = d.log_prob(x).double().exp()
    # Nodes that rounding has put on an end, where some densities are 0 · ∞.
    is_at_an_end = (x == edges[0].to(x)) | (x == edges[-1].to(x))
    density = torch.where(is_at_an_end & density.isnan(), 0.0, density).unflatten(0, (_NODES, -1))
    weights = torch.where(lengths > 0, density * lengths * quadrature.reshape(columns) / 2, 0.0)
    masses = weights.sum(0)
    digits = torch.finfo(draws.dtype).eps * centre.abs()
    return Integrals(
        x=x,
        weights=weights.flatten(0, 1),
        edges=edges[1:],
        masses=masses,
        is_resolved=(width > _RESOLUTION * digits) & _has_no_pole(masses, lengths, width),
    )


def _ends(support: Any) -> tuple[Any, Any] | None:
    """The ends of an interval, which may be infinite; None of a support that is no interval."""
    if isinstance(support, type(constraints.real)):
        return -math.inf, math.inf
    lower = getattr(support, "lower_bound", -math.inf)
    upper = getattr(support, "upper_bound", math.inf)
    if not hasattr(support, "lower_bound") and not hasattr(support, "upper_bound"):
        return None
    return lower, upper


def _edges(centre: Tensor, width: Tensor, lower: Any, upper: Any) -> Tensor:
    """Where intervals begin and end, ascending, (J + 1, *batch)."""
    lower, upper = (torch.as_tensor(end).to(centre).expand_as(centre) for end in (lower, upper))
    steps = width * _DOUBLINGS.to(centre).reshape(-1, *(1,) * centre.dim())
    edges = [centre[None], centre - steps, centre + steps]
    for end, inwards in ((lower, steps), (upper, -steps)):
        if bool(torch.isfinite(end).all()):
            edges += [end[None], end + inwards]
    return torch.cat(edges).clamp(lower, upper).sort(0).values


def _has_no_pole(masses: Tensor, lengths: Tensor, width: Tensor) -> Tensor:
    """Whether hardly any mass is in intervals so short that only a pole could give them some."""
    in_short_ones = torch.where(lengths < _SHORT * width, masses, 0.0).sum(0)
    return ~(in_short_ones > _AT_A_POLE)
