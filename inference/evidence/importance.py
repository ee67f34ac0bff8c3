"""Log evidence by importance weighting, and the ELBO, datum by datum, in bounded memory."""

from __future__ import annotations

__all__ = ["elbo", "log_evidence", "summarised"]

import math
from contextlib import nullcontext
from typing import NamedTuple

import torch
from rich.progress import track
from torch import Tensor

from ppl_gen.contexts import evaluating, forked, guide_of
from ppl_gen.inference.checks import check, needs_all_data
from ppl_gen.inference.engine.graphs import Functional, shapes
from ppl_gen.inference.engine.replay import Engine, Replay
from ppl_gen.inference.estimate import Estimate
from ppl_gen.program import log_density, propose
from ppl_gen.protocols import Guide, Program


def log_evidence(
    program: Program,
    guide: Guide | None,
    x: Tensor,
    *context: Tensor,
    particles: int = 1000,
    chunk: int | None = None,
    seed: int | None = None,
    progress: bool = False,
    engine: Engine = "auto",
) -> Estimate:
    """log p̂(x | c) = log (1/K) Σₖ wₖ with wₖ = p(x, zₖ | c) / q(zₖ | x, c) and zₖ ~ q(z | x, c),
    for every datum.

    p̂ is unbiased, so its logarithm is biased low, by about s²/2 with s the standard error. That
    error is √((K/ESS − 1) / (K − 1)), the delta method on the mean of the weights. Weights, ESS and
    k̂ are those of each datum, never joint over the batch.

    Args:
        program: Any program with a density, hierarchical latents included; evaluated in evaluation
            mode.
        guide: The proposal q; None takes `program.guide`.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.
        particles: K, the number of importance samples per datum.
        chunk: How many (particle, datum) pairs are evaluated at once; None chooses by the size of x
            and the device.
        seed: Seeds the draws and leaves the global generator as it was; None draws from the global
            generator.
        progress: Whether to show a progress bar.
        engine: How the weights are computed, see `ppl_gen.inference.engine.Replay`; all draw the
            same random numbers.

    Returns:
        An `Estimate` of values (N,) in nats per datum, with standard error (NaN for one particle),
        ESS and Pareto k̂ (from 21 particles on).

    Raises:
        ValueError: If particles or chunk are below 1, or as `ppl_gen.inference.checks.check` says.

    Reference:
        Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, eq. 8.
    """
    return _estimate(_Weights, program, guide, x, context, particles, chunk, seed, progress, engine)


def elbo(
    program: Program,
    guide: Guide | None,
    x: Tensor,
    *context: Tensor,
    particles: int = 100,
    chunk: int | None = None,
    seed: int | None = None,
    progress: bool = False,
    engine: Engine = "auto",
) -> Estimate:
    """ELBO(x | c) = E_q[log w] ≈ (1/K) Σₖ log wₖ, the bound that SVI ascends, for every datum;
    unbiased.

    Its standard error is the standard deviation of log w over √K. The distance to `log_evidence` is
    KL(q(z | x) ‖ p(z | x)).

    Args:
        program: As in `log_evidence`.
        guide: As in `log_evidence`.
        x: As in `log_evidence`.
        *context: As in `log_evidence`.
        particles: K, the number of draws per datum.
        chunk: As in `log_evidence`.
        seed: As in `log_evidence`; the same seed and chunk give the same draws.
        progress: As in `log_evidence`.
        engine: As in `log_evidence`.

    Returns:
        An `Estimate` of values (N,) in nats per datum, with standard error (NaN for one particle).

    Raises:
        ValueError: As `log_evidence` does.

    Reference:
        Kingma and Welling (2014), Auto-encoding variational Bayes, eq. 2.
    """
    return _estimate(
        _LogWeights, program, guide, x, context, particles, chunk, seed, progress, engine
    )


def _estimate(
    kind: type[_Weights] | type[_LogWeights],
    program: Program,
    guide: Guide | None,
    x: Tensor,
    context: tuple[Tensor, ...],
    particles: int,
    chunk: int | None,
    seed: int | None,
    progress: bool,
    engine: Engine,
) -> Estimate:
    """Feeds log weights, a chunk of data and particles at a time, to what sums them up."""
    for name, number in (("particles", particles), ("chunk", chunk)):
        if number is not None and number < 1:
            raise ValueError(f"expected {name} of at least 1, got {number}")
    guide = guide_of(program, guide)
    nesting, width, _ = check(program, guide, x, *context)
    pairs = chunk or max(1, (2**26 if x.is_cuda else 2**21) // max(width, 256))
    whole = needs_all_data(guide)
    per_draw = min(particles, max(1, pairs // x.shape[0]) if whole else pairs)
    rows = x.shape[0] if whole else max(1, pairs // per_draw)
    # Filled in place: small results kept from each chunk would pin the heap, and the process would
    # grow with the data.
    columns: dict[str, Tensor] = {}
    seeded = nullcontext() if seed is None else forked(x.device, seed)
    starts = range(0, x.shape[0], rows)
    draw = _Draw(program, guide, nesting, engine, len(starts) * -(-particles // per_draw))
    with evaluating(program, guide), seeded:
        for start in track(starts, "importance weighting", disable=not progress, transient=True):
            data = [t[start : start + rows] for t in (x, *context)]
            seen: _Weights | _LogWeights = kind.empty(data[0].shape[0], particles, x.device)
            for done in range(0, particles, per_draw):
                seen = seen.add(draw.log_weights(min(per_draw, particles - done), data).double())
            for name, part in vars(seen.estimate(particles)).items():
                if part is not None:
                    columns.setdefault(name, part.new_empty(x.shape[0]))[start : start + rows] = (
                        part
                    )
    return Estimate(**columns)


class _Draw:
    """log p(x, z) − log q(z | x) at fresh z, by an engine."""

    def __init__(
        self, program: Program, guide: Guide, nesting: int, engine: Engine, calls: int
    ) -> None:
        self.program, self.guide, self.nesting = program, guide, nesting
        self.pure = Functional(self._weigh, program, guide)
        self.replay = Replay(engine, calls, watch=False, what="importance weights")

    def log_weights(self, particles: int, data: list[Tensor]) -> Tensor:
        """Of shape (particles, N)."""
        count = len(self.pure.tensors)
        self.replay.rows = range(count, count + len(data))

        def pure(*inputs: Tensor) -> tuple[Tensor]:
            return (self.pure(inputs[:count], particles, *inputs[count:]),)

        return self.replay(
            pure,
            *self.pure.tensors,
            *data,
            eager=lambda *_: (self._weigh(particles, *data),),
            key=(particles, shapes(data)),
        )[0]

    def _weigh(self, particles: int, *data: Tensor) -> Tensor:
        proposal = propose(self.guide, particles, self.nesting, *data)
        joint = log_density(self.program.model, proposal.latents, *data).joint
        # A guide with more plates than the model leaves axes of size one between particles and
        # data.
        return joint.reshape(-1, joint.shape[-1]) - proposal.log_prob


class _Weights(NamedTuple):
    """Of all log weights (K, n) seen so far: log Σw and log Σw², and the largest ones, for the
    tail.
    """

    log_sum: Tensor
    log_sum_square: Tensor
    tail: Tensor

    @classmethod
    def empty(cls, n: int, particles: int, device: torch.device) -> _Weights:
        nothing = torch.full((n,), -math.inf, dtype=torch.float64, device=device)
        return cls(nothing, nothing, nothing.expand(_tail_length(particles) + 1, n))

    def add(self, new: Tensor) -> _Weights:
        return _Weights(
            torch.logaddexp(self.log_sum, new.logsumexp(0)),
            torch.logaddexp(self.log_sum_square, (2 * new).logsumexp(0)),
            torch.cat([self.tail, new]).topk(self.tail.shape[0], dim=0).values,
        )

    def estimate(self, particles: int) -> Estimate:
        ess = (2 * self.log_sum - self.log_sum_square).exp()
        variance = (
            (particles / ess - 1).clamp(min=0) / (particles - 1)
            if particles > 1
            else ess * torch.nan
        )
        k_hat = _pareto_shape(self.tail) if _tail_length(particles) > 4 else None
        return Estimate(self.log_sum - math.log(particles), variance.sqrt(), ess, k_hat)


class _LogWeights(NamedTuple):
    """Of all log weights (K, n) seen so far: their number, mean and sum of squared deviations,
    merged pairwise.
    """

    seen: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def empty(cls, n: int, particles: int, device: torch.device) -> _LogWeights:
        nothing = torch.zeros(n, dtype=torch.float64, device=device)
        return cls(0, nothing, nothing)

    def add(self, new: Tensor) -> _LogWeights:
        seen = self.seen + len(new)
        shift = new.mean(0) - self.mean
        within = (new - new.mean(0)).square().sum(0)
        between = shift.square() * self.seen * len(new) / seen
        return _LogWeights(
            seen, self.mean + shift * len(new) / seen, self.squares + within + between
        )

    def estimate(self, particles: int) -> Estimate:
        variance = self.squares / (particles - 1) if particles > 1 else self.squares * torch.nan
        return Estimate(self.mean, (variance / particles).sqrt())


def summarised(log_weights: Tensor) -> tuple[Estimate, Estimate]:
    """What `log_evidence` and `elbo` return, of log weights (K, N) that are at hand."""
    particles, n = log_weights.shape
    log_weights = log_weights.double()
    weights = _Weights.empty(n, particles, log_weights.device).add(log_weights)
    return weights.estimate(particles), _LogWeights.empty(n, particles, log_weights.device).add(
        log_weights
    ).estimate(particles)


def _tail_length(particles: int) -> int:
    """The number of largest weights that the Pareto tail is fitted to (Vehtari et al. 2024)."""
    return math.ceil(min(0.2 * particles, 3 * math.sqrt(particles)))


def _pareto_shape(tail: Tensor) -> Tensor:
    """k̂ of a generalised Pareto fitted to the excess of the largest weights (M, n) over the (M +
    1)-th, column by column.

    The profile posterior mean of Zhang and Stephens (2009), A new and efficient estimation method
    for the generalized Pareto distribution, shrunk towards 1/2 with the weight of ten observations
    (Vehtari et al. 2024, Pareto smoothed importance sampling). Minus infinity where a quarter of
    the tail's weights are equal, infinity where the largest dwarfs them.
    """
    ordered = (tail - tail[0]).exp().flip(0)
    excess = (ordered[1:] - ordered[0]).T
    count = excess.shape[1]
    grid = 30 + int(math.sqrt(count))
    quartile, largest = excess[:, [int(count / 4 + 0.5) - 1]], excess[:, [-1]]
    steps = torch.arange(1, grid + 1, dtype=tail.dtype, device=tail.device) - 0.5
    theta = 1 / largest + (1 - (grid / steps).sqrt()) / (3 * quartile)
    shape = torch.log1p(-theta[:, :, None] * excess[:, None]).mean(-1)
    likelihood = count * (torch.log(-theta / shape) - shape - 1)
    theta = (theta * likelihood.softmax(-1)).sum(-1, keepdim=True)
    shape = torch.log1p(-theta * excess).mean(-1)
    shrunk = (count * shape + 10 * 0.5) / (count + 10)
    # No quartile to fit: either the tail is of a few equal weights, as discrete latents give, and
    # bounded; or the smaller weights are lost beside the largest, by some 10³⁰⁰, and no tail is
    # heavier.
    ascending = tail.flip(0)
    bounded = (ascending[int(count / 4 + 0.5)] == ascending[0]) | (largest[:, 0] == 0)
    lost = (quartile[:, 0] == 0) | shrunk.isnan()
    return torch.where(bounded, -math.inf, torch.where(lost, math.inf, shrunk))
