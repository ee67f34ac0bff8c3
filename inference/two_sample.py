"""Do two samples come from one distribution? The permutation test of any statistic."""

from __future__ import annotations

__all__ = ["Statistic", "TwoSample", "two_sample_test"]

import functools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ppl_gen.calling import forked
from ppl_gen.inference.discrepancies import (
    squared_energy,
    squared_frechet,
    squared_mmd,
    squared_sliced_wasserstein,
)
from ppl_gen.inference.distances import energy_distance, frechet_distance, mmd, polynomial_mmd, sliced_wasserstein
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.kernels import Kernel, NegativeDistance, Polynomial, default_kernel
from ppl_gen.inference.samples import Features, as_vectors

Statistic = Callable[..., Estimate | Tensor]

_PAIRS = 2**23  # kernel values held at once
_FEWEST = 19  # permutations, with which p can reach 0.05


@dataclass(frozen=True, eq=False)
class TwoSample:
    """The outcome of a permutation test.

    Attributes:
        statistic: Of the samples as they are.
        p_value: (1 + #{null ≥ statistic}) / (1 + permutations): the chance of such a statistic, or a larger one, if both
            samples were of one distribution.
        null: The statistic after each permutation, (permutations,).
    """

    statistic: float
    p_value: float
    null: Tensor

    def __str__(self) -> str:
        return f"{self.statistic:.4g}, p = {self.p_value:.3g} by {len(self.null)} permutations"


def two_sample_test(
    x: Tensor,
    y: Tensor,
    statistic: Statistic = mmd,
    permutations: int = 500,
    features: Features | None = None,
    seed: int | None = None,
) -> TwoSample:
    """p = (1 + #{T_π ≥ T}) / (1 + P) over P random reassignments π of the pooled points to two samples of the same sizes.

    The level is exact for any statistic and any sample size: if both samples are of one distribution, p ≤ α with a
    probability of at most α. Averages over pairs (`mmd`, `polynomial_mmd`, `energy_distance`) take one matrix of the pooled
    sample and one matrix product for all permutations; other statistics are called once for each, always with the same
    random numbers of their own. The bandwidth of a kernel that is not given is that of the pooled sample.

    Args:
        x: A sample (n, *shape).
        y: Another one (m, *shape).
        statistic: From (n, D) and (m, D) to an `Estimate` or a number, large where the samples differ: an estimator of
            `ppl_gen.inference.distances`, a `functools.partial` of one, or any other function.
        permutations: P, at least 19.
        features: From (N, *shape) to (N, D); None takes the flattened data. Not fitted on x or y.
        seed: Seeds the permutations and leaves the global generator as it was.

    Raises:
        ValueError: If there are fewer than 4 points or 19 permutations, shapes differ, values are not finite, or the statistic
            is not a number.

    Reference:
        Gretton et al. (2012), A kernel two-sample test; Phipson and Smyth (2010), Permutation p-values should never be zero.
    """
    if permutations < _FEWEST:
        raise ValueError(f"expected at least {_FEWEST} permutations, for a p-value of 0.05, got {permutations}")
    x, y = as_vectors(x, y, features, least=4)
    pooled, n = torch.cat([x, y]), len(x)
    with nullcontext() if seed is None else forked(x.device, seed), torch.no_grad():
        orders = torch.rand(permutations, len(pooled), device=x.device).argsort(1)
        orders = torch.cat([torch.arange(len(pooled), device=x.device)[None], orders])
        kernel = _kernel(statistic, x, y)
        values = _one_by_one(statistic, pooled, orders, n) if kernel is None else _at_once(kernel, pooled, orders, n)
    observed, null = values[0], values[1:]
    # Equal values may differ in their last digits, by the order of summation.
    reached = null >= observed - 1e-10 * values.abs().max()
    return TwoSample(float(observed), (1 + int(reached.sum())) / (1 + permutations), null)


def _unwrapped(statistic: Any) -> tuple[Any, dict[str, Any]]:
    """A function and the options that a `functools.partial` gives it."""
    if isinstance(statistic, functools.partial) and not statistic.args:
        return statistic.func, statistic.keywords
    return statistic, {}


def _kernel(statistic: Statistic, x: Tensor, y: Tensor) -> Kernel | None:
    """The kernel of an average over pairs; None of any other statistic."""
    function, given = _unwrapped(statistic)
    if function in (mmd, squared_mmd) and given.keys() <= {"kernel"}:
        kernel = given.get("kernel")
        return default_kernel(x, y) if kernel is None else kernel
    if given:
        return None
    if function in (energy_distance, squared_energy):
        return NegativeDistance()
    return Polynomial() if function is polynomial_mmd else None


def _at_once(kernel: Kernel, pooled: Tensor, orders: Tensor, n: int) -> Tensor:
    """All U-statistics from 1ᵀK1 over the first sample, since K without its diagonal has the same total in each."""
    m = len(pooled) - n
    member = pooled.new_zeros(len(pooled), len(orders))
    member.scatter_(0, orders[:, :n].T, 1.0)
    inside, touched, total = member.new_zeros(len(orders)), member.new_zeros(len(orders)), pooled.new_zeros(())
    size = max(1, _PAIRS // len(pooled))
    for i in range(0, len(pooled), size):
        block = kernel(pooled[i : i + size], pooled).clone()
        block.diagonal(i).zero_()
        rows = block.sum(1)
        inside += (member[i : i + size] * (block @ member)).sum(0)
        touched += rows @ member[i : i + size]
        total = total + rows.sum()
    across = touched - inside
    return inside / (n * (n - 1)) + (total - 2 * touched + inside) / (m * (m - 1)) - 2 * across / (n * m)


def _one_by_one(statistic: Statistic, pooled: Tensor, orders: Tensor, n: int) -> Tensor:
    """Each with the same random numbers of its own, so that all are one function of the permuted points."""
    bare = _without_error(statistic)
    seed = int(torch.randint(2**31, ()))
    values = []
    with forked(pooled.device, None):
        for order in orders:
            torch.manual_seed(seed)
            value = bare(pooled[order[:n]], pooled[order[n:]])
            values.append(torch.as_tensor(value.value if isinstance(value, Estimate) else value).double())
    if any(v.numel() != 1 or not bool(torch.isfinite(v).all()) for v in values):
        raise ValueError(f"expected a statistic that is a finite number, got {values[0]}; see that it is defined")
    return torch.stack([v.reshape(()).to(pooled.device) for v in values])


def _without_error(statistic: Statistic) -> Statistic:
    """The same number without its standard error, where that is known."""
    function, given = _unwrapped(statistic)
    if function is frechet_distance and not given:
        return squared_frechet
    if function is sliced_wasserstein and given.keys() <= {"projections"}:
        return functools.partial(squared_sliced_wasserstein, **given)
    return statistic
