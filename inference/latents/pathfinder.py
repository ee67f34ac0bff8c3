"""Starts from the Gaussians that quasi-Newton paths pass on their way to a mode."""

from __future__ import annotations

__all__ = ["Gaussians", "Pathfinder", "Paths"]

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_gen.inference.expect import expect_counts
from ppl_gen.inference.latents.descent import descended
from ppl_gen.inference.latents.potential import Energies, Potential

_HALVINGS = 20  # of a step along a path, before the path is taken to have ended
_DECREASE = 1e-4  # of U along a step, in units of what its slope promises (Armijo)
_FLAT = 1e-8  # a path has ended where U falls by less, relative to its size
_ENDLESS = 1e15  # nats: no posterior has an evidence of as much
_CURVED = 1e12  # pairs of a larger |y|²/sᵀy say nothing of the curvature


@dataclass(frozen=True)
class Pathfinder:
    """Starts of chains by multi-path Pathfinder: `hmc(..., init=Pathfinder())`.

    From dispersed points, paths go down U by L-BFGS. At each point x of a path, with the inverse
    Hessian H that the path knows there, stands a Gaussian N(x − H ∇U(x), H); the one of the largest
    ELBO is a path's approximation. Draws of all of them are weighted by exp(−U)/q, q being the
    mixture of all Gaussians, so that a mode counts for its mass and not for the number of paths
    that end there; as many as there are chains are drawn without replacement. All paths, of all
    data where latents are local, are one batch.

    Args:
        paths: The number of paths; as many as chains, but at most 32, if None.
        draws: Of each path's Gaussian, to choose starts from.
        steps: The most that a path has.
        history: How many steps back H looks.
        estimates: Draws by which the ELBO of each point is estimated.

    Raises:
        ValueError: If a number is below 1.

    Examples:
        >>> line = toy.LinearRegression.simulated(50, 2)
        >>> few = {"draws": 20, "warmup": 20, "chains": 4, "engine": "fx"}
        >>> draws = hmc(line.model, *line.data, init=Pathfinder(), **few, seed=0)
        >>> draws.chains
        4

    Reference:
        Zhang, Carpenter, Gelman and Vehtari (2022), Pathfinder: parallel quasi-Newton variational
        inference, algorithms 1 to 4; Owen and Zhou (2000), Safe and effective importance sampling,
        for the mixture.
    """

    paths: int | None = None
    draws: int = 25
    steps: int = 200
    history: int = 6
    estimates: int = 8

    def __post_init__(self) -> None:
        expect_counts(
            paths=self.paths,
            draws=self.draws,
            steps=self.steps,
            history=self.history,
            estimates=self.estimates,
        )

    def starts(self, potential: Potential, chains: int) -> Tensor:
        """Starts (C, B, D) in the unconstrained coordinates of a potential.

        Args:
            potential: U(q) of the posterior to be sampled.
            chains: C, the number of chains.

        Raises:
            ValueError: If no path ends at a point about which the posterior can be normalised.
        """
        return self.walked(potential, chains).starts(chains)

    def walked(self, potential: Potential, chains: int, energies: Energies | None = None) -> Paths:
        """The best Gaussian of each path, with draws of all of them.

        Args:
            potential: U(q) of the posterior.
            chains: C, how many starts are to be chosen from the draws.
            energies: From (q, *tensors) to U and ∂U/∂q, as the potential has them; its fastest way
                if None.

        Raises:
            ValueError: If no path ends at a point about which the posterior can be normalised.
        """
        paths = self.paths or min(chains, 32)
        if energies is None:
            energies, _ = potential.fastest
        begun = descended(energies, potential.starts(paths), potential.tensors)
        best = _Walk(energies, potential.tensors, begun, self).run()
        draws = max(self.draws, math.ceil(2 * chains / paths))
        points, own = best.draw(draws)
        energy, _ = energies(points.flatten(0, 1), *potential.tensors)
        return Paths(
            gaussians=best,
            points=points,
            energy=energy.unflatten(0, points.shape[:2]),
            own=own,
            mixture=best.log_mixture(points),
        )


class Paths(NamedTuple):
    """What the paths have found, and K draws of the Gaussian of each.

    Attributes:
        gaussians: The best of each of P paths.
        points: The draws, (K, P, B, D).
        energy: U there, (K, P, B).
        own: The log density of the path that made a draw, (K, P, B).
        mixture: That of the mixture of all paths, (K, P, B).
    """

    gaussians: Gaussians
    points: Tensor
    energy: Tensor
    own: Tensor
    mixture: Tensor

    @property
    def elbo(self) -> Tensor:
        """The ELBO of each path, (P, B), in nats; −∞ where it is not finite."""
        elbo = (-self.energy - self.own).mean(0)
        return torch.where(elbo.isfinite(), elbo, -math.inf)

    @property
    def log_weights(self) -> Tensor:
        """log exp(−U)/q of all draws, q being the mixture, (K P, B)."""
        return (-self.energy - self.mixture).flatten(0, 1)

    def starts(self, count: int) -> Tensor:
        """Draws (count, B, D) chosen by their weights, without replacement.

        Args:
            count: How many, at most K P.
        """
        return _chosen(self.points.flatten(0, 1), self.log_weights, count)


class Gaussians(NamedTuple):
    """N(m, H) of each path and block, H = diag(α) + diag(√α) Q (L Lᵀ − I) Qᵀ diag(√α).

    Attributes:
        mean: m, (P, B, D).
        diagonal: α, (P, B, D).
        basis: Q, with orthonormal columns, (P, B, D, k).
        factor: L, lower triangular, (P, B, k, k).
    """

    mean: Tensor
    diagonal: Tensor
    basis: Tensor
    factor: Tensor

    @classmethod
    def at(cls, x: Tensor, gradient: Tensor, curvature: _Curvature) -> Gaussians:
        """Those at points of a path.

        Args:
            x: (P, B, D).
            gradient: ∇U there.
            curvature: What the path knows of H.
        """
        left, middle = curvature.compact()
        root = curvature.diagonal.sqrt()
        basis, upper = torch.linalg.qr(left / root[..., None])
        inner = upper @ middle @ upper.mT
        eye = torch.eye(inner.shape[-1], dtype=x.dtype, device=x.device)
        factor, failed = torch.linalg.cholesky_ex(eye + (inner + inner.mT) / 2)
        factor = torch.where((failed > 0)[..., None, None], torch.nan, factor)
        step = (
            curvature.diagonal * gradient
            + (left @ (middle @ (left.mT @ gradient[..., None])))[..., 0]
        )
        return cls(x - step, curvature.diagonal, basis, factor)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Draws (count, P, B, D) and their log densities (count, P, B)."""
        u = self.mean.new_empty(count, *self.mean.shape).normal_()
        within = self.basis.mT @ u[..., None]
        bent = (self.basis @ (self.factor @ within - within))[..., 0]
        points = self.mean + self.diagonal.sqrt() * (u + bent)
        return points, self._log_scale - u.square().sum(-1) / 2

    def log_mixture(self, points: Tensor) -> Tensor:
        """The log density of the mixture of all paths' Gaussians, (K, P, B).

        Args:
            points: (K, P, B, D).
        """
        total = points.new_full(points.shape[:-1], -math.inf)
        for one in zip(*self, strict=True):
            total = torch.logaddexp(total, Gaussians(*one)._log_prob(points))
        return total - math.log(len(self.mean))

    def _log_prob(self, points: Tensor) -> Tensor:
        """The log density of one path's Gaussians, (K, P, B); −∞ where it has none."""
        v = (points - self.mean) / self.diagonal.sqrt()
        within = self.basis.mT @ v[..., None]
        straight = torch.linalg.solve_triangular(self.factor, within, upper=False)
        u = v + (self.basis @ (straight - within))[..., 0]
        return (self._log_scale - u.square().sum(-1) / 2).nan_to_num(nan=-math.inf)

    @property
    def _log_scale(self) -> Tensor:
        """−log √det 2πH."""
        log_det = self.diagonal.log().sum(-1) / 2
        log_det = log_det + self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -log_det - self.mean.shape[-1] * math.log(2 * math.pi) / 2

    def where(self, chosen: Tensor, other: Gaussians) -> Gaussians:
        """These where `chosen` (P, B), and others elsewhere."""
        parts = []
        for mine, theirs in zip(self, other, strict=True):
            mask = chosen.reshape(*chosen.shape, *[1] * (mine.dim() - chosen.dim()))
            parts.append(torch.where(mask, mine, theirs))
        return Gaussians(*parts)


class _Curvature:
    """What the last steps s and changes y of the gradient say of H, the inverse Hessian.

    Args:
        like: Points (P, B, D), for the shape.
        history: How many pairs are kept, J.

    Attributes:
        diagonal: α, from which H is built up, (P, B, D).
        steps: s, (P, B, D, J); zero where there is none.
        changes: y, the same.
    """

    def __init__(self, like: Tensor, history: int) -> None:
        self.diagonal = torch.ones_like(like)
        self.steps = like.new_zeros(*like.shape, history)
        self.changes = like.new_zeros(*like.shape, history)

    def see(self, s: Tensor, y: Tensor) -> None:
        """Takes a pair in, where it says something: 0 < sᵀy and |y|² / sᵀy < 10¹².

        Args:
            s: A step, (P, B, D).
            y: The change of the gradient.
        """
        curvature = (s * y).sum(-1, keepdim=True)
        squares = y.square().sum(-1, keepdim=True)
        is_good = (curvature > 0) & (squares < _CURVED * curvature)
        self.diagonal = torch.where(is_good, self._diagonal_after(s, y, curvature), self.diagonal)
        for kept, new in ((self.steps, s), (self.changes, y)):
            moved = torch.cat([kept[..., 1:], new[..., None]], -1)
            kept.copy_(torch.where(is_good[..., None], moved, kept))

    def _diagonal_after(self, s: Tensor, y: Tensor, b: Tensor) -> Tensor:
        """α that meets the pair, and is as before across it (Zhang et al. 2022, algorithm 3)."""
        alpha = self.diagonal
        a = (y.square() * alpha).sum(-1, keepdim=True)
        c = (s.square() / alpha).sum(-1, keepdim=True)
        inverse = a / (b * alpha) + y.square() / b - a * s.square() / (b * c * alpha.square())
        return inverse.reciprocal().clamp(min=torch.finfo(alpha.dtype).tiny)

    def compact(self) -> tuple[Tensor, Tensor]:
        """β (P, B, D, 2J) and γ (P, B, 2J, 2J) of H = diag(α) + β γ βᵀ (Byrd et al. 1994)."""
        s, y = self.steps, self.changes
        scaled = self.diagonal[..., None] * y
        products = s.mT @ y
        own = products.diagonal(dim1=-2, dim2=-1)
        # A pair that is not there has s = y = 0: any number in its place drops out.
        own = torch.where(own > 0, own, 1.0)
        upper = torch.triu(products, 1) + torch.diag_embed(own)
        eye = torch.eye(s.shape[-1], dtype=s.dtype, device=s.device).expand_as(upper)
        inverse = torch.linalg.solve_triangular(upper, eye, upper=True)
        corner = inverse.mT @ (torch.diag_embed(own) + y.mT @ scaled) @ inverse
        none = torch.zeros_like(corner)
        top = torch.cat([none, -inverse], -1)
        bottom = torch.cat([-inverse.mT, corner], -1)
        return torch.cat([scaled, s], -1), torch.cat([top, bottom], -2)

    def times(self, vector: Tensor) -> Tensor:
        """H times a vector (P, B, D)."""
        left, middle = self.compact()
        return self.diagonal * vector + (left @ (middle @ (left.mT @ vector[..., None])))[..., 0]


class _Walk:
    """Paths down U, all in step, and the best Gaussian of each.

    Args:
        energies: From (q, *tensors) to U and ∂U/∂q.
        tensors: What the program depends on.
        starts: Where the paths begin, (P, B, D).
        options: What was asked for.
    """

    def __init__(
        self, energies: Energies, tensors: tuple[Tensor, ...], starts: Tensor, options: Pathfinder
    ) -> None:
        self._energies = energies
        self._tensors = tensors
        self._options = options
        self._x = starts
        self._energy, self._gradient = energies(starts, *tensors)
        self._curvature = _Curvature(starts, options.history)
        self._is_going = torch.ones_like(self._energy, dtype=torch.bool)
        self._elbo = torch.full_like(self._energy, -math.inf)

    def run(self) -> Gaussians:
        """The Gaussian of the largest ELBO on each path.

        Raises:
            ValueError: If no path has one.
        """
        best: Gaussians | None = None
        for i in range(self._options.steps):
            self._step(is_first=i == 0)
            gaussians = Gaussians.at(self._x, self._gradient, self._curvature)
            elbo = self._elbo_of(gaussians)
            is_better = elbo > self._elbo
            self._elbo = torch.where(is_better, elbo, self._elbo)
            best = gaussians if best is None else gaussians.where(is_better, best)
            if not bool(self._is_going.any()):
                break
        assert best is not None
        is_found = self._elbo.isfinite().any(0)
        is_endless = (-self._energy > _ENDLESS).any(0) | (self._elbo > _ENDLESS).any(0)
        if bool((is_endless | ~is_found).any()):
            raise ValueError(
                "expected a posterior that a Gaussian fits somewhere, got none along "
                f"{len(self._elbo)} paths: its density may have no maximum, as under an improper "
                "prior; give the latents proper priors, or start elsewhere (init=)"
            )
        return best

    def _step(self, is_first: bool) -> None:
        """A quasi-Newton step of every path that goes on, halved until U falls enough."""
        direction = -self._curvature.times(self._gradient)
        slope = (direction * self._gradient).sum(-1)
        # What does not go down, by rounding, goes down the gradient.
        is_down = slope < 0
        direction = torch.where(is_down[..., None], direction, -self._gradient)
        slope = torch.where(is_down, slope, -self._gradient.square().sum(-1))
        size = torch.ones_like(slope)
        if is_first:
            size = 1 / self._gradient.norm(dim=-1).clamp(min=1.0)
        x, energy, gradient = self._x, self._energy, self._gradient
        is_open = self._is_going.clone()
        for _ in range(_HALVINGS):
            tried = self._x + (size * is_open)[..., None] * direction
            there, slope_there = self._energies(tried, *self._tensors)
            falls = there <= self._energy + _DECREASE * size * slope
            is_good = is_open & falls & slope_there.isfinite().all(-1)
            x = torch.where(is_good[..., None], tried, x)
            energy = torch.where(is_good, there, energy)
            gradient = torch.where(is_good[..., None], slope_there, gradient)
            is_open = is_open & ~is_good
            if not bool(is_open.any()):
                break
            size = torch.where(is_open, size / 2, size)
        self._curvature.see(x - self._x, gradient - self._gradient)
        fallen = self._energy - energy
        is_flat = fallen <= _FLAT * (1 + energy.abs())
        self._is_going = self._is_going & ~is_open & ~is_flat
        self._x, self._energy, self._gradient = x, energy, gradient

    def _elbo_of(self, gaussians: Gaussians) -> Tensor:
        """The mean of −U − log q over a few draws, (P, B); −∞ where it is not finite."""
        points, log_q = gaussians.draw(self._options.estimates)
        # A Gaussian that is none has no place to be evaluated at.
        is_point = points.isfinite().all(-1)
        safe = torch.where(is_point[..., None], points, self._x)
        energy, _ = self._energies(safe.flatten(0, 1), *self._tensors)
        weights = -energy.unflatten(0, points.shape[:2]) - log_q
        elbo = torch.where(is_point, weights, -math.inf).mean(0)
        return torch.where(elbo.isfinite(), elbo, -math.inf)


def _chosen(points: Tensor, log_weight: Tensor, count: int) -> Tensor:
    """Points (count, B, D) of each block, drawn without replacement by their weights.

    The largest weights are cut to √K times their mean, so that no point is chosen for its weight
    alone (Ionides 2008, truncated importance sampling).

    Args:
        points: (K, B, D).
        log_weight: (K, B).
        count: How many.
    """
    log_weight = torch.where(log_weight.isfinite(), log_weight, -math.inf)
    k = len(log_weight)
    highest = log_weight.logsumexp(0) - math.log(k) / 2
    log_weight = torch.minimum(log_weight, highest)
    noise = -torch.empty_like(log_weight).exponential_().log()
    places = (log_weight + noise).topk(count, 0).indices
    return points.gather(0, places[..., None].expand(-1, -1, points.shape[-1]))
