"""Parameters of a simulator by the moments, or the kernel means, of what it draws."""

from __future__ import annotations

__all__ = ["match_mmd", "match_moments"]

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import constraints

from ppl_gen.arguments import expect_tensor
from ppl_gen.contexts import explained, seeded
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.expect import expect_counts
from ppl_gen.inference.samples.kernels import Kernel, default_kernel
from ppl_gen.inference.samples.vectors import Features, vectors_of
from ppl_gen.inference.simulators.features import KernelFeatures, Moments
from ppl_gen.inference.simulators.matched import Matched
from ppl_gen.inference.simulators.search import Point, Target, found_from
from ppl_gen.inference.simulators.simulated import Simulated, Simulator
from ppl_gen.memory import expect_memory

_DEPENDENT = 1e-9  # eigenvalues of features' correlations, below which they say the same
_LARGEST_SEED = 2**62
_DOUBLE = 8  # bytes


def match_moments(
    simulator: Simulator,
    x: Tensor,
    *,
    start: Tensor,
    supports: Sequence[Any] | None = None,
    features: Features | None = None,
    draws: int = 20,
    seed: int | None = None,
) -> Matched:
    """min over θ of gᵀ W g, g = m(x) − m(θ): the simulated method of moments, with intervals.

    m(x) = (1/N) Σᵢ f(xᵢ) are mean features of the data and m(θ) those of S N simulated ones, always
    from the same noise; W = Σ⁻¹, with Σ the features' covariance, is the best of all weights: that
    of the data in a first search, that of the simulator where it has ended in a second, since there
    are S times as many draws to know it from. With D = ∂m/∂θ,

        Cov θ̂ = (DᵀWD)⁻¹ DᵀWΣWD (DᵀWD)⁻¹ (1 + 1/S) / N = (DᵀWD)⁻¹ (1 + 1/S) / N.

    Of more features than parameters, J = N/(1 + 1/S) gᵀ W g is χ² with K − D degrees of freedom
    where data are the simulator's: Hansen's test. No density is asked for, and no prior; where
    there is one, `amortise` gives a posterior.

    Args:
        simulator: From parameters θ (n, D), a row for each datum, to data (n, *shape) drawn at
            random, or to a distribution of pyro.distributions of them. Where draws have gradients,
            m is differentiated through the simulator; else, as of counts, by differences.
        x: Independent data (N, *shape).
        start: Where the search begins, (D,), in the supports; or several starts (k, D), of whose
            searches the best is taken.
        supports: A constraint of torch.distributions for each parameter, such as
            `constraints.positive`; all real if left out.
        features: f, from data (n, *shape) to what is matched, (n, K), K ≥ D; if left out, all
            entries of a datum, standardised, and all products of two.
        draws: S, how many data are simulated for each datum.
        seed: Seeds all draws and leaves the global generator as it was; None draws from the global
            generator.

    Returns:
        `Matched`: `.estimate` with standard errors, `.interval(level)`, `.covariance`, `.p_value`
        of the test, `.seconds`.

    Raises:
        ValueError: If a number is out of range, the start is none, the simulator fails or its data
            are of another shape or not finite, or the features are too few, too many for the data,
            or depend linearly on each other.

    Examples:
        >>> def simulator(theta):
        ...     return dist.Normal(theta, 1.0).to_event(1)
        >>> found = match_moments(simulator, torch.randn(200, 1) + 2, start=torch.zeros(1), seed=0)
        >>> bool((found.estimate.value - 2).abs() < 4 * found.estimate.standard_error)
        True

    Reference:
        Hansen (1982), Large sample properties of generalized method of moments estimators; McFadden
        (1989), A method of simulated moments; Duffie and Singleton (1993), Simulated moments
        estimation of Markov models of asset prices.
    """
    began = time.perf_counter()
    starts, constraints_of = _checked(x, start, supports, draws)
    own = features
    if own is None:
        own = Moments(x)
    observed = _Observed(features=own, values=vectors_of(x, own), draws=draws)
    count, width = observed.values.shape
    if count < 2 * width:
        raise ValueError(
            f"expected at least two data for each feature, for their covariance, got {count} data "
            f"and {width} features; give fewer by features=..."
        )
    _expect_independent(observed.covariance)
    weights = _Weights.best(observed.covariance)
    with seeded(x.device, seed):
        begun = _begun(simulator, x, observed, starts, constraints_of)
        end = _best(begun, observed, weights)
        simulated = begun.simulated
        if end.is_identified and _are_independent(simulated.covariance(end.u)):
            weights = _Weights.best(simulated.covariance(end.u))
            end = _best(_Begun(simulated, end.u[None]), observed, weights)
        return _told(simulated, end, observed, weights, began)


def match_mmd(
    simulator: Simulator,
    x: Tensor,
    *,
    start: Tensor,
    supports: Sequence[Any] | None = None,
    kernel: Kernel | None = None,
    landmarks: int = 100,
    draws: int = 20,
    seed: int | None = None,
) -> Matched:
    """min over θ of MMD²(x, θ) = |φ(x) − φ(θ)|²: the minimum MMD estimator, with intervals.

    φ(x) and φ(θ) are the mean embeddings of the data and of S N simulated ones under the kernel k,
    as far as the values of k at some of the data tell (Nyström). With H = DᵀD, D = ∂φ/∂θ and Σ the
    covariance of the embeddings of single data,

        Cov θ̂ = H⁻¹ DᵀΣD H⁻¹ (1 + 1/S) / N.

    It takes all of the distribution into account, not only some moments, and outliers move it by
    no more than a bounded kernel lets them; it is less efficient than moments that suffice.

    Args:
        simulator: From parameters θ (n, D), a row for each datum, to data (n, *shape) drawn at
            random, or to a distribution of pyro.distributions of them. Where draws have gradients,
            φ is differentiated through the simulator; else, as of counts, by differences.
        x: Independent data (N, *shape).
        start: Where the search begins, (D,), in the supports; or several starts (k, D), of whose
            searches the best is taken.
        supports: A constraint of torch.distributions for each parameter, such as
            `constraints.positive`; all real if left out.
        kernel: k, positive definite, of `ppl_gen.inference.samples.kernels`; five Gaussians around
            the median distance of the data if left out.
        landmarks: The number of data at which k is evaluated; all if there are fewer.
        draws: S, how many data are simulated for each datum.
        seed: Seeds all draws and leaves the global generator as it was; None draws from the global
            generator.

    Returns:
        `Matched`: `.estimate` with standard errors, `.interval(level)`, `.covariance`, `.p_value`
        of the test that data are the simulator's, `.seconds`.

    Raises:
        ValueError: If a number is out of range, the start is none, the simulator fails or its data
            are of another shape or not finite, or the kernel is not positive definite.

    Examples:
        >>> def simulator(theta):
        ...     return dist.Normal(theta, 1.0).to_event(1)
        >>> x = torch.cat([torch.randn(190, 1) + 2, torch.full((10, 1), 50.0)])  # with outliers
        >>> found = match_mmd(simulator, x, start=x.median()[None], seed=0)
        >>> bool((found.estimate.value - 2).abs() < 0.4)
        True

    Reference:
        Briol, Barp, Duncan and Girolami (2019), Statistical inference for generative models with
        maximum mean discrepancy.
    """
    began = time.perf_counter()
    expect_counts(landmarks=landmarks)
    starts, constraints_of = _checked(x, start, supports, draws)
    flat = vectors_of(x)
    with seeded(x.device, seed):
        if kernel is None:
            kernel = default_kernel(flat, flat)
        chosen = torch.randperm(len(flat), device=flat.device)[:landmarks]
        features = KernelFeatures(kernel, flat[chosen])
        observed = _Observed(features=features, values=vectors_of(x, features), draws=draws)
        begun = _begun(simulator, x, observed, starts, constraints_of)
        weights = _Weights.equal(observed.covariance)
        best = _best(begun, observed, weights)
        return _told(begun.simulated, best, observed, weights, began)


def _checked(
    x: Tensor, start: Tensor, supports: Sequence[Any] | None, draws: int
) -> tuple[Tensor, list[Any]]:
    """The starts (k, D) in double precision, and a constraint for each parameter.

    Raises:
        ValueError: If data, starts, supports or the number of draws are none.
    """
    expect_counts(draws=draws)
    expect_tensor("data", x)
    expect_tensor("start", start)
    if x.dim() < 1 or len(x) < 3:
        raise ValueError(f"expected at least 3 data, (N, *shape), got shape {tuple(x.shape)}")
    if start.dim() not in (1, 2) or not start.numel():
        raise ValueError(
            f"expected a start of shape (D,), or several (k, D), got {tuple(start.shape)}"
        )
    starts = start.detach().double().reshape(-1, start.shape[-1])
    width = starts.shape[1]
    if supports is None:
        supports = [constraints.real] * width
    found = list(supports)
    if len(found) != width:
        raise ValueError(
            f"expected a support for each of {width} parameters, got {len(found)}; say "
            "supports=[constraints.real, constraints.positive], for two"
        )
    for i, support in enumerate(found):
        _expect_support(i, support, starts[:, i])
    return starts.to(x.device), found


def _expect_support(i: int, support: Any, values: Tensor) -> None:
    """Raises ValueError unless the support of a parameter is an interval that holds its starts."""
    is_one = isinstance(support, constraints.Constraint)
    if not is_one or support.is_discrete or support.event_dim:
        raise ValueError(
            f"expected the support of parameter {i} as a constraint of single numbers, such as "
            f"constraints.positive, got {support!r}"
        )
    inside = support.check(values) & values.isfinite()
    if not bool(inside.all()):
        bad = float(values[~inside][0])
        raise ValueError(
            f"expected starts in the supports, got {bad:.4g} for parameter {i}, which is to be "
            f"{support}; begin elsewhere, or give another support"
        )


def _expect_independent(covariance: Tensor) -> None:
    """Raises ValueError if a feature is a linear function of others, or constant."""
    sizes = covariance.diagonal()
    if bool((sizes == 0).any()):
        constant = int((sizes == 0).sum())
        raise ValueError(
            f"expected features that vary over the data, got {constant} that do not; leave them out"
        )
    if not _are_independent(covariance):
        raise ValueError(
            f"expected linearly independent features, got {len(sizes)} of which one follows from "
            "others, as the square of what is 0 or 1; leave it out by features=..."
        )


def _are_independent(covariance: Tensor) -> bool:
    """Whether all features vary, and none is a linear function of others."""
    sizes = covariance.diagonal().sqrt()
    if not bool((sizes > 0).all()) or not bool(covariance.isfinite().all()):
        return False
    correlations = covariance / sizes / sizes[:, None]
    return bool(torch.linalg.eigvalsh(correlations)[0] >= _DEPENDENT)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Observed:
    """What is matched.

    Attributes:
        features: f.
        values: f(x), (N, K).
        draws: S, how many data are simulated for each of these.
    """

    features: Features
    values: Tensor
    draws: int

    @property
    def covariance(self) -> Tensor:
        """Of the features of single data, (K, K)."""
        width = self.values.shape[1]
        return self.values.T.cov().reshape(width, width)

    def spread(self, covariance: Tensor) -> Tensor:
        """V = Σ (1 + 1/S) / N, of the gap at the true parameters.

        Args:
            covariance: Σ, (K, K).
        """
        return covariance * (1 + 1 / self.draws) / len(self.values)


class _Weights(NamedTuple):
    """How gaps of features count, and how these vary.

    Attributes:
        root: R, W = RᵀR, (K, K).
        covariance: Σ, (K, K).
    """

    root: Tensor
    covariance: Tensor

    @classmethod
    def best(cls, covariance: Tensor) -> _Weights:
        """W = Σ⁻¹."""
        root = torch.linalg.cholesky(torch.linalg.inv(covariance)).T
        return cls(root, covariance)

    @classmethod
    def equal(cls, covariance: Tensor) -> _Weights:
        """W = I."""
        return cls(torch.eye(len(covariance)).to(covariance), covariance)


class _Begun(NamedTuple):
    """A simulator whose first run has gone well, and starts on the whole line, (k, D)."""

    simulated: Simulated
    starts: Tensor


def _begun(
    simulator: Simulator,
    x: Tensor,
    observed: _Observed,
    starts: Tensor,
    supports: Sequence[Any],
) -> _Begun:
    """Runs the simulator for the first time.

    Args:
        simulator: From parameters to data.
        x: The data.
        observed: What is matched.
        starts: In the supports, (k, D).
        supports: Of each parameter.
    """
    count, width = observed.values.shape
    parameters = starts.shape[1]
    if width < parameters:
        raise ValueError(
            f"expected at least as many features as parameters, {parameters}, got {width}; give "
            "more by features=..."
        )
    each = x[0].numel() + (3 + 2 * parameters) * width
    simulations = observed.draws * count
    expect_memory(
        f"features of {simulations} simulated data",
        _DOUBLE * simulations * each,
        "take fewer draws or features",
        x.device,
    )
    seed = int(torch.randint(_LARGEST_SEED, ()))
    simulated = Simulated(simulator, observed.features, supports, simulations, x, seed)
    with explained("starts that lie in the supports", "begin elsewhere"):
        line = simulated.transform.inv(starts)
    _expect_finite(simulated.mean(line[0]))
    simulated.begin(line[0])
    return _Begun(simulated, line)


def _best(begun: _Begun, observed: _Observed, weights: _Weights) -> Point:
    """The best end of the searches from all starts."""
    target = Target(
        mean=observed.values.mean(0),
        root=weights.root,
        spread=observed.spread(weights.covariance),
        draws=observed.draws,
    )
    ends = []
    for u in begun.starts:
        ends.append(found_from(begun.simulated, target, u))
    return min(ends, key=_value_of)


def _value_of(point: Point) -> float:
    return point.value


def _expect_finite(mean: Tensor) -> None:
    if not bool(mean.isfinite().all()):
        raise ValueError(
            "expected finite data from the simulator at the first start, got features that are NaN "
            "or infinite; begin elsewhere, or clip what it draws"
        )


def _told(
    simulated: Simulated,
    point: Point,
    observed: _Observed,
    weights: _Weights,
    began: float,
) -> Matched:
    """What a search has found, as a result.

    Args:
        simulated: What was searched.
        point: Where the search has ended.
        observed: What was matched.
        weights: By what weights.
        began: When the work began.
    """
    spread = observed.spread(weights.covariance)
    slope = torch.diag(simulated.slopes(point.u))
    of_theta = slope @ point.covariance @ slope.T
    statistic, degrees = _test(point, weights.root, spread)
    p_value = float("nan")
    if degrees:
        half = torch.tensor([degrees, statistic], dtype=torch.double) / 2
        p_value = float(torch.special.gammaincc(half[0], half[1]))
    return Matched(
        estimate=Estimate(simulated.theta(point.u), of_theta.diagonal().sqrt()),
        covariance=of_theta,
        line=Estimate(point.u, point.covariance.diagonal().sqrt()),
        gap=Estimate(point.gap, spread.diagonal().sqrt()),
        statistic=statistic,
        degrees=degrees,
        p_value=p_value,
        derivatives=simulated.derivatives,
        data=len(observed.values),
        draws=observed.draws,
        runs=simulated.runs,
        has_converged=point.has_converged,
        is_identified=point.is_identified,
        seconds=time.perf_counter() - began,
        transform=simulated.transform,
    )


def _test(point: Point, root: Tensor, spread: Tensor) -> tuple[float, float]:
    """A statistic and its degrees of freedom, 0 where nothing is left to test.

    gᵀWg is a sum Σ λₖ χ²₁, with λ the eigenvalues of R P V Pᵀ Rᵀ and P = I − D(DᵀWD)⁻¹DᵀW, since
    the parameters follow the data. For W in proportion to V⁻¹ they are all alike, or 0, and this is
    Hansen's J exactly; else c χ² of the same mean and variance is taken (Satterthwaite).
    """
    width, parameters = point.jacobian.shape
    if width == parameters or not point.is_identified:
        return 0.0, 0.0
    slope = root @ point.jacobian
    along = slope @ torch.linalg.pinv(slope)
    across = torch.eye(len(slope), dtype=slope.dtype, device=slope.device) - along
    left = across @ root
    eigenvalues = torch.linalg.eigvalsh(left @ spread @ left.T).clamp(min=0)
    scale = float(eigenvalues.square().sum() / eigenvalues.sum())
    degrees = float(eigenvalues.sum()) / scale
    return float((left @ point.gap).square().sum()) / scale, degrees
