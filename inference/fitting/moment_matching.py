"""Moment matching: a generator trained by a distance between its draws and the batch, without a
critic.
"""

from __future__ import annotations

__all__ = ["Discrepancy", "moment_step"]

import math
from collections.abc import Callable, Mapping

import pyro
import torch
from torch import Tensor

from ppl_gen.contexts import takes
from ppl_gen.inference.checks import check_draws
from ppl_gen.inference.fitting.loop import NotFinite
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
        A step with the metrics "discrepancy" and "gradient_norm".

    Raises:
        ValueError: If clip is not above 0; on the first batch, as
            `ppl_gen.inference.checks.check_draws` says; on any, if there are fewer than two data
            (four with a context), or if no parameter of the optimiser gets a gradient.
        NotFinite: Before any update with a loss or gradient that is not finite.

    Reference:
        Li, Swersky and Zemel (2015), Generative moment matching networks, section 3; Dziugaite, Roy
        and Ghahramani (2015), Training generative neural networks via maximum mean discrepancy
        optimization.
    """
    if clip is not None and not clip > 0:
        raise ValueError(f"expected clip above 0, got {clip}; leave it out to clip nothing")
    distance = squared_mmd if discrepancy is None else discrepancy
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    most = takes(program.model)
    index = 0

    def step(*batch: Tensor) -> Mapping[str, Tensor]:
        nonlocal index
        x, *context = batch = batch[:most]
        if index == 0:
            check_draws(program, *batch)
        optimizer.zero_grad()
        with torch.enable_grad(), pyro.validation_enabled(False):
            drawn = program.model(None, *context, n=len(x))
            _expect_enough(x, context)
            loss = _joint(distance, features, drawn, x, context)
            loss.backward()
        _expect_gradient(parameters)
        limit = math.inf if clip is None else clip
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit) if clip else _norm(parameters)
        if not math.isfinite(float(loss.detach() + norm)):
            what = "gradient" if torch.isfinite(loss) else "discrepancy"
            raise NotFinite(
                f"the {what} at step {index} is not finite; lower the learning rate, or clip the "
                "gradient"
            )
        optimizer.step()
        index += 1
        return {"discrepancy": loss.detach(), "gradient_norm": norm}

    return step


def _joint(
    distance: Discrepancy,
    features: Features | None,
    drawn: Tensor,
    x: Tensor,
    context: list[Tensor],
) -> Tensor:
    """D of the features, or of features and context with independent contexts on both sides."""
    ours, theirs = (
        t.flatten(1) if features is None else features(t).flatten(1) for t in (drawn, x)
    )
    if not context:
        return distance(ours, theirs)
    code = _code(theirs, context)
    ours, theirs = torch.cat([ours, code], 1), torch.cat([theirs, code], 1)
    half = len(x) // 2
    return (distance(ours[:half], theirs[half:]) + distance(ours[half:], theirs[:half])) / 2


def _code(like: Tensor, context: list[Tensor]) -> Tensor:
    """All contexts as numbers, (N, A), two different ones at the median distance of two data."""
    columns = []
    for c in context:
        is_label = c.dim() == 1 and not c.is_floating_point()
        columns.append((c[:, None] == c.unique() if is_label else c.flatten(1)).to(like.dtype))
    code = torch.cat(columns, 1)
    if bool((code == code[0]).all()):
        return code
    return code * median_heuristic(like, like) / median_heuristic(code, code)


def _expect_enough(x: Tensor, context: list[Tensor]) -> None:
    least = 4 if context else 2
    if len(x) < least:
        raise ValueError(
            f"expected at least {least} data in a batch, got {len(x)}; take larger batches"
        )


def _expect_gradient(parameters: list[Tensor]) -> None:
    if all(p.grad is None for p in parameters):
        raise ValueError(
            "expected parameters of the program in the optimiser, got none that has a gradient; "
            "pass program.parameters()"
        )


def _norm(parameters: list[Tensor]) -> Tensor:
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
