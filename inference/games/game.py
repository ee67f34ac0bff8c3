"""What every adversarial game is made of.

An opponent moves while the other side stands still, and a watch says when the game is lost.
"""

from __future__ import annotations

__all__ = [
    "Loss",
    "Opponent",
    "Watch",
    "buffers_kept",
    "not_finite",
    "spread_of",
    "standing_still",
    "validated",
]

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from ppl_gen.contexts import modules_of
from ppl_gen.counts import expect_weight
from ppl_gen.inference.engine.turns import Turns
from ppl_gen.inference.fitting.loop import NotFinite
from ppl_gen.inference.games.losses import AdversarialLoss, gradient_penalty
from ppl_gen.inference.games.losses import r1 as zero_centred

Loss = AdversarialLoss | tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]

PATIENCE = 1000  # steps that a game has been lost for before a warning
LOST = 1e-3  # of the critic's loss: some 3.5 logits between data and draws, everywhere
VANISHED = 0.05  # of the standard deviation of data
_LOOK = 50  # steps between two looks: a look waits for the device
_LARGE = 2**20  # numbers in a buffer that holds data, as an empirical prior's, and is never written

NO_CONTEST = (
    f"the critic tells all draws from data (its loss has been below {LOST:g} for {PATIENCE} "
    "steps): the generator learns nothing more; penalise the critic's gradient (r1=1), lower its "
    "learning rate, or give it fewer steps"
)
ALIKE = (
    f"the draws are all alike (their standard deviation has been below {VANISHED:.0%} of that of "
    f"data for {PATIENCE} steps): the generator has collapsed; raise r1, lower the generator's "
    "learning rate, or take larger batches"
)


class Opponent:
    """A critic with its loss and its penalties, one of the players that move in turn.

    Args:
        critic: s(x, *context), scores of shape (N, ...).
        turns: Moves the critic.
        loss: A pair of functions (critic, generator), of which the first is descended here.
        r1: γ, the weight of the zero-centred gradient penalty on data, γ/2 E‖∇s(x)‖².
        penalty: λ, the weight of the gradient penalty between data and draws, λ E(‖∇s(x̂)‖ − 1)².
        name: The critic's among the players.

    Raises:
        ValueError: If a weight is negative or not finite.
    """

    def __init__(
        self,
        critic: Callable[..., Tensor],
        turns: Turns,
        loss: Loss,
        r1: float = 0.0,
        penalty: float = 0.0,
        name: str = "critic",
    ) -> None:
        expect_weight(r1=r1, penalty=penalty)
        self.critic = critic
        self.loss = loss
        self.r1 = r1
        self.penalty = penalty
        self.name = name
        self._turns = turns

    def update(self, x: Tensor, drawn: Tensor, *context: Tensor) -> dict[str, Tensor]:
        """One update of the critic.

        Args:
            x: Data (N, *shape).
            drawn: Draws (N, *shape), without a gradient.
            *context: What both are conditioned on, each of length N.

        Returns:
            The metric "critic", its loss without penalties, and "penalty" where there is one.

        Raises:
            NotFinite: Before the update, if the loss is not finite.
        """
        x = x.detach().requires_grad_(self.r1 > 0)
        scores = self.critic(x, *context)
        loss = self.loss[0](scores, self.critic(drawn, *context))
        penalties = []
        if self.r1:
            penalties.append(self.r1 * zero_centred(scores, x))
        if self.penalty:
            penalties.append(self.penalty * gradient_penalty(self.critic, x, drawn, *context))
        if not penalties:
            self._turns.descend(self.name, loss, len(x))
            return {"critic": loss.detach()}
        penalty = torch.stack(penalties).sum()
        self._turns.descend(self.name, loss + penalty, len(x))
        return {"critic": loss.detach(), "penalty": penalty.detach()}


class Watch:
    """Follows the critic's loss and the spread of draws, and warns once of each that collapses.

    The spread is the standard deviation over a batch, averaged over the coordinates in which its
    data differ, of draws in units of that of the data. Under a context, draws that differ by their
    context alone have a spread too: that the latents are ignored is not seen here.

    Args:
        perfect: The critic's loss at which no draw is taken for a datum; None where there is none.
    """

    def __init__(self, perfect: float | None) -> None:
        self.perfect = perfect
        self._steps = 0
        # The largest loss of the critic and the largest spread since the last look, (2,).
        self._highest: Tensor | None = None
        self._no_contest = _Alarm(NO_CONTEST)
        self._alike = _Alarm(ALIKE)

    def __call__(self, critic: Tensor, spread: Tensor) -> None:
        """Takes a step into account.

        Args:
            critic: The critic's loss, a scalar.
            spread: That of its draws, a scalar.

        Warns:
            RuntimeWarning: Once each, if the critic's loss has been perfect, or the spread below
                5 %, for 1000 steps.
        """
        now = torch.stack([critic, spread])
        if self._highest is None:
            self._highest = now
        else:
            self._highest = torch.maximum(self._highest, now)
        self._steps += 1
        if self._steps % _LOOK == 0:
            self._look(*self._highest.tolist())
            self._highest = None

    def _look(self, critic: float, spread: float) -> None:
        is_lost = self.perfect is not None and critic < self.perfect + LOST
        self._no_contest.hear(is_lost)
        self._alike.hear(spread < VANISHED)


class _Alarm:
    """Warns, once, when something has been true at every look for `PATIENCE` steps."""

    def __init__(self, message: str) -> None:
        self.message = message
        self.steps = 0  # that it has been true for
        self.has_warned = False

    def hear(self, is_true: bool) -> None:
        if not is_true:
            self.steps = 0
            return
        self.steps += _LOOK
        if self.steps >= PATIENCE and not self.has_warned:
            self.has_warned = True
            # Shown where the step was called: hear, _look, __call__ and the step are in between.
            warnings.warn(self.message, RuntimeWarning, stacklevel=5)


def spread_of(drawn: Tensor, data: Tensor) -> Tensor:
    """Σ sd(draws) / Σ sd(data) over the coordinates in which the data differ, a scalar.

    It is 1 for a batch of one datum, or of equal data, which say nothing.

    Args:
        drawn: Draws (N, *shape).
        data: (N, *shape).
    """
    if data.shape[0] < 2:
        return data.new_ones(())
    of_draws = drawn.flatten(1).std(0)
    of_data = data.flatten(1).std(0)
    total = of_data.sum()
    return torch.where(total > 0, (of_draws * (of_data > 0)).sum() / total, 1.0)


def not_finite(player: str, step: int) -> NotFinite:
    """What is raised where the loss of a player is not finite.

    Args:
        player: "critic".
        step: The index of the step.
    """
    return NotFinite(
        f"the loss of the {player} at step {step} is not finite; see that the batch is, lower "
        "its learning rate, or penalise the critic's gradient (r1=0.1)"
    )


def validated(is_first: bool, device: torch.device) -> AbstractContextManager[None]:
    """Leaves out looks at labels and parameters of distributions where each waits for a device.

    Args:
        is_first: Whether it is the first step, at which they look unless a user has said otherwise.
        device: Where the data lie; on a processor they look at every step.
    """
    if is_first or device.type == "cpu":
        return nullcontext()
    return pyro.validation_enabled(False)


@contextmanager
def standing_still(*parts: Any) -> Iterator[None]:
    """No gradients for the parameters of `parts`, and their buffers put back afterwards.

    Args:
        *parts: Modules, or functions and objects that hold some; None is passed over.
    """
    modules = modules_of(*parts)
    trained: list[nn.Parameter] = []
    for module in modules:
        trained.extend(p for p in module.parameters(recurse=False) if p.requires_grad)
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
    """Puts buffers back as they were: statistics of batches, vectors of spectral normalisation.

    Args:
        modules: Whose own buffers are kept, not those of modules inside them.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    for module in modules:
        for buffer in module.buffers(recurse=False):
            if buffer.numel() < _LARGE:
                kept.append((buffer, buffer.clone()))
    try:
        yield
    finally:
        for buffer, before in kept:
            buffer.copy_(before)
