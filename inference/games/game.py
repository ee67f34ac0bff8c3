"""What every adversarial game is made of.

An opponent moves while the other side stands still, and a watch says when the game is lost.
"""

from __future__ import annotations

__all__ = [
    "Loss",
    "Opponent",
    "Watch",
    "buffers_kept",
    "descend",
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
from ppl_gen.inference.fitting.loop import NotFinite
from ppl_gen.inference.games.losses import AdversarialLoss, gradient_penalty
from ppl_gen.inference.games.losses import r1 as zero_centred
from ppl_gen.ranks import Ranks

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
    """A critic with its optimiser, its loss and its penalties, and a watch over the game.

    Args:
        critic: s(x, *context), scores of shape (N, ...).
        optimizer: Of the critic's parameters.
        loss: A pair of functions (critic, generator), of which the first is descended here.
        r1: γ, the weight of the zero-centred gradient penalty on data, γ/2 E‖∇s(x)‖².
        penalty: λ, the weight of the gradient penalty between data and draws, λ E(‖∇s(x̂)‖ − 1)².
        name: What errors call the critic.
        across: The processes that each have a share of every batch; None for one.

    Attributes:
        watch: The `Watch` over this critic's loss and the draws that it plays against; call it once
            in each step.

    Raises:
        ValueError: If a weight is negative or not finite.
    """

    def __init__(
        self,
        critic: Callable[..., Tensor],
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        r1: float = 0.0,
        penalty: float = 0.0,
        name: str = "critic",
        across: Ranks | None = None,
    ) -> None:
        expect_weight(r1=r1, penalty=penalty)
        self.critic = critic
        self.optimizer = optimizer
        self.loss = loss
        self.r1 = r1
        self.penalty = penalty
        self.name = name
        self.across = across
        self.watch = Watch(getattr(loss, "perfect", None))

    def update(self, step: int, x: Tensor, drawn: Tensor, *context: Tensor) -> dict[str, Tensor]:
        """One update of the critic.

        Args:
            step: The index of the step, for errors.
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
            self._descend(loss, step, len(x))
            return {"critic": loss.detach()}
        penalty = torch.stack(penalties).sum()
        self._descend(loss + penalty, step, len(x))
        return {"critic": loss.detach(), "penalty": penalty.detach()}

    def _descend(self, loss: Tensor, step: int, rows: int) -> None:
        descend(self.optimizer, loss, self.name, step, across=self.across, rows=rows)


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

    def __call__(self, critic: Tensor, drawn: Tensor, data: Tensor) -> dict[str, Tensor]:
        """Takes a step into account.

        Args:
            critic: The critic's loss, a scalar.
            drawn: The draws of the step, (N, *shape).
            data: Its data, (N, *shape).

        Returns:
            The metric "spread"; 1 for a batch of one datum, or of equal data, which say nothing.

        Warns:
            RuntimeWarning: Once each, if the critic's loss has been perfect, or the spread below
                5 %, for 1000 steps.
        """
        spread = _spread(drawn.flatten(1), data.flatten(1))
        now = torch.stack([critic.double(), spread.double()])
        if self._highest is None:
            self._highest = now
        else:
            self._highest = torch.maximum(self._highest, now)
        self._steps += 1
        if self._steps % _LOOK == 0:
            self._look(*self._highest.tolist())
            self._highest = None
        return {"spread": spread}

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


def _spread(drawn: Tensor, data: Tensor) -> Tensor:
    """Σ sd(draws) / Σ sd(data) over the coordinates in which the data differ, a scalar."""
    if len(data) < 2:
        return data.new_ones(())
    of_draws = drawn.std(0)
    of_data = data.std(0)
    total = of_data.sum()
    return torch.where(total > 0, (of_draws * (of_data > 0)).sum() / total, 1.0)


def descend(
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    what: str,
    step: int,
    *,
    across: Ranks | None = None,
    rows: int = 1,
) -> None:
    """One update down a loss.

    Args:
        optimizer: Of the parameters to move.
        loss: A scalar with a gradient, an average over data.
        what: What the parameters are those of, for errors: "critic".
        step: The index of the step, for errors.
        across: The processes, over whose data loss and gradient are averaged before the update;
            None for one.
        rows: The number of data of this process.

    Raises:
        NotFinite: If the loss is not finite, before any parameter is changed; in all processes if
            it is not in one.
        ValueError: If no parameter of the optimiser gets a gradient.
    """
    if across is None:
        _expect_finite(loss, what, step)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters: list[Tensor] = []
    for group in optimizer.param_groups:
        parameters.extend(group["params"])
    if all(p.grad is None for p in parameters):
        raise ValueError(
            f"expected the optimiser of the {what} to hold its parameters, got none that has a "
            "gradient; build it from .parameters() of what it is to train"
        )
    if across is not None:
        _expect_finite(across.average_gradients(loss, parameters, rows), what, step)
    optimizer.step()


def _expect_finite(loss: Tensor, what: str, step: int) -> None:
    """Raises NotFinite if a loss is not finite."""
    if bool(torch.isfinite(loss)):
        return
    raise NotFinite(
        f"the loss of the {what} at step {step} is not finite; see that the batch is, lower "
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
