"""Do two samples come from one distribution? The permutation test of any statistic."""

from __future__ import annotations

__all__ = ["Statistic", "TwoSample", "random_orders", "two_sample_test", "verdict_of"]

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ppl_gen.contexts import forked, seeded
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.result import Result
from ppl_gen.inference.samples.discrepancies import (
    directions,
    squared_energy,
    squared_frechet,
    squared_mmd,
    squared_sliced_wasserstein,
    squared_wasserstein,
)
from ppl_gen.inference.samples.distances import (
    energy_distance,
    frechet_distance,
    mmd,
    polynomial_mmd,
    sliced_wasserstein,
)
from ppl_gen.inference.samples.kernels import (
    Kernel,
    NegativeDistance,
    Polynomial,
    blocks,
    default_kernel,
    off_diagonal,
)
from ppl_gen.inference.samples.vectors import Features, as_vectors, expect_permutations
from ppl_gen.progress import track

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Statistic = Callable[..., Estimate | Tensor]

_LEVEL = 0.05

_SLICED = (sliced_wasserstein, squared_sliced_wasserstein)
_FRECHET = (frechet_distance, squared_frechet)


@dataclass(frozen=True, eq=False, repr=False)
class TwoSample(Result):
    """The outcome of a permutation test.

    Attributes:
        statistic: Of the samples as they are.
        p_value: (1 + #{null ≥ statistic}) / (1 + permutations): the chance of such a statistic, or
            a larger one, if both samples were of one distribution.
        null: The statistic after each permutation, (permutations,).

    Examples:
        >>> x, y = torch.randn(50, 2), torch.randn(50, 2) + 1
        >>> found = two_sample_test(x, y, permutations=99, seed=0)
        >>> found.p_value, found.null.shape
        (0.01, torch.Size([99]))
    """

    statistic: float
    p_value: float
    null: Tensor

    @property
    def verdict(self) -> Verdict:
        """Whether the samples differ at the 5 % level: "different", or "alike", which passes."""
        return verdict_of(self.p_value)

    def table(self) -> pandas.DataFrame:
        """One row: the statistic, its mean and sd over permutations, and the p_value."""
        import pandas

        row = {
            "statistic": self.statistic,
            "null mean": float(self.null.mean()),
            "null sd": float(self.null.std()),
            "p_value": self.p_value,
            "permutations": len(self.null),
        }
        return pandas.DataFrame([row], index=["test"])

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each permutation: the statistic after it."""
        import pandas

        return pandas.DataFrame({"null": self.null.cpu().numpy()})

    def plot(self, title: str = "", ax: Axes | None = None) -> Figure:
        """The statistic among its permutations, see `ppl_gen.plots.samples.nulls`.

        Args:
            title: Stands above.
            ax: Axes that the picture takes the place of; it is a figure of its own if left out.
        """
        from ppl_gen.plots.samples import nulls

        return nulls({"": self}, title, ax=ax)

    def __str__(self) -> str:
        return self.headline

    @property
    def headline(self) -> str:
        """Statistic, p-value and the number of permutations."""
        return f"{self.statistic:.4g}, p = {self.p_value:.3g} by {len(self.null)} permutations"


def verdict_of(p_value: float) -> Verdict:
    """Whether two samples differ, by the p-value of a test of theirs at the 5 % level.

    Args:
        p_value: The chance of what was seen, or more, if both samples are of one distribution.
    """
    if p_value <= _LEVEL:
        sentence = f"the samples differ: p = {p_value:.3g}"
        return Verdict((Finding("different", sentence),), passes=False)
    sentence = f"no difference shows in samples of these sizes: p = {p_value:.3g}"
    return Verdict((Finding("alike", sentence),), passes=True)


def two_sample_test(
    x: Tensor,
    y: Tensor,
    statistic: Statistic = mmd,
    permutations: int = 500,
    features: Features | None = None,
    seed: int | None = None,
    progress: bool = False,
) -> TwoSample:
    """p = (1 + #{T_π ≥ T}) / (1 + P) over P random permutations π of the pooled points.

    Each assigns the points anew to two samples of the same sizes. The level is exact for any
    statistic and any sample size: if both samples are of one distribution, p ≤ α with a probability
    of at most α. Averages over pairs (`mmd`, `polynomial_mmd`, `energy_distance`) take one matrix
    of the pooled sample and one matrix product for all permutations; `sliced_wasserstein` sorts
    each direction once for all. Other statistics are called once for each, always with the same
    random numbers of their own. The bandwidth of a kernel that is not given is that of the pooled
    sample.

    Args:
        x: A sample (n, *shape).
        y: Another one (m, *shape).
        statistic: From (n, D) and (m, D) to an `Estimate` or a number, large where the samples
            differ: an estimator of `ppl_gen.inference.samples.distances`, a `functools.partial` of
            one, or any other function.
        permutations: P, at least 19.
        features: From (N, *shape) to (N, D); None takes the flattened data. Not fitted on x or y.
        seed: Seeds the permutations and leaves the global generator as it was.
        progress: Whether to show a progress bar, unless all permutations are taken at once.

    Raises:
        ValueError: If there are fewer than 4 points or 19 permutations, shapes differ, values are
            not finite, or the statistic is not a number.

    Examples:
        >>> x, y = torch.randn(50, 2), torch.randn(50, 2) + 1
        >>> two_sample_test(x, y, permutations=99, seed=0).p_value  # the smallest that 99 can give
        0.01

    Reference:
        Gretton et al. (2012), A kernel two-sample test; Phipson and Smyth (2010), Permutation
        p-values should never be zero.
    """
    expect_permutations(permutations)
    x, y = as_vectors(x, y, features, least=4)
    count = len(x) + len(y)
    expect_permutations(permutations, count)
    with seeded(x.device, seed), torch.no_grad():
        as_they_are = torch.arange(count, device=x.device)[None]
        orders = torch.cat([as_they_are, random_orders(count, permutations, x.device)])
        values = _permuted(statistic, x, y, orders, progress)
    observed = values[0]
    null = values[1:]
    # Equal values may differ in their last digits, by the order of summation.
    rounding = 1e-10 * values.abs().max()
    reached = (null >= observed - rounding).sum()
    value, count_reached = torch.stack([observed.double(), reached.double()]).tolist()
    return TwoSample(value, (1 + count_reached) / (1 + permutations), null)


def random_orders(count: int, permutations: int, device: torch.device) -> Tensor:
    """Permutations of the first `count` whole numbers, drawn at random, (permutations, count).

    Args:
        count: The number of points in the pooled sample.
        permutations: How many are drawn.
        device: Where they are drawn.
    """
    return torch.rand(permutations, count, device=device).argsort(1)


def _permuted(statistic: Statistic, x: Tensor, y: Tensor, orders: Tensor, progress: bool) -> Tensor:
    """The statistic after each order of the pooled points, by the quickest way that it has."""
    function, options = _function_and_options(statistic)
    pooled = torch.cat([x, y])
    n = len(x)

    def shown(parts: Iterable[Any], count: int) -> Iterable[Any]:
        return track(parts, "permuting", total=count, shown=progress)

    kernel = _kernel(function, options, x, y)
    if kernel is not None:
        return _pair_averages(kernel, pooled, orders, n)
    if function in _SLICED and options.keys() <= {"projections", "seed"}:
        return _sliced(pooled, shown(orders, len(orders)), n, **options)
    if function in _FRECHET and not options:
        parts = list(blocks(len(orders), pooled.numel()))
        return _frechet(pooled, orders, shown(parts, len(parts)), n)
    return _one_by_one(statistic, pooled, shown(orders, len(orders)), n)


def _function_and_options(statistic: Any) -> tuple[Any, dict[str, Any]]:
    """A function and the options that a `functools.partial` gives it."""
    if isinstance(statistic, functools.partial) and not statistic.args:
        return statistic.func, statistic.keywords
    return statistic, {}


def _kernel(function: Any, options: dict[str, Any], x: Tensor, y: Tensor) -> Kernel | None:
    """The kernel of an average over pairs; None of any other statistic."""
    if function in (mmd, squared_mmd) and options.keys() <= {"kernel"}:
        kernel = options.get("kernel")
        if kernel is None:
            kernel = default_kernel(x, y)
        return kernel
    if options:
        return None
    if function in (energy_distance, squared_energy):
        return NegativeDistance()
    if function is polynomial_mmd:
        return Polynomial()
    return None


def _pair_averages(kernel: Kernel, pooled: Tensor, orders: Tensor, n: int) -> Tensor:
    """All U-statistics from sums over the pairs that lie within the first sample, 1ᵀK1.

    K, without its diagonal, has the same total in each.
    """
    m = len(pooled) - n
    is_first = pooled.new_zeros(len(pooled), len(orders))
    is_first.scatter_(0, orders[:, :n].T, 1.0)
    within = pooled.new_zeros(len(orders))  # sums over pairs with both in the first sample
    touched = pooled.new_zeros(len(orders))  # … over pairs (i, j) with i in the first sample
    total = pooled.new_zeros(())
    for part in blocks(len(pooled), len(pooled)):
        block = off_diagonal(kernel, pooled, part)
        rows = block.sum(1)
        within += (is_first[part] * (block @ is_first)).sum(0)
        touched += rows @ is_first[part]
        total = total + rows.sum()
    across = touched - within
    mean_within_first = within / (n * (n - 1))
    mean_within_second = (total - 2 * touched + within) / (m * (m - 1))
    return mean_within_first + mean_within_second - 2 * across / (n * m)


def _sliced(
    pooled: Tensor,
    orders: Iterable[Tensor],
    n: int,
    projections: int = 128,
    seed: int | None = None,
) -> Tensor:
    """All from one sorting of the pooled points: those of either sample are in order as well."""
    with seeded(pooled.device, seed):
        theta = directions(pooled, projections)
    ascending = (pooled @ theta).sort(0)
    values = ascending.values.T.contiguous()
    places = ascending.indices.T.contiguous()
    found = []
    for order in orders:
        is_first = torch.zeros_like(order, dtype=torch.bool)
        is_first[order[:n]] = True
        is_first = is_first[places]
        x = values[is_first].view(projections, -1).T
        y = values[~is_first].view(projections, -1).T
        found.append(squared_wasserstein(x, y).mean())
    return torch.stack(found)


def _frechet(pooled: Tensor, orders: Tensor, parts: Iterable[slice], n: int) -> Tensor:
    """All by vmap, as many permutations at a time as a block of `orders` holds."""
    at_once = torch.vmap(squared_frechet)
    found = []
    for part in parts:
        x = pooled[orders[part, :n]]
        y = pooled[orders[part, n:]]
        found.append(at_once(x, y))
    return torch.cat(found)


def _one_by_one(statistic: Statistic, pooled: Tensor, orders: Iterable[Tensor], n: int) -> Tensor:
    """Each with the same random numbers of its own: one function of the permuted points."""
    seed = int(torch.randint(2**31, ()))
    values = []
    with forked(pooled.device, None):
        for order in orders:
            torch.manual_seed(seed)
            found = statistic(pooled[order[:n]], pooled[order[n:]])
            if isinstance(found, Estimate):
                found = found.value
            values.append(torch.as_tensor(found).double())
    if not all(_is_finite_number(value) for value in values):
        raise ValueError(
            f"expected a statistic that is a finite number, got {values[0]}; see that it is defined"
        )
    return torch.stack([v.reshape(()).to(pooled.device) for v in values])


def _is_finite_number(value: Tensor) -> bool:
    return value.numel() == 1 and bool(torch.isfinite(value).all())
