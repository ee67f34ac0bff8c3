"""The metric that HMC learns: diagonal, and more along a few directions, where it pays."""

from __future__ import annotations

__all__ = ["Scores", "condition_number", "low_rank_metric"]

from typing import NamedTuple

import torch
from torch import Tensor

from ppl_gen import memory
from ppl_gen.inference.mcmc.leapfrog import Metric

# Along a direction that is less than so many times as wide or narrow, in variance, as the diagonal
# has it, nothing is changed.
_OUTSTANDING = 3.0
# The most directions. What is outside of as many widest and as many narrowest is not looked at.
_MOST_DIRECTIONS = 64
# Coordinates whose directions take longer to find than they are worth.
_MOST_COORDINATES = 1024
# What is added to both variances of each direction, in units of those of the diagonal: a direction
# of which little is known stays as it is. Held-out chains choose.
_REGULARISERS = (1e-7, 1e-4, 1e-2, 1.0)


class Scores:
    """Draws q and scores α = −∂U/∂q of all chains in a window, every k-th where there are many.

    Args:
        chains: C.
        coordinates: D, those of the only block.
        device: Where the chains are.

    Attributes:
        is_kept: Whether anything is kept: there are two halves of chains, and not too many
            coordinates.
    """

    def __init__(self, chains: int, coordinates: int, device: torch.device) -> None:
        self.is_kept = chains >= 4 and 2 <= coordinates <= _MOST_COORDINATES
        self._most = memory.rows(memory.SAMPLED.on(device), chains * coordinates)
        self._most = max(self._most, 2 * _MOST_DIRECTIONS)
        self._draws: list[Tensor] = []
        self._scores: list[Tensor] = []
        self._seen = 0
        self._every = 1

    def see(self, q: Tensor, gradient: Tensor) -> None:
        """Takes the state of all chains.

        Args:
            q: (C, 1, D).
            gradient: ∂U/∂q, (C, 1, D).
        """
        if not self.is_kept:
            return
        self._seen += 1
        if self._seen % self._every != 0:
            return
        self._draws.append(q[:, 0])
        self._scores.append(-gradient[:, 0])
        if len(self._draws) > self._most:
            self._draws = self._draws[1::2]
            self._scores = self._scores[1::2]
            self._every *= 2

    def of(self, chains: slice) -> Window | None:
        """Those of some chains, float64; None if there are fewer than coordinates,
        or any is not finite.
        """
        if not self._draws:
            return None
        draws = torch.stack(self._draws)[:, chains].flatten(0, 1).double()
        scores = torch.stack(self._scores)[:, chains].flatten(0, 1).double()
        if len(draws) < draws.shape[1]:
            return None
        spreads = torch.cat([draws.var(0), scores.var(0)])
        # NaN where a draw or a score is not finite.
        if not bool((spreads > 0).all()) or not bool(spreads.isfinite().all()):
            return None
        return Window(draws - draws.mean(0), scores - scores.mean(0))


class Window(NamedTuple):
    """What was seen of some chains, about its means.

    Attributes:
        draws: (n, D).
        scores: (n, D).
    """

    draws: Tensor
    scores: Tensor


class _Directions(NamedTuple):
    """M⁻¹ = σ (I + V (Λ − I) Vᵀ) σ.

    Attributes:
        scale: σ, (D,).
        basis: V, (D, K).
        widths: The diagonal of Λ, (K,): variances, 1 being what the diagonal has.
    """

    scale: Tensor
    basis: Tensor
    widths: Tensor


def low_rank_metric(scores: Scores, like: Tensor) -> tuple[Metric | None, float]:
    """The metric that minimises the Fisher divergence, and the condition number that it undoes.

    With q and α about their means, σ² = √(var q / var α). In coordinates q / σ and scores σ α, on
    the widest and the narrowest directions, C_q and C_α are their covariances, plus γ I, and

        M C_α M = C_q,   M = C_α^(−1/2) (C_α^(1/2) C_q C_α^(1/2))^(1/2) C_α^(−1/2),

    which for a Gaussian is its covariance exactly, also where chains have hardly moved. Eigenvalues
    Λ of M above 3 or below 1/3 are kept, at most 64.

    Half of the chains learn this; the others choose γ, by tr(M C_α) + tr(M⁻¹ C_q), and say how wide
    the directions are that were found: √(var vᵀq / var vᵀα). The condition number is the widest of
    these by the narrowest, 1 for all that was not found. So directions that are wide by chance, as
    there are in white noise, do not count. The metric itself is learned from all chains.

    Args:
        scores: What was seen in a window.
        like: A tensor of the type that the metric is to have.

    Returns:
        The metric, of 64 directions or as many as there are coordinates, some of which may not
        stretch; None if nothing was learned. And the condition number, after diagonal scaling;
        NaN if nothing was learned.

    Reference:
        Seyboldt, Carlson and Carpenter (2026), arXiv 2603.18845, for the metric.
    """
    learning = scores.of(slice(0, None, 2))
    judging = scores.of(slice(1, None, 2))
    everything = scores.of(slice(None))
    if learning is None or judging is None or everything is None:
        return None, float("nan")
    found = [_directions(learning, regulariser) for regulariser in _REGULARISERS]
    losses = [_divergence(one, judging) for one in found]
    best = losses.index(min(losses))
    condition = condition_number(found[best], judging)
    return _as_metric(_directions(everything, _REGULARISERS[best]), like), condition


def condition_number(found: _Directions, judging: Window) -> float:
    """By how much the widest direction is wider, in variance, than the narrowest.

    Args:
        found: The directions that are looked at; all others count as 1.
        judging: Draws and scores that did not find them.
    """
    if not len(found.widths):
        return 1.0
    along_q = (judging.draws / found.scale) @ found.basis
    along_score = (judging.scores * found.scale) @ found.basis
    widths = (along_q.var(0) / along_score.var(0)).sqrt()
    return float(widths.max().clamp(min=1.0) / widths.min().clamp(max=1.0))


def _directions(seen: Window, regulariser: float) -> _Directions:
    """The directions that stand out, the most outstanding first."""
    scale = (seen.draws.var(0) / seen.scores.var(0)) ** 0.25
    draws = seen.draws / scale
    scores = seen.scores * scale
    space = _extremes(draws, scores)
    of_draws = _covariance(draws @ space, regulariser)
    of_scores = _covariance(scores @ space, regulariser)
    widths, inner = torch.linalg.eigh(_between(of_draws, of_scores))
    outstanding = widths.log().abs()
    order = outstanding.argsort(descending=True)[:_MOST_DIRECTIONS]
    kept = order[outstanding[order] > torch.tensor(_OUTSTANDING).log()]
    return _Directions(scale, space @ inner[:, kept], widths[kept])


def _extremes(draws: Tensor, scores: Tensor) -> Tensor:
    """Orthonormal columns that span the widest directions and, by the scores, the narrowest."""
    size = draws.shape[1]
    if size <= 2 * _MOST_DIRECTIONS:
        return torch.eye(size, dtype=draws.dtype, device=draws.device)
    widest = torch.linalg.eigh(_covariance(draws))[1][:, -_MOST_DIRECTIONS:]
    narrowest = torch.linalg.eigh(_covariance(scores))[1][:, -_MOST_DIRECTIONS:]
    return torch.linalg.qr(torch.cat([widest, narrowest], 1))[0]


def _covariance(x: Tensor, regulariser: float = 0.0) -> Tensor:
    eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    return x.mT @ x / len(x) + regulariser * eye


def _between(of_draws: Tensor, of_scores: Tensor) -> Tensor:
    """M, symmetric and positive, with M C_α M = C_q."""
    root = _power(of_scores, 0.5)
    inverse = _power(of_scores, -0.5)
    middle = inverse @ _power(root @ of_draws @ root, 0.5) @ inverse
    return (middle + middle.mT) / 2


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a positive matrix."""
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    least = torch.finfo(matrix.dtype).eps * values.max()
    return (vectors * values.clamp(min=least) ** exponent) @ vectors.mT


def _divergence(found: _Directions, seen: Window) -> float:
    """tr(M C_α) + tr(M⁻¹ C_q), the Fisher divergence of N(·, M) up to what all metrics share."""
    draws = seen.draws / found.scale
    scores = seen.scores * found.scale
    along_q = (draws @ found.basis).square().mean(0)
    along_score = (scores @ found.basis).square().mean(0)
    total = draws.square().mean(0).sum() + scores.square().mean(0).sum()
    more = (found.widths - 1) * along_score + (1 / found.widths - 1) * along_q
    return float(total + more.sum())


def _as_metric(found: _Directions, like: Tensor) -> Metric:
    """L of M⁻¹ = L Lᵀ, with columns that do not stretch in the place of those that are missing."""
    size = len(found.scale)
    basis = found.basis.new_zeros(size, min(size, _MOST_DIRECTIONS))
    stretch = basis.new_zeros(basis.shape[1])
    count = len(found.widths)
    basis[:, :count] = found.basis
    stretch[:count] = found.widths.sqrt() - 1
    return Metric(scale=found.scale[None].to(like), basis=basis.to(like), stretch=stretch.to(like))
