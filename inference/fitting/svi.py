"""Stochastic variational inference: one update of program and guide, or a whole fit by Adam."""

from __future__ import annotations

__all__ = ["NotFinite", "ProgramFit", "expect_average", "fit_program", "svi_step"]

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO, Trace_ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_gen.contexts import (
    device_of,
    guide_of,
    modules_of,
    owner,
    seeded,
    simulates,
    takes,
)
from ppl_gen.counts import expect_at_least, expect_weight
from ppl_gen.inference.checks import check, check_sites, few_data
from ppl_gen.inference.engine.descent import Descent
from ppl_gen.inference.engine.replay import Engine, compiles
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.expect import expect_clip, expect_counts, expect_optimizers, expect_rate
from ppl_gen.inference.findings import Verdict
from ppl_gen.inference.fitting.bound import PerDatum
from ppl_gen.inference.fitting.gradient_step import GradientStep
from ppl_gen.inference.fitting.loop import Measure, NotFinite, Record, Rule, by_epoch, fit
from ppl_gen.inference.fitting.objectives import FreeBits
from ppl_gen.inference.fitting.stopping.trend import last_tenth, settled, tenths
from ppl_gen.inference.particles import expect_leading_axes
from ppl_gen.inference.result import Result
from ppl_gen.memory import expect_memory
from ppl_gen.precision import Precision, expect_precision, in_precision
from ppl_gen.program import stochastic_sites
from ppl_gen.protocols import Guide, Program, Step
from ppl_gen.pyro_patches import forget_unconstrained
from ppl_gen.ranks import Ranks
from ppl_gen.sharing import sharing

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What `svi_step` calls its objective.
_NAMES = {"elbo": "ELBO", "iwae": "IWAE bound", "objective": "objective"}

# β: a number, or a function of the step's index.
Weight = float | Callable[[int], float]


def svi_step(
    program: Program,
    optimizer: torch.optim.Optimizer,
    elbo: ELBO | None = None,
    *,
    guide: Guide | None = None,
    beta: Weight = 1.0,
    clip: float | None = None,
    first_step: int = 0,
    engine: Engine = "auto",
    steps: int | None = None,
    across: Ranks | None = None,
    precision: Precision = "float32",
) -> Step:
    """A step that ascends (1/N) Σᵢ E_q[log p(xᵢ | z) + β (log p(z) − log q(z | xᵢ))].

    At β = 1 this is the evidence lower bound per datum, in nats; several particles of a Trace_ELBO
    are averaged. Another objective, of `ppl_gen.inference.fitting.objectives` or of Pyro, is
    ascended per datum in its own form. Labels that the program does not ask for are left out, so
    that the same batches serve a VAE and a CVAE. The global param store is left as found.

    Args:
        program: Any program with a density. A plain Pyro model, or a program whose model takes no
            `n`, is taken as it is, with all its arguments as the batch: its ELBO is in nats for all
            data, N = 1.
        optimizer: A torch optimiser of the parameters to train, of program and guide.
        elbo: The objective: any Pyro ELBO; Trace_ELBO() if left out.
        guide: q(z | x); `program.guide` if left out.
        beta: β, a number or a function of the step's index. It multiplies the log densities of
            latent sites only.
        clip: The largest norm of the gradient; longer ones are scaled down to it.
        first_step: The index of the first step, above 0 where a fit goes on: by the schedule, and
            by the engine, of the step that it stopped at.
        engine: How loss and gradient are computed; all engines draw the same random numbers.
            "eager" runs the program, as objectives without a `differentiable_loss` always do. "fx"
            replays a graph of tensor operations, traced from the program once. "inductor" compiles
            that graph, together with the update of an Adam or AdamW: then no gradient is left in
            the parameters. "cuda-graph" records what was compiled, on a CUDA device alone, and
            launches it at once. "auto" takes what pays: "fx" from 100 steps on; from 10,000 on
            "inductor", or "cuda-graph" where there is such a device.
            What the program holds besides its tensors and its modules' numbers becomes part of the
            graph; a change of it is noticed at steps 2, 4, 8, … and at every thousandth.
        steps: How many steps are to come, if known: "auto" compiles when they pay for it.
        across: The processes of a `ranks.joined()`, each of which calls its step on its own share
            of every batch, (x, *context) with at least one datum: all make the update of the whole
            batch, of N data in all. None for one process.
        precision: How networks are computed: "float32", as torch is set; "tf32", in that mode of
            CUDA devices, which processors have not; "bfloat16", of which linear maps and
            convolutions multiply, all else, log densities and sums too, being in float32.

    Returns:
        A step with the metrics "elbo" in nats per datum ("iwae" for the bound of several particles,
        "objective" for what is no bound, as where β is not 1 throughout), and "gradient_norm".

    Raises:
        ValueError: If clip, beta, engine or precision is out of range, or the objective is no
            average over data and there are several processes; on the first batch, if program, guide
            and data do not fit each other, or no parameter of the optimiser gets a gradient; on a
            later one, if program or optimiser have got other parameters.
        NotFinite: If a loss or gradient is not finite, before any update with it; names the site or
            parameter and the step.
        ProcessLost: If another of several processes has ended.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> step = svi_step(vae, torch.optim.Adam(vae.parameters(), 1e-3), engine="eager")
        >>> metrics = step(torch.zeros(5, 4))
        >>> sorted(metrics), metrics["elbo"].shape
        (['elbo', 'gradient_norm'], torch.Size([]))

    Reference:
        Kingma and Welling (2014), eq. 3; for β, Higgins et al. (2017), beta-VAE, eq. 4.
    """
    expect_at_least(0, first_step=first_step, steps=steps)
    expect_precision(precision)
    expect_clip(clip)
    if not callable(beta):
        expect_weight(beta=beta)
    if elbo is None:
        elbo = Trace_ELBO()
    guide = guide_of(program, guide)
    if not hasattr(elbo, "differentiable_loss"):
        if engine == "fx" or compiles(engine):
            warnings.warn(
                f"{type(elbo).__name__} cannot be traced: it runs eagerly",
                RuntimeWarning,
                stacklevel=2,
            )
        engine = "eager"
    if across is not None:
        expect_average(elbo, getattr(program, "model", program))
    objective = _Objective(elbo, program, guide, optimizer, beta)
    descent = Descent(
        in_precision(objective.loss, precision),
        in_precision(objective.backward, precision),
        (program, guide, elbo),
        optimizer,
        engine=engine,
        steps=steps,
        first_step=first_step,
        clip=clip,
        across=across,
    )
    return GradientStep(descent, objective, first_step, precision)


def fit_program(
    program: Program,
    batches: Iterable[tuple[Tensor, ...]],
    elbo: ELBO | None = None,
    *,
    epochs: int,
    rate: float = 1e-3,
    guide: Guide | None = None,
    beta: Weight = 1.0,
    clip: float | None = None,
    validation: Measure | None = None,
    stop: Rule | None = None,
    engine: Engine = "auto",
    seed: int | None = None,
    progress: bool = False,
) -> ProgramFit:
    """Program and guide fitted together by Adam, epoch after epoch: `svi_step` and `fit` in one.

    For another optimiser, a schedule or a loop of one's own, take these two by themselves.

    Args:
        program: Any program with a density, or a plain Pyro model.
        batches: Any re-iterable of tuples (x, *context): `split.batches(50)`.
        elbo: The objective: any Pyro ELBO, or one of `ppl_gen.inference.fitting.objectives`;
            Trace_ELBO() if left out.
        epochs: How often all batches are gone through; the most there are, where a rule may stop
            the fit.
        rate: Adam's learning rate.
        guide: q(z | x); `program.guide` if left out. Its parameters are fitted too.
        beta: β, the weight of the latents' terms, a number or a function of the step's index:
            `annealed(steps)` rises from 0.
        clip: The largest norm of the gradient; longer ones are scaled down to it.
        validation: Called after each epoch; its metrics are among those of the records.
        stop: A rule that says when the fit is over, such as `Patience(5)`; the weights are then
            those of its best epoch.
        engine: How loss and gradient are computed, with the same random numbers in all: "eager"
            runs the program, "fx" replays a graph traced from it, "inductor" compiles that graph,
            "cuda-graph" records it on a CUDA device, "auto" takes what pays.
        seed: Seed of all that is drawn in the fit; torch's generators are then left as found. None
            draws from the global generator. Weights were drawn when the program was made.
        progress: Whether to show a bar; lines, where there is neither a terminal nor a notebook.

    Returns:
        The records of all epochs, whether the objective has settled, and its curve.

    Raises:
        ValueError: If epochs is below 1, rate, clip, beta or engine is out of range, nothing has
            parameters, or program, guide and data do not fit together.
        NotFinite: If a loss or gradient is not finite, before any update with it.

    Examples:
        >>> from ppl_gen.models import vae
        >>> _ = torch.manual_seed(0)
        >>> program = vae((2,), 1, hidden=(8,))
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(20, 1)
        >>> fitted = fit_program(program, [(x,)], epochs=200, rate=0.01, engine="eager", seed=0)
        >>> fitted.verdict.tags, bool(fitted.objective[-1] > fitted.objective[0])
        (('settled',), True)

    Reference:
        Kingma and Welling (2014), Auto-encoding variational Bayes; Kingma and Ba (2015), Adam.
    """
    expect_counts(epochs=epochs)
    expect_rate(rate, usual=1e-3)
    guide = guide_of(program, guide)
    parameters: dict[int, torch.nn.Parameter] = {}
    for module in modules_of(program, guide):
        for parameter in module.parameters():
            parameters.setdefault(id(parameter), parameter)
    if not parameters:
        raise ValueError(
            "expected a program or guide with parameters to fit, got none; a plain Pyro model is "
            "fitted by fit_guide(model, family, *data), or sampled by hmc"
        )
    weights = list(parameters.values())
    steps = None
    if isinstance(batches, Sized):
        steps = epochs * len(batches)
    with seeded(device_of(program, weights), seed):
        step = svi_step(
            program,
            torch.optim.Adam(weights, rate, fused=True),
            elbo,
            guide=guide,
            beta=beta,
            clip=clip,
            engine=engine,
            steps=steps,
        )
        records = fit(step, batches, epochs, progress=progress, validation=validation, stop=stop)
    return ProgramFit(records)


@dataclass(frozen=True, eq=False, repr=False)
class ProgramFit(Result):
    """How a fit by SVI went.

    Attributes:
        records: What each epoch did, as `fit` returns them.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> found = fit_program(vae, [(torch.zeros(20, 4),)], epochs=3, engine="eager")
        >>> len(found.records), found.metric
        (3, 'elbo')
    """

    records: list[Record]

    @property
    def metric(self) -> str:
        """What was ascended: "elbo", "iwae" or "objective"."""
        return next(name for name in _NAMES if name in self.records[0].metrics)

    @property
    def objective(self) -> Tensor:
        """What was ascended, averaged over each epoch, (epochs,), in nats per datum."""
        values = [record.metrics[self.metric] for record in self.records]
        return torch.tensor(values, dtype=torch.float64)

    @property
    def final(self) -> Estimate:
        """The objective over the last tenth of the epochs, with the error of their average.

        It is of the training data, while the weights moved: no score.
        """
        return last_tenth(self.objective)

    @property
    def headline(self) -> str:
        name = _NAMES[self.metric]
        said = f"{float(self.final.value):.3f}"
        if self.final.standard_error.isfinite():
            said = str(self.final)
        return f"{name} {said} nats per training datum after {len(self.records)} epochs"

    @property
    def verdict(self) -> Verdict:
        """Whether the objective has settled: "rising" or "settled"; nothing below 20 epochs.

        It is taken to rise where the last tenth of the epochs has gained more than four standard
        errors, and more than a hundredth of a nat.
        """
        return settled(self.objective, "epochs")

    def table(self) -> pandas.DataFrame:
        """The average of each tenth of the epochs with its error, in nats."""
        return tenths(self.objective)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each epoch: every metric, and seconds."""
        return by_epoch(self.records)

    def plot(self, title: str = "", ax: Axes | None = None) -> Figure:
        """The objective against the epoch, see `ppl_gen.plots.training_curve`.

        Args:
            title: Stands above.
            ax: Axes that the picture takes the place of; it is a figure of its own if left out.
        """
        from ppl_gen.plots import training_curve

        label = f"{_NAMES[self.metric]}, nats per datum"
        return training_curve(self.records, self.metric, label, title, ax=ax)


def expect_average(elbo: ELBO, model: Any) -> None:
    """Raises ValueError unless an objective is an average over data, so that shares add up to it.

    Free bits are of a batch, as are objectives that call backward themselves.

    Args:
        elbo: Any Pyro ELBO.
        model: A program's model, or a plain Pyro model.
    """
    is_average = hasattr(elbo, "differentiable_loss") and simulates(model)
    if is_average and not isinstance(elbo, FreeBits):
        return
    raise ValueError(
        "expected an objective that is an average over the data of a program for several "
        f"processes, got {type(elbo).__name__}; take another, or one process"
    )


def _metric(elbo: ELBO, beta: Weight) -> str:
    """The name of the objective among the metrics: "objective" where it is no bound."""
    if callable(beta) or beta != 1:
        return "objective"
    return getattr(elbo, "metric", "elbo")


class _Objective:
    """An objective of Pyro's as the loss that is descended, in nats per datum.

    Args:
        elbo: Any Pyro ELBO.
        program: A program, or a plain Pyro model, whose loss is that of all data.
        guide: q(z | x).
        optimizer: The optimiser of the parameters that get a gradient.
        beta: β, a number or a function of the step's index.

    Attributes:
        is_per_datum: Whether the loss is divided by the number of data.
        width: How many tensors of a batch the program takes; all if None.
    """

    def __init__(
        self,
        elbo: ELBO,
        program: Any,
        guide: Guide,
        optimizer: torch.optim.Optimizer,
        beta: Weight,
    ) -> None:
        self._elbo = elbo
        self._program = program
        self._model: Any = getattr(program, "model", program)
        self._guide = guide
        self._optimizer = optimizer
        self._beta = beta
        self._metric = _metric(elbo, beta)
        self.is_per_datum = simulates(self._model)
        self.width = takes(self._model)

    def begin(self, batch: tuple[Any, ...]) -> None:
        """Raises ValueError if program, guide, optimiser and data do not fit each other.

        Args:
            batch: What model and guide are called with.
        """
        expect_optimizers(self._optimizer)
        if not self.is_per_datum:
            check_sites(self._model, self._guide, batch)
            return
        nesting, width, _ = check(self._program, self._guide, *batch, weighed=False)
        if self._draws_at_once:
            _expect_room(self._elbo.num_particles, width, batch[0])
            expect_leading_axes(self._program, self._guide, nesting, few_data(self._guide, batch))

    def expect(self, batch: tuple[Any, ...]) -> None:
        """Nothing: what fits once does so for good."""

    def weight(self, index: int) -> float | None:
        """β at a step; None where it is 1 throughout."""
        if callable(self._beta):
            return self._beta(index)
        if self._beta == 1:
            return None
        return self._beta

    def metrics(self, loss: Tensor, norm: Tensor) -> Mapping[str, Tensor]:
        """The bound, or objective, and the norm of the gradient."""
        return {self._metric: -loss, "gradient_norm": norm}

    def failure(self, index: int, loss: Tensor, batch: tuple[Any, ...]) -> NotFinite:
        """What went wrong at a step, where, and what to do.

        Args:
            index: Of the step.
            loss: Its loss.
            batch: Its data.
        """
        if torch.isfinite(loss):
            parameters: list[Tensor] = []
            for group in self._optimizer.param_groups:
                parameters.extend(group["params"])
            where = _bad_parameters(self._program, self._guide, parameters)
            return _not_finite("gradient", index, where)
        return _not_finite("loss", index, _bad_sites(self._model, self._guide, batch))

    @property
    def _draws_at_once(self) -> bool:
        """Whether all draws of the latents lie on an axis of their own."""
        if isinstance(self._elbo, PerDatum):
            return True
        return bool(self._elbo.vectorize_particles) and self._elbo.num_particles > 1

    def loss(self, batch: tuple[Tensor, ...], weight: Tensor | float | None) -> Tensor:
        """The loss, differentiable, latent sites weighted by β if it is given."""
        with _weighted(weight), sharing():
            loss = self._elbo.differentiable_loss(self._model, self._guide, *batch)
        return loss / self._count(batch)

    def backward(self, batch: tuple[Tensor, ...], weight: Tensor | float | None) -> Tensor:
        """Adds the gradient of the loss to those in the parameters, and returns the loss."""
        with pyro.validation_enabled(False):
            if not hasattr(self._elbo, "differentiable_loss"):
                with _weighted(weight):
                    return self._backward_by_itself(batch)
            loss = self.loss(batch, weight)
            if not loss.requires_grad:
                raise ValueError(
                    "expected a loss with a gradient, got one that no parameter changes: those of "
                    "program and guide require none; say requires_grad_(True) of what is to be "
                    "fitted"
                )
            loss.backward()
            return loss.detach()

    def _backward_by_itself(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Does the same for objectives that call backward themselves: TraceGraph_ELBO, RenyiELBO.

        They do so only where a trace shows them parameters; what that puts into the param store is
        taken out again. The division by N comes last, since the logarithm of a mean that is divided
        inside is no bound.
        """
        store = pyro.get_param_store()
        before = set(store.keys())
        try:
            with poutine.trace(param_only=True):
                loss = self._elbo.loss_and_grads(self._model, self._guide, *batch)
        finally:
            for name in set(store.keys()) - before:
                forget_unconstrained(name)
                del store[name]
        count = self._count(batch)
        for group in self._optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad /= count
        return torch.as_tensor(loss) / count

    def _count(self, batch: tuple[Tensor, ...]) -> int:
        """What the loss is divided by: the number of data, or 1."""
        if self.is_per_datum:
            return batch[0].shape[0]
        return 1


def _expect_room(particles: int, width: int, x: Tensor) -> None:
    """Raises ValueError if draws of all particles and their gradients do not fit into memory."""
    needed = 2 * x.element_size() * particles * len(x) * width
    what = f"{particles} particles for each of {len(x)} data"
    expect_memory(what, needed, "take fewer particles, or smaller batches", x.device)


class _LatentScale(Messenger):
    """Multiplies the log densities of latent sites, in model and guide alike, by β."""

    def __init__(self, beta: float | Tensor) -> None:
        super().__init__()
        self.beta = beta

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"]:
            msg["scale"] = msg["scale"] * self.beta


def _weighted(weight: Tensor | float | None) -> AbstractContextManager[Any]:
    """A context in which latent sites are weighted by β; one that does nothing if it is None."""
    if weight is None:
        return nullcontext()
    return _LatentScale(weight)


def _not_finite(what: str, index: int, where: str) -> NotFinite:
    """The exception that says what went wrong, where, and what to do."""
    return NotFinite(
        f"the {what} at step {index} is not finite, from {where}; lower the learning rate, clip "
        "the gradient, or bound the scale of the likelihood from below"
    )


def _bad_sites(model: Any, guide: Guide, batch: tuple[Tensor, ...]) -> str:
    """The sites whose value or log density is not finite, in one more draw."""
    with torch.no_grad(), pyro.validation_enabled(False):
        guide_trace = poutine.trace(guide).get_trace(*batch)
        replayed = poutine.replay(model, trace=guide_trace)
        model_trace = poutine.trace(replayed).get_trace(*batch)
        bad = []
        for which, trace in (("guide", guide_trace), ("model", model_trace)):
            for name, site in stochastic_sites(trace).items():
                value = site["value"]
                if not (_is_finite(value) and _is_finite(site["fn"].log_prob(value))):
                    bad.append(f"site {name!r} of the {which}")
    return ", ".join(bad) or "the objective, though every site was finite in a second draw"


def _bad_parameters(program: Program, guide: Guide, parameters: Sequence[Tensor]) -> str:
    """The parameters whose gradient is not finite, by their names in program and guide."""
    names = {id(p): f"number {i} of the optimiser" for i, p in enumerate(parameters)}
    for module in (owner(guide), program):
        if isinstance(module, torch.nn.Module):
            for name, parameter in module.named_parameters():
                names[id(parameter)] = name
    bad = []
    for p in parameters:
        if p.grad is not None and not _is_finite(p.grad):
            bad.append(names[id(p)])
    if not bad:
        return "its norm, though every entry is finite"
    return f"parameter {', '.join(bad)}"


def _is_finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())
