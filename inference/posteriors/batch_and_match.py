"""Batch and match: a full-covariance Gaussian fitted to scores, a few draws at a time."""

from __future__ import annotations

__all__ = ["MatchStep", "match_step"]

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ppl_gen.arguments import described
from ppl_gen.contexts import evaluating, store_kept
from ppl_gen.inference.engine.replay import Engine, expect_engine
from ppl_gen.inference.expect import expect_counts
from ppl_gen.inference.fitting.loop import NotFinite
from ppl_gen.inference.latents.pathfinder import Gaussians, Pathfinder
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.posteriors.evaluations import Evaluations
from ppl_gen.inference.posteriors.gaussian import GaussianGuide
from ppl_gen.memory import SINGLE, expect_memory
from ppl_gen.pyro_patches import tracing

_MATRICES = 8  # of D × D, that a step holds at once
_PATHS = 4  # of Pathfinder, where nothing else is asked for: each costs gradients
_SHRINKS = 20  # times in a row that a covariance is quartered before a step gives up


def match_step(
    model: Callable[..., Any],
    *,
    draws: int = 10,
    init: Pathfinder | GaussianGuide | None = None,
    engine: Engine = "auto",
) -> MatchStep:
    """A step that matches the scores of a Gaussian N(m, S) to those of the posterior.

    B draws x ~ N(m, S) with scores g = −∂U/∂x; x̄, C and ḡ, Γ are the means and covariances of
    both. With λ = BD / (1 + t) at step t = 0, 1, …,

        U = λΓ + λ/(1+λ) ḡḡᵀ,  V = S + λC + λ/(1+λ) (m − x̄)(m − x̄)ᵀ,

    the next S solves S U S + S = V, and the next m is (m + λ (Sḡ + x̄)) / (1 + λ): the Gaussian
    nearest in its scores to those of the posterior, that stays near the last one. Where B + 1 < D,
    U = QQᵀ is of low rank and only a (B + 1) × (B + 1) matrix has its square root taken. There is
    no learning rate to choose, and a Gaussian posterior is met exactly, by about 13 D gradients. It
    wants posteriors that are nearly Gaussian on the whole line, and good starts.

    Args:
        model: Any Pyro program with continuous latents. Discrete ones of finite support are summed
            out; plates that it subsamples are taken whole.
        draws: B, the number of draws of a step, and of gradients.
        init: Where to begin: `Pathfinder()`, of which the path of the largest ELBO is taken, or a
            `GaussianGuide` of the same posterior. `Pathfinder(paths=4)` if left out.
        engine: How log densities are computed: "eager" calls the program, "fx" replays its graph,
            "inductor" compiles the graph, "cuda-graph" records it on a CUDA device, "auto" chooses
            by the number of steps.

    Returns:
        A step to be called with all data, `step(*data)`, or `fit(step, [data], epochs=64)`. Its
        metric is "elbo", of the Gaussian before the update, in nats for all data. `step.guide` is
        the Gaussian so far.

    Raises:
        ValueError: If draws is below 2 or the engine unknown; at the first call, if the model
            cannot be run on the data, or has no continuous latents, discrete ones that cannot be
            summed out or sites that come and go; if no path of Pathfinder ends; at a later call,
            if it is given other data.
        NotFinite: If no draws of finite density and score are found; the Gaussian so far stays.

    Examples:
        >>> from ppl_gen.inference import match_step
        >>> from ppl_gen.models import toy
        >>> schools = toy.EightSchools()
        >>> step = match_step(schools.model)
        >>> for _ in range(10):
        ...     metrics = step(*schools.data)
        >>> step.gradients > 100, step.guide.sample(5)["theta"].shape
        (True, torch.Size([5, 8]))

    Reference:
        Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei and Saul (2024), Batch and match:
        black-box variational inference with a score-based divergence, algorithm 1 and appendix C.
    """
    expect_counts(draws=draws)
    if draws < 2:
        raise ValueError(f"expected draws of at least 2, got {draws}; 10 are usual")
    expect_engine(engine)
    if init is None:
        init = Pathfinder(paths=_PATHS)
    if not isinstance(init, Pathfinder | GaussianGuide):
        raise ValueError(
            f"expected init to be a Pathfinder or a GaussianGuide, got {type(init).__name__}; say "
            "init=Pathfinder()"
        )
    return MatchStep(model, draws, init, engine)


class MatchStep:
    """What `match_step` returns: one update by B draws of the posterior's scores.

    Args:
        model: The Pyro program.
        draws: B.
        init: Where to begin.
        engine: How log densities are computed.

    Attributes:
        steps: t, the number of updates so far.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        draws: int,
        init: Pathfinder | GaussianGuide,
        engine: Engine,
    ) -> None:
        self.steps = 0
        self._model = model
        self._draws = draws
        self._init = init
        self._engine = engine
        self._potential: Potential | None = None
        self._evaluations: Evaluations | None = None
        self._guide: GaussianGuide | None = None

    @property
    def guide(self) -> GaussianGuide:
        """The Gaussian so far.

        Raises:
            ValueError: If no step was made yet.
        """
        if self._guide is None:
            raise ValueError("expected a step that was called, got none yet; say step(*data)")
        return self._guide

    @property
    def gradients(self) -> int:
        """How many gradients of the log density were computed so far, those of the start too."""
        if self._evaluations is None:
            return 0
        return self._evaluations.count

    def __call__(self, *data: Any) -> dict[str, Tensor]:
        """One update on all data.

        Args:
            *data: What the model is called with, the same at every step.

        Returns:
            "elbo", of the Gaussian before the update, in nats.
        """
        with evaluating(self._model), tracing(), store_kept():
            if self._guide is None:
                self._begin(data)
            assert self._potential is not None
            _expect_same(data, self._potential.args)
            return {"elbo": self._update()}

    def begin(self, potential: Potential, evaluations: Evaluations, guide: GaussianGuide) -> None:
        """Begins from what is known already of a posterior.

        Args:
            potential: U(q) of it, all latents in one block.
            evaluations: By which its scores are computed.
            guide: Where to begin.
        """
        width = potential.shape[1]
        needed = _MATRICES * 2 * SINGLE * width * width
        what = f"a covariance of {width} latents"
        expect_memory(what, needed, "take fit_guide with AutoNormal", potential.device)
        self._potential = potential
        self._evaluations = evaluations
        self._guide = guide

    def _begin(self, data: tuple[Any, ...]) -> None:
        """Looks at the model, and goes to the start."""
        init = self._init
        if isinstance(init, GaussianGuide):
            _expect_same(data, init.potential.args)
            evaluations = Evaluations(init.potential, self._engine)
            self.begin(init.potential, evaluations, init)
            return
        potential = Potential(self._model, data)
        evaluations = Evaluations(potential, self._engine)
        paths = init.walked(potential, _PATHS, evaluations)
        best = int(paths.elbo[:, 0].argmax())
        self.begin(potential, evaluations, gaussian_of(potential, paths.gaussians, best))

    def _update(self) -> Tensor:
        """S and m by the scores of B draws; returns the ELBO before."""
        points, scores, elbo = self._scored()
        width = points.shape[1]
        rate = self._draws * width / (1 + self.steps)
        guide = self.guide
        mean, factor = matched(guide.mean, guide.factor, points, scores, rate)
        if bool(factor.isfinite().all()) and bool(mean.isfinite().all()):
            self._guide = GaussianGuide(guide.potential, mean, factor)
        self.steps += 1
        return elbo

    def _scored(self) -> tuple[Tensor, Tensor, Tensor]:
        """Draws (B, D) and their scores (B, D), and the ELBO of the Gaussian.

        Where fewer than two are finite, the Gaussian reaches too far, and is narrowed.
        """
        guide = self.guide
        assert self._evaluations is not None
        for _ in range(_SHRINKS):
            points, log_q = guide.draw(self._draws)
            energy, gradient = self._evaluations(points, *guide.potential.tensors)
            log_weight = -energy.double() - log_q
            is_finite = (log_weight.isfinite() & gradient.isfinite().all(-1))[:, 0]
            if int(is_finite.sum()) >= 2:
                self._guide = guide
                score = -gradient[is_finite, 0].double()
                return points[is_finite, 0].double(), score, log_weight[is_finite].mean()
            guide = GaussianGuide(guide.potential, guide.mean, guide.factor / 2)
        raise NotFinite(
            f"expected draws of finite density and score, got none about the start at step "
            f"{self.steps}; begin elsewhere (init=), rescale the data, or take hmc"
        )


def gaussian_of(potential: Potential, found: Gaussians, path: int) -> GaussianGuide:
    """The Gaussian of one path, as a guide.

    Args:
        potential: U(q) of the posterior, all latents in one block.
        found: Those of all paths.
        path: Which.
    """
    diagonal = found.diagonal[path, 0].double()
    basis = found.basis[path, 0].double()
    lower = found.factor[path, 0].double()
    eye = torch.eye(lower.shape[-1], dtype=torch.double, device=lower.device)
    inner = basis @ (lower @ lower.mT - eye) @ basis.mT
    root = diagonal.sqrt()
    covariance = torch.diag(diagonal) + root[:, None] * inner * root
    factor, failed = torch.linalg.cholesky_ex((covariance + covariance.mT) / 2)
    if int(failed) != 0:
        factor = torch.diag(root)
    return GaussianGuide(potential, found.mean[path, 0], factor)


def matched(
    mean: Tensor, factor: Tensor, points: Tensor, scores: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    """The next m (D,) and L (D, D), S = LLᵀ; NaN where V is no covariance.

    Args:
        mean: m, (D,), float64.
        factor: L, (D, D).
        points: x, (B, D).
        scores: g, (B, D).
        rate: λ.
    """
    count, width = points.shape
    share = rate / (1 + rate)
    centre = points.mean(0)
    score = scores.mean(0)
    spread = (points - centre).mT * math.sqrt(rate / count)
    shift = (mean - centre) * math.sqrt(share)
    v = factor @ factor.mT + spread @ spread.mT + torch.outer(shift, shift)
    turned = (scores - score).mT * math.sqrt(rate / count)
    q = torch.cat([turned, math.sqrt(share) * score[:, None]], 1)
    if count + 1 < width:
        solved = _solved_by_columns(v, q)
    else:
        u = q @ q.mT
        solved = _solved(v, u)
    covariance = (solved + solved.mT) / 2
    lower, failed = torch.linalg.cholesky_ex(covariance)
    if int(failed) != 0:
        lower = torch.full_like(lower, torch.nan)
    return (mean + rate * (covariance @ score + centre)) / (1 + rate), lower


def _solved(v: Tensor, u: Tensor) -> Tensor:
    """S with S U S + S = V: LQ diag(2/(1 + √(1 + 4E))) QᵀLᵀ, V = LLᵀ and LᵀUL = QEQᵀ."""
    lower, _ = torch.linalg.cholesky_ex(v)
    values, vectors = torch.linalg.eigh(lower.mT @ u @ lower)
    left = lower @ vectors
    return (left * (2 / (1 + (1 + 4 * values.clamp(min=0)).sqrt()))) @ left.mT


def _solved_by_columns(v: Tensor, q: Tensor) -> Tensor:
    """The same where U = QQᵀ has few columns: V − VQ [½ + (QᵀVQ + ¼)^½]⁻² QᵀV.

    Args:
        v: V, (D, D).
        q: Q, (D, k) with k below D.
    """
    across = v @ q
    values, vectors = torch.linalg.eigh(q.mT @ across)
    left = across @ vectors
    root = 0.5 + (values.clamp(min=0) + 0.25).sqrt()
    return v - (left / root.square()) @ left.mT


def _expect_same(data: tuple[Any, ...], known: tuple[Any, ...]) -> None:
    """Raises ValueError unless data are those that the step began with."""
    same = len(data) == len(known)
    for given, held in zip(data, known, strict=False):
        same = same and _is_same(given, held)
    if not same:
        raise ValueError(
            f"expected the data that the step began with, {_listed(known)}, got "
            f"{_listed(data)}: it is of one posterior, of all data; make a step for each"
        )


def _is_same(given: Any, held: Any) -> bool:
    if given is held:
        return True
    if torch.is_tensor(given) and torch.is_tensor(held):
        return given.device == held.device and torch.equal(given, held)
    return not torch.is_tensor(given) and not torch.is_tensor(held) and bool(given == held)


def _listed(data: tuple[Any, ...]) -> str:
    return ", ".join([described(argument) for argument in data]) or "none"
