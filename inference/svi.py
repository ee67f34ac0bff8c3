"""Stochastic variational inference with a torch optimiser: one update of program and guide on one batch."""

from __future__ import annotations

__all__ = ["NotFinite", "svi_step"]

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from ppl_gen.inference.checks import check
from pyro import poutine
from pyro.infer import ELBO, Trace_ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_gen.program import takes
from ppl_gen.protocols import Guide, Program, Step

Schedule = float | Callable[[int], float]


class NotFinite(FloatingPointError):
    """A loss or gradient that is NaN or infinite; raised before the update, so that the parameters are still good."""


def svi_step(
    program: Program,
    optimizer: torch.optim.Optimizer,
    elbo: ELBO | None = None,
    *,
    guide: Guide | None = None,
    beta: Schedule = 1.0,
    clip: float | None = None,
    first_step: int = 0,
) -> Step:
    """A step that ascends (1/N) Σᵢ E_q[log p(xᵢ | z) + β (log p(z) − log q(z | xᵢ))] in the parameters of `optimizer`.

    At β = 1 this is the evidence lower bound per datum, in nats. Where the ELBO has several particles, they are averaged.
    Labels that the program does not ask for are left out, so that the same batches serve a VAE and a CVAE. The global param
    store is left as it was found.

    Args:
        program: Any program with a density.
        optimizer: A torch optimiser of the parameters to train.
        elbo: Any Pyro ELBO; Trace_ELBO() if left out.
        guide: q(z | x); `program.guide` if left out.
        beta: β, a number or a function of the step's index. It weighs the log densities of latent sites only.
        clip: The largest norm of the gradient; longer ones are scaled down to it.
        first_step: The index of the first step, for a schedule that goes on where it stopped.

    Returns:
        A step with the metrics "elbo" (nats per datum, at the current β) and "gradient_norm".

    Raises:
        ValueError: On the first batch, as `ppl_gen.inference.checks.check` says, or if no parameter of the optimiser gets a
            gradient.
        NotFinite: Before any update with a loss or gradient that is not finite, naming the site or parameter and the step.

    Reference:
        Kingma and Welling (2014), eq. 3; for β, Higgins et al. (2017), beta-VAE, eq. 4.
    """
    elbo = Trace_ELBO() if elbo is None else elbo
    guide = program.guide if guide is None else guide  # type: ignore[attr-defined]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    takes_at_most = takes(program.model)
    index = first_step

    def step(*batch: Tensor) -> Mapping[str, Tensor]:
        nonlocal index
        batch = batch[:takes_at_most]
        first = index == first_step
        if first:
            check(program, guide, *batch)
        sites = _Sites(beta(index) if callable(beta) else beta)
        optimizer.zero_grad(set_to_none=True)
        with pyro.validation_enabled(False), sites:
            loss = _backward(elbo, program.model, guide, batch, parameters)
        gradients = [p.grad for p in parameters if p.grad is not None]
        if first and not gradients:
            raise ValueError(
                "expected a gradient for the optimiser's parameters, got none: they are not those of this program and guide; "
                "build the optimiser from program.parameters()"
            )
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(loss + norm):
            raise NotFinite(_diagnosis(index, loss, sites, _names(program, guide, parameters)))
        if clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
        optimizer.step()
        index += 1
        return {"elbo": -loss, "gradient_norm": norm}

    return step


def _backward(elbo: ELBO, model: Any, guide: Guide, batch: tuple[Tensor, ...], parameters: list[Tensor]) -> Tensor:
    """Leaves the gradient of the loss per datum in the parameters, and returns that loss."""
    n = batch[0].shape[0]
    if hasattr(elbo, "differentiable_loss"):
        loss = elbo.differentiable_loss(model, guide, *batch) / n
        loss.backward()
        return loss.detach()
    # The others (TraceGraph_ELBO, RenyiELBO) call backward themselves, if only they see parameters. The division by N
    # comes after, since a scale inside a log-mean-exp would not be a bound.
    store = pyro.get_param_store()
    before = set(store.keys())
    with poutine.trace(param_only=True):
        loss = elbo.loss_and_grads(model, guide, *batch)
    for name in set(store.keys()) - before:
        del store[name]
    for p in parameters:
        if p.grad is not None:
            p.grad /= n
    return torch.as_tensor(loss) / n


class _Sites(Messenger):
    """Weighs the latent sites by β, and remembers every site, to name the one that went wrong."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.seen: dict[str, Any] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if self.beta != 1.0 and not msg["is_observed"]:
            msg["scale"] = msg["scale"] * self.beta

    def _pyro_post_sample(self, msg: Any) -> None:
        kind = "observed" if msg["is_observed"] else "latent"
        self.seen.setdefault(f"{kind} site {msg['name']!r}", []).append((msg["fn"], msg["value"]))

    def not_finite(self) -> list[str]:
        """The sites with a value or log density that is not finite, as the sentence names them."""

        def finite(fn: Any, value: Tensor) -> bool:
            return bool(torch.isfinite(value).all() and torch.isfinite(fn.log_prob(value)).all())

        with torch.no_grad(), pyro.validation_enabled(False):
            return [name for name, uses in self.seen.items() if not all(finite(*use) for use in uses)]


def _names(program: Program, guide: Guide, parameters: list[Tensor]) -> dict[str, Tensor]:
    """The optimiser's parameters by the names that program and guide give them."""
    named = {}
    for owner in (guide, program):
        if isinstance(owner, torch.nn.Module):
            named.update({id(p): name for name, p in owner.named_parameters()})
    return {named.get(id(p), f"number {i} of the optimiser"): p for i, p in enumerate(parameters)}


def _diagnosis(index: int, loss: Tensor, sites: _Sites, parameters: dict[str, Tensor]) -> str:
    remedy = "lower the learning rate, clip the gradient (clip=...), or bound the scale of the likelihood from below"
    if not torch.isfinite(loss):
        where = " and ".join(sites.not_finite()) or "the objective"
        return f"the loss at step {index} is {float(loss)}, from {where}; {remedy}"
    bad = [name for name, p in parameters.items() if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
    return f"the gradient at step {index} is not finite, in parameter {', '.join(bad)}; {remedy}"
