"""Stochastic variational inference with a torch optimiser: one update of program and guide on one
batch.
"""

from __future__ import annotations

__all__ = ["NotFinite", "svi_step"]

import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO, Trace_ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_gen.contexts import guide_of, owner, simulates, takes
from ppl_gen.inference.checks import check
from ppl_gen.inference.engine.descent import Descent
from ppl_gen.inference.engine.replay import Engine, Replay
from ppl_gen.inference.fitting.loop import NotFinite
from ppl_gen.program import stochastic_sites
from ppl_gen.protocols import Guide, Program, Step
from ppl_gen.pyro_patches import forget_unconstrained

Schedule = float | Callable[[int], float]


def svi_step(
    program: Program,
    optimizer: torch.optim.Optimizer,
    elbo: ELBO | None = None,
    *,
    guide: Guide | None = None,
    beta: Schedule = 1.0,
    clip: float | None = None,
    first_step: int = 0,
    engine: Engine = "auto",
    steps: int | None = None,
) -> Step:
    """A step that ascends (1/N) Σᵢ E_q[log p(xᵢ | z) + β (log p(z) − log q(z | xᵢ))] in the
    parameters of `optimizer`.

    At β = 1 this is the evidence lower bound per datum, in nats; several particles of a Trace_ELBO
    are averaged. Another objective, of `ppl_gen.inference.fitting.objectives` or of Pyro, is
    ascended per datum in its own form. Labels that the program does not ask for are left out, so
    that the same batches serve a VAE and a CVAE. The global param store is left as found.

    Args:
        program: Any program with a density. A plain Pyro model, or a program whose model takes no
            `n`, is taken as it is, with all its arguments as the batch: its ELBO is in nats for all
            data, N = 1.
        optimizer: A torch optimiser of the parameters to train.
        elbo: Any Pyro ELBO; Trace_ELBO() if left out.
        guide: q(z | x); `program.guide` if left out.
        beta: β, a number or a function of the step's index. It weighs the log densities of latent
            sites only.
        clip: The largest norm of the gradient; longer ones are scaled down to it.
        first_step: The index of the first step, for a schedule that goes on where it stopped.
        engine: How loss and gradient are computed, see `ppl_gen.inference.engine.Replay`; all draw
            the same random numbers. Objectives without a `differentiable_loss` run eagerly. What
            the program holds outside its tensors and its modules' numbers is part of the graph:
            that it was replaced is seen at steps 2, 4, 8, … and at every thousandth. Compiled
            together with Adam, a step leaves no gradient in the parameters.
        steps: How many steps are to come, if known: "auto" compiles when they pay for it.

    Returns:
        A step with the metrics "elbo" in nats per datum ("iwae" for the bound of several particles,
        "objective" for what is no bound, as where β is not 1 throughout), and "gradient_norm".

    Raises:
        ValueError: If clip, beta or engine is out of range; on the first batch, as
            `ppl_gen.inference.checks.check` says, or if no parameter of the optimiser gets a
            gradient; if program or optimiser get other parameters later.
        NotFinite: Before any update with a loss or gradient that is not finite, naming the site or
            parameter and the step.

    Reference:
        Kingma and Welling (2014), eq. 3; for β, Higgins et al. (2017), beta-VAE, eq. 4.
    """
    _check_options(clip, beta)
    elbo = Trace_ELBO() if elbo is None else elbo
    guide = guide_of(program, guide)
    replay = Replay(
        engine if hasattr(elbo, "differentiable_loss") else "eager", steps, what="objective"
    )
    model: Any = getattr(program, "model", program)
    checks = simulates(model)
    if replay.engine == "eager" and engine in ("fx", "inductor"):
        warnings.warn(
            f"{type(elbo).__name__} cannot be traced: it runs eagerly", RuntimeWarning, stacklevel=2
        )
    descent = Descent(
        partial(_loss, elbo, model, guide),
        (program, guide, elbo),
        optimizer,
        replay,
        clip,
        partial(
            _backward,
            elbo,
            model,
            guide,
            [p for group in optimizer.param_groups for p in group["params"]],
        ),
    )
    takes_at_most = takes(model)
    objective = "objective" if callable(beta) or beta != 1 else getattr(elbo, "metric", "elbo")
    index = first_step

    def step(*batch: Tensor) -> Mapping[str, Tensor]:
        nonlocal index
        batch = batch[:takes_at_most]
        if index == first_step and checks:
            check(program, guide, *batch)
        weight = beta(index) if callable(beta) else None if beta == 1 else beta
        loss, norm = descent.gradients(batch, weight)
        if not math.isfinite(float(loss + norm)):
            descent.show_gradients(batch, weight)
            raise _not_finite(index, loss, program, guide, batch, descent.parameters)
        descent.update(norm)
        index += 1
        return {objective: -loss, "gradient_norm": norm}

    return step


def _check_options(clip: float | None, beta: Schedule) -> None:
    if clip is not None and not clip > 0:
        raise ValueError(f"expected clip above 0, got {clip}; leave it out to clip nothing")
    if not callable(beta) and not 0 <= beta < math.inf:
        raise ValueError(f"expected a finite beta of at least 0, got {beta}")


def _loss(
    elbo: ELBO, model: Any, guide: Guide, batch: tuple[Tensor, ...], weight: Tensor | float | None
) -> Tensor:
    """The loss per datum, differentiable, with the latent sites weighed by β where there is a
    weight.
    """
    with nullcontext() if weight is None else _LatentScale(weight):
        loss = elbo.differentiable_loss(model, guide, *batch)
    return loss / batch[0].shape[0] if simulates(model) else loss


def _backward(
    elbo: ELBO,
    model: Any,
    guide: Guide,
    parameters: list[Tensor],
    batch: tuple[Tensor, ...],
    weight: Tensor | float | None,
) -> Tensor:
    """Leaves the gradient of the loss per datum in the parameters, and returns that loss."""
    with pyro.validation_enabled(False):
        if hasattr(elbo, "differentiable_loss"):
            loss = _loss(elbo, model, guide, batch, weight)
            loss.backward()
            return loss.detach()
        with nullcontext() if weight is None else _LatentScale(weight):
            return _backward_by_itself(elbo, model, guide, parameters, batch)


def _backward_by_itself(
    elbo: ELBO, model: Any, guide: Guide, parameters: list[Tensor], batch: tuple[Tensor, ...]
) -> Tensor:
    """As `_backward`, for those (TraceGraph_ELBO, RenyiELBO) that call backward themselves, if only
    they see parameters.

    The division by N comes after, since a scale inside a log-mean-exp would not be a bound.
    """
    n = batch[0].shape[0] if simulates(model) else 1
    store = pyro.get_param_store()
    before = set(store.keys())
    try:
        with poutine.trace(param_only=True):
            loss = elbo.loss_and_grads(model, guide, *batch)
    finally:
        for name in set(store.keys()) - before:
            forget_unconstrained(name)
            del store[name]
    for p in parameters:
        if p.grad is not None:
            p.grad /= n
    return torch.as_tensor(loss) / n


class _LatentScale(Messenger):
    """Weighs the log densities of latent sites, in model and guide alike, by β."""

    def __init__(self, beta: float | Tensor) -> None:
        super().__init__()
        self.beta = beta

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"]:
            msg["scale"] = msg["scale"] * self.beta


def _not_finite(
    index: int,
    loss: Tensor,
    program: Program,
    guide: Guide,
    batch: tuple[Tensor, ...],
    parameters: list[Tensor],
) -> NotFinite:
    """What went wrong, where, and what to do."""
    if torch.isfinite(loss):
        what, where = "gradient", _bad_parameters(program, guide, parameters)
    else:
        what, where = "loss", _bad_sites(program, guide, batch)
    return NotFinite(
        f"the {what} at step {index} is not finite, from {where}; lower the learning rate, clip "
        "the gradient, or bound the scale of the likelihood from below"
    )


def _bad_sites(program: Program, guide: Guide, batch: tuple[Tensor, ...]) -> str:
    """The sites whose value or log density is not finite, in one more draw from the parameters as
    they are.
    """
    with torch.no_grad(), pyro.validation_enabled(False):
        guide_trace = poutine.trace(guide).get_trace(*batch)
        model_trace = poutine.trace(
            poutine.replay(getattr(program, "model", program), trace=guide_trace)
        ).get_trace(*batch)
        bad = [
            f"site {name!r} of the {which}"
            for which, trace in (("guide", guide_trace), ("model", model_trace))
            for name, site in stochastic_sites(trace).items()
            if not bool(
                torch.isfinite(site["value"]).all()
                and torch.isfinite(site["fn"].log_prob(site["value"])).all()
            )
        ]
    return ", ".join(bad) or "the objective, though every site was finite in a second draw"


def _bad_parameters(program: Program, guide: Guide, parameters: list[Tensor]) -> str:
    """The parameters whose gradient is not finite, by the names that program and guide give them."""
    names = {id(p): f"number {i} of the optimiser" for i, p in enumerate(parameters)}
    for module in (owner(guide), program):
        if isinstance(module, torch.nn.Module):
            names.update({id(p): name for name, p in module.named_parameters()})
    bad = [
        names[id(p)]
        for p in parameters
        if p.grad is not None and not bool(torch.isfinite(p.grad).all())
    ]
    return f"parameter {', '.join(bad)}" if bad else "its norm, though every entry is finite"
