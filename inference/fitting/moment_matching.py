"""Moment matching: a generator trained by a distance of its draws from the data, without critic."""

from __future__ import annotations

__all__ = ["Discrepancy", "moment_step"]

import math
from collections.abc import Callable, Mapping, Sequence

import pyro
import torch
from torch import Tensor

from ppl_gen.contexts import one_at_a_time, takes
from ppl_gen.inference.checks import check_draws
from ppl_gen.inference.expect import expect_clip, expect_optimizers
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

    Returns:
        A step with the metrics "discrepancy" and "gradient_norm", the norm before it is clipped.

    Raises:
        ValueError: If clip is not above 0. On the first batch, if data or context do not fit the
            program, or its draws have no gradient. On any, if there are fewer than two data (four
            with a context), or if no parameter of the optimiser gets a gradient.
        NotFinite: Before any update with a loss or gradient that is not finite.

    Warns:
        RuntimeWarning: On the first batch, if its data lie where the last layer of the program
            never draws.

    Reference:
        Li, Swersky and Zemel (2015), Generative moment matching networks, section 3; Dziugaite, Roy
        and Ghahramani (2015), Training generative neural networks via maximum mean discrepancy
        optimization.
    """
    expect_clip(clip)
    distance = discrepancy
    if distance is None:
        distance = squared_mmd
    parameters: list[Tensor] = []
    for group in optimizer.param_groups:
        parameters.extend(group["params"])
    takes_at_most = takes(program.model)
    index = 0

    @one_at_a_time
    def step(*batch: Tensor) -> Mapping[str, Tensor]:
        nonlocal index
        batch = batch[:takes_at_most]
        x, *context = batch
        if index == 0:
            expect_optimizers(optimizer)
            check_draws(program, *batch)
        optimizer.zero_grad()
        with torch.enable_grad(), pyro.validation_enabled(False):
            drawn = program.model(None, *context, n=len(x))
            if index == 0:
                warn_of_data_out_of_reach(drawn, x)
            _expect_enough(x, context)
            first = _vectors(drawn, features)
            second = _vectors(x, features)
            if context:
                loss = _joint(distance, first, second, _code(second, context))
            else:
                loss = distance(first, second)
            loss.backward()
        _expect_gradient(parameters)
        norm = _clip(parameters, clip)
        _expect_finite(loss.detach(), norm, index)
        optimizer.step()
        index += 1
        return {"discrepancy": loss.detach(), "gradient_norm": norm}

    return step


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


def _clip(parameters: Sequence[Tensor], clip: float | None) -> Tensor:
    """Scales the gradient down to norm `clip` if there is one; the norm that it had."""
    if clip is not None:
        return torch.nn.utils.clip_grad_norm_(parameters, clip)
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def _expect_enough(x: Tensor, context: Sequence[Tensor]) -> None:
    least = 2
    if context:
        least = 4
    if len(x) < least:
        raise ValueError(
            f"expected at least {least} data in a batch, got {len(x)}; take larger batches"
        )


def _expect_gradient(parameters: Sequence[Tensor]) -> None:
    if all(p.grad is None for p in parameters):
        raise ValueError(
            "expected parameters of the program in the optimiser, got none that has a gradient; "
            "pass program.parameters()"
        )


def _expect_finite(loss: Tensor, norm: Tensor, index: int) -> None:
    if math.isfinite(float(loss + norm)):  # one look for both: a look waits for the device
        return
    what = "discrepancy"
    if torch.isfinite(loss):
        what = "gradient"
    raise NotFinite(
        f"the {what} at step {index} is not finite; lower the learning rate, or clip the gradient"
    )
