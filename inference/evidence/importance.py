"""Log evidence by importance weighting, and the ELBO, datum by datum, in bounded memory."""

from __future__ import annotations

__all__ = ["elbo", "log_evidence"]


from rich.progress import track
from torch import Tensor

from ppl_gen import memory
from ppl_gen.contexts import evaluating, guide_of, seeded
from ppl_gen.inference.checks import check, needs_all_data
from ppl_gen.inference.engine.graphs import Functional, shapes
from ppl_gen.inference.engine.replay import Engine, Replay
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.evidence.weights import LogWeights, Weights
from ppl_gen.inference.expect import expect_counts
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
    return _estimate(Weights, program, guide, x, context, particles, chunk, seed, progress, engine)


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
        LogWeights, program, guide, x, context, particles, chunk, seed, progress, engine
    )


def _estimate(
    kind: type[Weights] | type[LogWeights],
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
    expect_counts(particles=particles, chunk=chunk)
    guide = guide_of(program, guide)
    nesting, width, _ = check(program, guide, x, *context)
    pairs = chunk or memory.rows(memory.SCORED.on(x.device), max(width, 256))
    whole = needs_all_data(guide)
    per_draw = min(particles, max(1, pairs // x.shape[0]) if whole else pairs)
    rows = x.shape[0] if whole else max(1, pairs // per_draw)
    # Filled in place: small results kept from each chunk would pin the heap, and the process would
    # grow with the data.
    columns: dict[str, Tensor] = {}
    starts = range(0, x.shape[0], rows)
    draw = _Draw(program, guide, nesting, engine, len(starts) * -(-particles // per_draw))
    with evaluating(program, guide), seeded(x.device, seed):
        for start in track(starts, "importance weighting", disable=not progress, transient=True):
            data = [t[start : start + rows] for t in (x, *context)]
            seen: Weights | LogWeights = kind.empty(data[0].shape[0], particles, x.device)
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

        def pure(*inputs: Tensor) -> tuple[Tensor]:
            return (self.pure(inputs[:count], particles, *inputs[count:]),)

        return self.replay(
            pure,
            *self.pure.tensors,
            *data,
            eager=lambda *_: (self._weigh(particles, *data),),
            key=(particles, shapes(data)),
            rows=range(count, count + len(data)),
        )[0]

    def _weigh(self, particles: int, *data: Tensor) -> Tensor:
        proposal = propose(self.guide, particles, self.nesting, *data)
        joint = log_density(self.program.model, proposal.latents, *data).joint
        # A guide with more plates than the model leaves axes of size one between particles and
        # data.
        return joint.reshape(-1, joint.shape[-1]) - proposal.log_prob
