"""Adversarial fitting of implicit models: one update of a critic, then one of the generator, on one
batch.
"""

from __future__ import annotations

__all__ = [
    "Average",
    "Opponent",
    "adversarial_step",
    "descend",
    "expect_adversaries",
    "moving_average",
    "standing_still",
]

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ppl_gen.contexts import evaluating, forked, modules_of, takes
from ppl_gen.inference.checks import check_draws, telling_rows
from ppl_gen.inference.fitting.game import Watch
from ppl_gen.inference.fitting.loop import NotFinite
from ppl_gen.inference.fitting.losses import AdversarialLoss, gradient_penalty, non_saturating
from ppl_gen.inference.fitting.losses import r1 as zero_centred
from ppl_gen.program import stochastic_sites
from ppl_gen.protocols import Program, Step
from ppl_gen.pyro_patches import blend, held_tensors

Average = AveragedModel
Auxiliary = Callable[..., Tensor]
Loss = AdversarialLoss | tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]


def adversarial_step(
    program: Program,
    critic: Callable[..., Tensor],
    generator_optimizer: torch.optim.Optimizer,
    critic_optimizer: torch.optim.Optimizer,
    loss: Loss = non_saturating,
    critic_steps: int = 1,
    *,
    r1: float = 0.0,
    penalty: float = 0.0,
    auxiliary: Auxiliary | None = None,
    average: Average | None = None,
) -> Step:
    """A step that descends loss.critic(s(x), s(x̃)) + γ/2 E‖∇s(x)‖² in the critic, then
    loss.generator(s(x̃)) in the program.

    s is the critic's score, x the batch and x̃ as many draws of the program under the same context.
    While one side moves the other stands still, to the last bit, buffers included. Labels that the
    program does not ask for are left out.

    Args:
        program: Any program whose data are a differentiable function of its latents: a GAN, or
            `Observed(vae, Dirac())`.
        critic: s(x, *context), scores of shape (N, ...); `ppl_gen.critics` has some.
        generator_optimizer: Of the program's parameters.
        critic_optimizer: Of the critic's.
        loss: What the two descend, of `ppl_gen.inference.fitting.losses`, or any pair of functions
            (critic, generator).
        critic_steps: Updates of the critic for each of the generator: with the same batch, against
            fresh draws.
        r1: γ, the weight of the zero-centred gradient penalty on data; 0.1 to 10 make the game
            converge.
        penalty: λ, the weight of the gradient penalty between data and draws, 10 for Wasserstein.
        auxiliary: A loss of the draws, added to the generator's: called with the values of the
            sites by name ("x" among them) and the batch (x, *context). `information_loss` is one;
            `lambda drawn, x, y: (drawn["x"] - x).abs().mean()`, for y an image paired with x,
            another.
        average: A `moving_average` of the program, brought up to date after each step.

    Returns:
        A step with the metrics "critic" and "generator", the two losses without penalties and
        auxiliaries, "penalty" and "auxiliary" where there are any, and "spread", the standard
        deviation of draws in units of that of data.

    Raises:
        ValueError: If a number is out of range; on the first batch, as `expect_adversaries` says.
        NotFinite: Before an update, if a loss is not finite.

    Warns:
        RuntimeWarning: Once each, if the critic tells all draws from data for 1000 steps, or the
        spread of the draws vanishes.

    Reference:
        Goodfellow et al. (2014), algorithm 1; Mescheder, Geiger and Nowozin (2018) for r1.
    """
    if critic_steps < 1:
        raise ValueError(f"expected critic_steps of at least 1, got {critic_steps}")
    opponent = Opponent(critic, critic_optimizer, loss, r1, penalty)
    takes_at_most = takes(program.model)
    modules = modules_of(program)
    steps = 0

    def update_generator(drawn: Mapping[str, Tensor], batch: Sequence[Tensor]) -> dict[str, Tensor]:
        with standing_still(critic):
            fooling = loss[1](critic(drawn["x"], *batch[1:]))
            more = None if auxiliary is None else auxiliary(drawn, *batch)
            descend(
                generator_optimizer, fooling if more is None else fooling + more, "generator", steps
            )
        return {
            "generator": fooling.detach(),
            **({} if more is None else {"auxiliary": more.detach()}),
        }

    def step(*batch: Tensor) -> Mapping[str, Tensor]:
        nonlocal steps
        x, *context = batch = batch[:takes_at_most]
        if steps == 0:
            expect_adversaries(program, critic, *batch)
        for _ in range(critic_steps - 1):
            with buffers_kept(modules), torch.no_grad():
                drawn = draw(program, x.shape[0], context)["x"]
            opponent.update(steps, x, drawn, *context)
        sites = draw(program, x.shape[0], context)
        metrics = opponent.update(steps, x, sites["x"].detach(), *context) | update_generator(
            sites, batch
        )
        if average is not None:
            average.update_parameters(program)  # type: ignore[arg-type]
        steps += 1
        return metrics | opponent.watch(metrics["critic"], sites["x"].detach(), x)

    return step


class Opponent:
    """A critic that is trained, and watched, beside whatever it plays against.

    Args:
        critic: s(x, *context).
        optimizer: Of its parameters.
        loss: What it descends is loss[0].
        r1: γ.
        penalty: λ.
        name: What errors call it.

    Raises:
        ValueError: If a weight is out of range.
    """

    def __init__(
        self,
        critic: Callable[..., Tensor],
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        r1: float = 0.0,
        penalty: float = 0.0,
        name: str = "critic",
    ) -> None:
        for what, weight in (("r1", r1), ("penalty", penalty)):
            if not 0 <= weight < math.inf:
                raise ValueError(f"expected a finite {what} of at least 0, got {weight}")
        self.critic, self.optimizer, self.loss = critic, optimizer, loss
        self.r1, self.penalty, self.name = r1, penalty, name
        self.watch = Watch(getattr(loss, "perfect", None))

    def update(self, step: int, x: Tensor, drawn: Tensor, *context: Tensor) -> dict[str, Tensor]:
        """One update on data x and draws; the metrics "critic" and, where there is one, "penalty"."""
        x = x.detach().requires_grad_(self.r1 > 0)
        scores = self.critic(x, *context)
        lost = self.loss[0](scores, self.critic(drawn, *context))
        if not self.r1 and not self.penalty:
            descend(self.optimizer, lost, self.name, step)
            return {"critic": lost.detach()}
        penalised = self.r1 * zero_centred(scores, x) if self.r1 else lost.new_zeros(())
        if self.penalty:
            penalised = penalised + self.penalty * gradient_penalty(self.critic, x, drawn, *context)
        descend(self.optimizer, lost + penalised, self.name, step)
        return {"critic": lost.detach(), "penalty": penalised.detach()}


def moving_average(program: nn.Module, decay: float = 0.999) -> Average:
    """θ̄ ← dₙ θ̄ + (1 − dₙ) θ, dₙ = min(d, (1 + n)/(10 + n)): a copy of a program that follows it.

    Its `module` is a program like any other. Buffers are taken over as they are. The weight dₙ of
    the n-th update lets it forget where it began.

    Args:
        program: A program that is an `nn.Module`.
        decay: d, from 0 to below 1: the average reaches over some 1/(1 − d) steps.

    Raises:
        ValueError: If the decay is out of range.

    Reference:
        Yazıcı et al. (2019), The unusual effectiveness of averaging in GAN training.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"expected a decay from 0 to below 1, got {decay}")

    def follow(average: Any, new: Any, seen: Any) -> None:
        blend(average, new, 1 - min(decay, (1 + int(seen)) / (10 + int(seen))))

    average = AveragedModel(program, multi_avg_fn=torch.no_grad()(follow))
    for p in average.parameters():
        p.requires_grad_(False)
    return average


def draw(program: Program, n: int, context: Sequence[Tensor]) -> dict[str, Tensor]:
    """One draw of all sites, with gradients."""
    trace = poutine.trace(program.model).get_trace(None, *context, n=n)
    return {name: site["value"] for name, site in stochastic_sites(trace).items()}


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, what: str, step: int) -> None:
    """One update down a loss.

    Raises:
        NotFinite: If it is not finite, before anything is changed.
        ValueError: If no parameter of the optimiser gets a gradient.
    """
    if not bool(torch.isfinite(loss)):
        raise NotFinite(
            f"the loss of the {what} at step {step} is not finite; see that the batch is, lower "
            "its learning rate, or penalise the critic's gradient (r1=0.1)"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if all(p.grad is None for group in optimizer.param_groups for p in group["params"]):
        raise ValueError(
            f"expected the optimiser of the {what} to hold its parameters, got none that has a "
            "gradient; build it from .parameters() of what it is to train"
        )
    optimizer.step()


@contextmanager
def standing_still(*parts: Any) -> Iterator[None]:
    """Parameters without gradients and buffers as they were: what is used meanwhile is not changed
    by it.
    """
    modules = modules_of(*parts)
    trained = [p for m in modules for p in m.parameters(recurse=False) if p.requires_grad]
    with buffers_kept(modules):
        try:
            for p in trained:
                p.requires_grad_(False)
            yield
        finally:
            for p in trained:
                p.requires_grad_(True)


@contextmanager
def buffers_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Puts the buffers of modules back as they were: statistics of batches, vectors of spectral
    normalisation.
    """
    buffers = [b for m in modules for b in held_tensors(m)[1].values() if b is not None]
    kept = [b.clone() for b in buffers if b.numel() < _LARGE]
    try:
        yield
    finally:
        for b, before in zip((b for b in buffers if b.numel() < _LARGE), kept, strict=True):
            b.copy_(before)


_LARGE = (
    2**20
)  # a buffer of so many numbers holds data, as an empirical prior's, and is not written to


def expect_adversaries(
    program: Program, critic: Callable[..., Tensor], x: Tensor, *context: Tensor
) -> None:
    """Draws a few data and has them judged, before any work; nothing is changed by it, the random
    state included.

    Raises:
        ValueError: As `ppl_gen.inference.checks.check_draws` says, or if the critic does not give
            one row of finite scores for each datum.
    """
    drawn = check_draws(program, x, *context)
    few = [c[telling_rows(x, context)] for c in context]
    with forked(x.device, None), evaluating(critic):
        scores = critic(drawn, *few)
    if scores.shape[:1] != drawn.shape[:1] or not bool(torch.isfinite(scores).all()):
        raise ValueError(
            f"expected one row of finite scores for each datum, ({len(drawn)}, ...), got shape "
            f"{tuple(scores.shape)}"
        )
