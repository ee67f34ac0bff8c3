"""Log evidence by importance weighting, and the ELBO, datum by datum, in bounded memory."""

from __future__ import annotations

__all__ = ["elbo", "log_evidence"]

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from ppl_gen import memory
from ppl_gen.arguments import are_batches, batch_of
from ppl_gen.contexts import device_of, evaluating, expect_program, guide_of, seeded
from ppl_gen.inference.checks import check_arguments, needs_all_data
from ppl_gen.inference.cuts import check_by_datum
from ppl_gen.inference.engine.graphs import Functional, shapes
from ppl_gen.inference.engine.replay import Engine, Replay
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.evidence.weights import LogWeights, Weights, tail_length
from ppl_gen.inference.expect import expect_counts
from ppl_gen.inference.left_out import expect_density, warn_of_left_out
from ppl_gen.program import log_density, propose
from ppl_gen.progress import track
from ppl_gen.protocols import Guide, Program


def log_evidence(
    program: Program,
    guide: Guide | None,
    x: Tensor | Iterable[tuple[Tensor, ...]],
    *context: Tensor,
    particles: int = 1000,
    chunk: int | None = None,
    seed: int | None = None,
    progress: bool = False,
    engine: Engine = "auto",
) -> Estimate:
    """log p̂(x | c) = log (1/K) Σₖ wₖ with wₖ = p(x, zₖ | c) / q(zₖ | x, c), zₖ ~ q(z | x, c).

    Datum by datum: weights, ESS and k̂ are never joint over the batch. p̂ is unbiased, so its
    logarithm is biased low, by about s²/2 with s the standard error. That error is
    √((K/ESS − 1) / (K − 1)), the delta method on the mean of the weights.

    The condition is q(z | x, c) > 0 wherever p(x, z | c) > 0. Where it fails the answer is log ∫
    p(x, z | c) dz over the support of q, which is too low, and neither standard error nor k̂ knows:
    a warning names the site where the guide's distribution shows it.

    Args:
        program: Any program with a density, hierarchical latents included; evaluated in evaluation
            mode.
        guide: The proposal q; None takes `program.guide`.
        x: Data of shape (N, *shape). Or batches (x, *context) of data that do not fit into memory,
            as `split.batches(1000, shuffle=False)` gives them: values are in their order, and a
            batch is all that is held.
        *context: What the program is conditioned on, each of length N; none beside batches.
        particles: K, the number of importance samples per datum.
        chunk: How many (particle, datum) pairs are evaluated at once; None chooses by the size of x
            and the device.
        seed: Seeds the draws and leaves the global generator as it was; None draws from the global
            generator.
        progress: Whether to show a progress bar.
        engine: How the weights are computed: "eager" calls the program, "fx" replays its graph,
            "inductor" compiles the graph, "cuda-graph" records it on a CUDA device, "auto" chooses
            by the number of calls. All draw the same random numbers.

    Returns:
        An `Estimate` of values (N,) in nats per datum, with standard error (NaN for one particle),
        ESS and Pareto k̂ (from 21 particles on).

    Raises:
        ValueError: If particles or chunk are below 1, there is no guide or one of point masses,
            program, guide and data do not fit together, or the guide has to see all data at once
            and they come in batches.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> x = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
        >>> log_evidence(ppca, ppca.guide, x, particles=100, seed=0).value
        tensor([-3.4500, -5.9500], dtype=torch.float64)
        >>> ppca.exact_log_evidence(x)
        tensor([-3.4500, -5.9500])

    Reference:
        Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, eq. 8.
    """
    options = _Options(
        particles=particles, chunk=chunk, seed=seed, progress=progress, engine=engine
    )
    return _estimate(Weights, program, guide, x, context, options)


def elbo(
    program: Program,
    guide: Guide | None,
    x: Tensor | Iterable[tuple[Tensor, ...]],
    *context: Tensor,
    particles: int = 100,
    chunk: int | None = None,
    seed: int | None = None,
    progress: bool = False,
    engine: Engine = "auto",
) -> Estimate:
    """ELBO(x | c) = E_q[log w] ≈ (1/K) Σₖ log wₖ, unbiased: the bound that SVI ascends.

    Datum by datum. Its standard error is the standard deviation of log w over √K. The distance to
    `log_evidence` is KL(q(z | x) ‖ p(z | x)).

    Args:
        program: Any program with a density, hierarchical latents included; evaluated in evaluation
            mode.
        guide: The approximation q of the posterior; None takes `program.guide`.
        x: Data of shape (N, *shape). Or batches (x, *context) of data that do not fit into memory,
            as `split.batches(1000, shuffle=False)` gives them: values are in their order, and a
            batch is all that is held.
        *context: What the program is conditioned on, each of length N; none beside batches.
        particles: K, the number of draws per datum.
        chunk: How many (particle, datum) pairs are evaluated at once; None chooses by the size of x
            and the device.
        seed: Seeds the draws and leaves the global generator as it was; None draws from the global
            generator. The same seed and chunk give the same draws as in `log_evidence`.
        progress: Whether to show a progress bar.
        engine: How the weights are computed: "eager" calls the program, "fx" replays its graph,
            "inductor" compiles the graph, "cuda-graph" records it on a CUDA device, "auto" chooses
            by the number of calls. All draw the same random numbers.

    Returns:
        An `Estimate` of values (N,) in nats per datum, with standard error (NaN for one particle).

    Raises:
        ValueError: If particles or chunk are below 1, there is no guide or one of point masses,
            program, guide and data do not fit together, or the guide has to see all data at once
            and they come in batches.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> x = torch.zeros(1, 3)
        >>> found = elbo(ppca, ppca.guide, x, seed=0)
        >>> found.value, ppca.exact_log_evidence(x)  # the guide is exact, and so the bound
        (tensor([-3.4500], dtype=torch.float64), tensor([-3.4500]))

    Reference:
        Kingma and Welling (2014), Auto-encoding variational Bayes, eq. 2.
    """
    options = _Options(
        particles=particles, chunk=chunk, seed=seed, progress=progress, engine=engine
    )
    return _estimate(LogWeights, program, guide, x, context, options)


class _Options(NamedTuple):
    """What `log_evidence` and `elbo` are asked for, beside programs and data."""

    particles: int
    chunk: int | None
    seed: int | None
    progress: bool
    engine: Engine


class _Cut(NamedTuple):
    """How (particle, datum) pairs are cut into pieces that are computed at once.

    Attributes:
        rows: Data of a piece.
        particles: Particles of a piece.
    """

    rows: int
    particles: int

    @classmethod
    def of(cls, pairs: int, particles: int, n: int, whole: bool) -> _Cut:
        """Equal shares of a datum's particles, as large as there may be pairs; then as many data.

        Args:
            pairs: The most pairs of a piece.
            particles: K, the particles of each datum.
            n: N, the number of data.
            whole: Whether the data must stay together; then pieces are of fewer particles.
        """
        if whole:
            return cls(rows=n, particles=_equal_share(particles, max(1, pairs // n)))
        at_once = _equal_share(particles, pairs)
        return cls(rows=max(1, pairs // at_once), particles=at_once)


def _equal_share(particles: int, most: int) -> int:
    """How many particles a piece has, so that all have as many where that is to be had.

    A last piece that is smaller would need a graph of its own, which is compiled late if at all.

    Args:
        particles: K, in all.
        most: The most of a piece.
    """
    fewest = math.ceil(particles / most)
    for pieces in range(fewest, 2 * fewest):
        if particles % pieces == 0:
            return particles // pieces
    return math.ceil(particles / fewest)


def _estimate(
    kind: type[Weights] | type[LogWeights],
    program: Program,
    guide: Guide | None,
    x: Tensor | Iterable[tuple[Tensor, ...]],
    context: Sequence[Tensor],
    options: _Options,
) -> Estimate:
    """Feeds log weights, some data and particles at a time, to what sums them up."""
    expect_counts(particles=options.particles, chunk=options.chunk)
    guide = guide_of(program, guide)
    if are_batches(x):
        return _over_batches(kind, program, guide, x, context, options)
    data = cast("Sequence[Tensor]", (x, *context))
    weighing = _Weighing(kind, program, guide, data, options, 1)
    with evaluating(program, guide), seeded(data[0].device, options.seed):
        return Estimate(**weighing.columns(data, options.progress))


def _over_batches(
    kind: type[Weights] | type[LogWeights],
    program: Program,
    guide: Guide,
    batches: Any,
    context: Sequence[Tensor],
    options: _Options,
) -> Estimate:
    """Estimates of data that come in batches, one after the other."""
    if context:
        raise ValueError(
            f"expected context within the batches, (x, *context), got {len(context)} beside them; "
            "leave it out there"
        )
    expect_program(program)
    if needs_all_data(guide):
        raise ValueError(
            "expected a guide that scores a datum by itself, for data in batches, got one that has "
            "to see all of them at once; give them as one tensor"
        )
    weighing: _Weighing | None = None
    shape: tuple[int, ...] = ()
    parts: dict[str, list[Tensor]] = {}
    with evaluating(program, guide), seeded(device_of(program), options.seed):
        for batch in track(batches, "importance weighting", shown=options.progress):
            data = batch_of(program, batch)
            if weighing is None:
                weighing = _Weighing(kind, program, guide, data, options, len(batches))
                shape = tuple(data[0].shape[1:])
            elif tuple(data[0].shape[1:]) != shape:
                raise ValueError(
                    f"expected batches of data of one shape, got {shape} and "
                    f"{tuple(data[0].shape[1:])}; bring them to one"
                )
            else:
                check_arguments(program.model, data)
            for name, column in weighing.columns(data, progress=False).items():
                parts.setdefault(name, []).append(column)
    if not parts:
        raise ValueError("expected at least one batch, got none")
    return Estimate(**{name: torch.cat(columns) for name, columns in parts.items()})


class _Weighing:
    """The weights of data that fit into memory, of a program and a guide that have been checked.

    Args:
        kind: What sums the weights up.
        program: p.
        guide: q.
        data: The first data, by which both are checked.
        options: What is asked for.
        times: How often as many data are to come.

    Raises:
        ValueError: If program, guide and data do not fit together, or not into memory.
    """

    def __init__(
        self,
        kind: type[Weights] | type[LogWeights],
        program: Program,
        guide: Guide,
        data: Sequence[Tensor],
        options: _Options,
        times: int,
    ) -> None:
        nesting, width, _ = check_by_datum(program, guide, *data)
        expect_density(guide, *data)
        if kind is Weights:
            warn_of_left_out(program, guide, nesting, *data)
        x = data[0]
        n = x.shape[0]
        particles = options.particles
        pairs = options.chunk or memory.pairs(width, x.device)
        cut = _Cut.of(pairs, particles, n, whole=needs_all_data(guide))
        _expect_room(cut, width, n, particles, x)
        calls = times * math.ceil(n / cut.rows) * math.ceil(particles / cut.particles)
        self._kind = kind
        self._particles = particles
        self._cut = cut
        self._weigher = _Weigher(program, guide, nesting, options.engine, calls)

    def columns(self, data: Sequence[Tensor], progress: bool) -> dict[str, Tensor]:
        """What an `Estimate` has of data, by name, each (N,).

        Args:
            data: (x, *context).
            progress: Whether to show a bar.
        """
        n = data[0].shape[0]
        cut = self._cut
        # Filled in place: small results kept from each chunk would pin the heap, and the process
        # would grow with the data.
        columns: dict[str, Tensor] = {}
        starts = range(0, n, cut.rows)
        for start in track(starts, "importance weighting", shown=progress):
            rows = slice(start, start + cut.rows)
            some = [t[rows] for t in data]
            seen = self._kind.empty(len(some[0]), self._particles, data[0].device)
            for done in range(0, self._particles, cut.particles):
                count = min(cut.particles, self._particles - done)
                seen = seen.add(self._weigher.log_weights(count, some).double())
            for name, part in vars(seen.estimate(self._particles)).items():
                if part is not None:
                    column = columns.setdefault(name, part.new_empty(n))
                    column[rows] = part
        return columns


def _expect_room(cut: _Cut, width: int, n: int, particles: int, x: Tensor) -> None:
    """Raises ValueError if what is computed at once does not fit into memory."""
    at_once = min(cut.rows, n) * cut.particles
    memory.expect_memory(
        f"{at_once} pairs of a particle and a datum at once",
        x.element_size() * width * at_once,
        "take a smaller chunk",
        x.device,
    )
    memory.expect_memory(
        f"the largest weights of {particles} particles",
        8 * tail_length(particles) * min(cut.rows, n),
        "take fewer particles",
        x.device,
    )


class _Weigher:
    """log w = log p(x, z | c) − log q(z | x, c) at fresh z ~ q, computed by an engine.

    Args:
        program: p.
        guide: q.
        nesting: The number of axes that the plates take.
        engine: How the weights are computed.
        calls: How many calls are to come.
    """

    def __init__(
        self, program: Program, guide: Guide, nesting: int, engine: Engine, calls: int
    ) -> None:
        self._program = program
        self._guide = guide
        self._nesting = nesting
        self._pure = Functional(self._weigh, program, guide)
        self._replay = Replay(engine, calls, watch=False, what="importance weights")

    def log_weights(self, particles: int, data: Sequence[Tensor]) -> Tensor:
        """log w, (particles, N), at (x, *context) of length N."""
        tensors = self._pure.tensors
        count = len(tensors)

        def pure(*inputs: Tensor) -> tuple[Tensor]:
            return (self._pure(inputs[:count], particles, *inputs[count:]),)

        def eager(*_: Tensor) -> tuple[Tensor]:
            return (self._weigh(particles, *data),)

        (log_weights,) = self._replay(
            pure,
            *tensors,
            *data,
            eager=eager,
            key=(particles, shapes(data)),
            rows=range(count, count + len(data)),
        )
        return log_weights

    def _weigh(self, particles: int, *data: Tensor) -> Tensor:
        proposal = propose(self._guide, particles, self._nesting, *data)
        joint = log_density(self._program.model, proposal.latents, *data).joint
        # A guide with more plates than the model leaves axes of size one between particles and
        # data.
        return joint.reshape(-1, joint.shape[-1]) - proposal.log_prob
