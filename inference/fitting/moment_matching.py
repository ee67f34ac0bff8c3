"""Moment matching: a generator trained by a distance of its draws from the data, without critic."""

from __future__ import annotations

__all__ = ["Discrepancy", "moment_step"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor

from ppl_gen.contexts import modules_of, takes
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.checks import check_draws
from ppl_gen.inference.engine.descent import Descent
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.expect import expect_clip, expect_optimizers
from ppl_gen.inference.fitting.gradient_step import GradientStep
from ppl_gen.inference.fitting.loop import NotFinite
from ppl_gen.inference.reach import warn_of_data_out_of_reach
from ppl_gen.inference.samples.discrepancies import squared_mmd
from ppl_gen.inference.samples.kernels import median_heuristic
from ppl_gen.inference.samples.vectors import Features
from ppl_gen.protocols import Program, Step

Discrepancy = Callable[[Tensor, Tensor], Tensor]


def moment_step(
    program: Program,
    optimizer: torch.optim.Optimizer,
    discrepancy: Discrepancy | None = None,
    *,
    features: Features | None = None,
    clip: float | None = None,
    first_step: int = 0,
    engine: Engine = "auto",
    steps: int | None = None,
) -> Step:
    """A step that descends D({f(x̃ⱼ)}, {f(xᵢ)}), x̃ⱼ ~ p(x) as many as there are data in the batch.

    Where the program takes a context c, the joint distribution of x and c is matched: f(x) is
    joined by a code of c (one-hot of labels) that is scaled so that two contexts lie as far apart
    as two data. Draws under one half of the batch's contexts are held against the other half of the
    batch, and the reverse, since both sides must be independent. Labels that the program does not
    take are left out.

    Args:
        program: Any program whose x is drawn with a gradient: an implicit model, or an explicit one
            with a Gaussian likelihood; run in the mode it is in.
        optimizer: A torch optimiser of the parameters to train.
        discrepancy: D, from (n, D) and (n, D) to a differentiable scalar: `squared_mmd` with five
            Gaussians around the median distance if left out, or `squared_energy`.
        features: f, from (N, *shape) to (N, D), differentiable; None takes the flattened data.
        clip: The largest norm of the gradient; longer ones are scaled down to it.
        first_step: The index of the first step, above 0 where a fit goes on.
        engine: "auto" compiles where the number of steps pays for it, and is eager for a program
            that takes a context; or "inductor", "fx", "eager".
        steps: How many steps are to come, if known, which helps "auto" to decide.

    Returns:
        A step with the metrics "discrepancy" and "gradient_norm", the norm before it is clipped.

    Raises:
        ValueError: If clip is not above 0, or a number of steps below 0. On the first batch, if
            data or context do not fit the program, or its draws have no gradient. On any, if there
            are fewer than two data (four with a context), or if no parameter of the optimiser gets
            a gradient.
        NotFinite: Before any update with a loss or gradient that is not finite.

    Warns:
        RuntimeWarning: On the first batch, if its data lie where the last layer of the program
            never draws.

    Examples:
        >>> program = models.gmmn((2,), latent_dim=2, hidden=[8])
        >>> optimizer = torch.optim.Adam(program.parameters(), 1e-3)
        >>> step = moment_step(program, optimizer, engine="eager")
        >>> sorted(step(torch.randn(20, 2)))
        ['discrepancy', 'gradient_norm']

    Reference:
        Li, Swersky and Zemel (2015), Generative moment matching networks, section 3; Dziugaite, Roy
        and Ghahramani (2015), Training generative neural networks via maximum mean discrepancy
        optimization.
    """
    expect_clip(clip)
    expect_at_least(0, first_step=first_step, steps=steps)
    distance = discrepancy
    if distance is None:
        distance = squared_mmd
    width = takes(program.model)
    if engine == "auto" and width != 1:
        engine = "eager"  # which contexts there are is not known before a batch is looked at
    objective = _Objective(program, optimizer, distance, features, width)
    descent = Descent(
        objective.loss,
        objective.backward,
        modules_of(program, features, distance),
        optimizer,
        engine=engine,
        steps=steps,
        first_step=first_step,
        clip=clip,
    )
    return GradientStep(descent, objective, first_step)


class _Objective:
    """A discrepancy between draws and data as the loss that is descended.

    Args:
        program: What draws.
        optimizer: The optimiser of the parameters that get a gradient.
        distance: D.
        features: f; None for the flattened data.
        width: How many tensors of a batch the program takes; all if None.
    """

    def __init__(
        self,
        program: Program,
        optimizer: torch.optim.Optimizer,
        distance: Discrepancy,
        features: Features | None,
        width: int | None,
    ) -> None:
        self.width = width
        self._program = program
        self._optimizer = optimizer
        self._distance = distance
        self._features = features

    def loss(self, batch: tuple[Tensor, ...], weight: Tensor | None) -> Tensor:
        """The discrepancy, differentiable; there is no weight."""
        x, *context = batch
        _expect_enough(x, context)
        with pyro.validation_enabled(False):
            drawn = self._program.model(None, *context, n=x.shape[0])
        first = _vectors(drawn, self._features)
        second = _vectors(x, self._features)
        if context:
            return _joint(self._distance, first, second, _code(second, context))
        return self._distance(first, second)

    def backward(self, batch: tuple[Tensor, ...], weight: Tensor | float | None) -> Tensor:
        """Adds the gradient of the discrepancy to those in the parameters, and returns it."""
        with torch.enable_grad():
            loss = self.loss(batch, None)
            loss.backward()
        return loss.detach()

    def begin(self, batch: tuple[Any, ...]) -> None:
        """Raises ValueError if data and context do not fit the program."""
        expect_optimizers(self._optimizer)
        drawn = check_draws(self._program, *batch)
        warn_of_data_out_of_reach(drawn, batch[0])

    def expect(self, batch: tuple[Any, ...]) -> None:
        """Nothing: what fits once does so for good."""

    def weight(self, index: int) -> None:
        """There is none."""

    def metrics(self, loss: Tensor, norm: Tensor) -> Mapping[str, Tensor]:
        """The discrepancy, and the norm of its gradient."""
        return {"discrepancy": loss, "gradient_norm": norm}

    def failure(self, index: int, loss: Tensor, batch: tuple[Any, ...]) -> NotFinite:
        """What went wrong at a step, and what to do.

        Args:
            index: Of the step.
            loss: Its loss.
            batch: Its data.
        """
        what = "discrepancy"
        if torch.isfinite(loss):
            what = "gradient"
        return NotFinite(
            f"the {what} at step {index} is not finite; lower the learning rate, or clip the "
            "gradient"
        )


def _vectors(x: Tensor, features: Features | None) -> Tensor:
    """f(x), or x itself, as vectors (N, D)."""
    if features is None:
        return x.flatten(1)
    return features(x).flatten(1)


def _joint(distance: Discrepancy, drawn: Tensor, data: Tensor, code: Tensor) -> Tensor:
    """D of vectors and code, averaged over two pairs of halves that share no context."""
    drawn = torch.cat([drawn, code], 1)
    data = torch.cat([data, code], 1)
    half = len(data) // 2
    one_way = distance(drawn[:half], data[half:])
    other_way = distance(drawn[half:], data[:half])
    return (one_way + other_way) / 2


def _code(like: Tensor, context: Sequence[Tensor]) -> Tensor:
    """All contexts as numbers, (N, A), two different ones at the median distance of two data."""
    columns = []
    for c in context:
        is_label = c.dim() == 1 and not c.is_floating_point()
        if is_label:
            one_hot = c[:, None] == c.unique()
            columns.append(one_hot.to(like.dtype))
        else:
            columns.append(c.flatten(1).to(like.dtype))
    code = torch.cat(columns, 1)
    if bool((code == code[0]).all()):
        return code
    return code * median_heuristic(like, like) / median_heuristic(code, code)


def _expect_enough(x: Tensor, context: Sequence[Tensor]) -> None:
    least = 2
    if context:
        least = 4
    if len(x) < least:
        raise ValueError(
            f"expected at least {least} data in a batch, got {len(x)}; take larger batches"
        )
