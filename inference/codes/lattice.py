"""Codes to look at: a lattice of the prior's quantiles, one coordinate at a time, a random walk."""

from __future__ import annotations

__all__ = ["lattice", "random_walk", "ticks", "traversal"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_gen.contexts import device_of, forked, seeded
from ppl_gen.counts import expect_at_least, expect_number, expect_positive
from ppl_gen.inference.codes.coder import expect_codes, prior_at
from ppl_gen.memory import expect_memory
from ppl_gen.supports import unwrapped

_ENDS = (0.05, 0.95)  # the first and the last quantile


def ticks(
    program: Any,
    *context: Tensor,
    steps: int = 20,
    ends: tuple[float, float] = _ENDS,
    within: float | None = None,
    codes: Tensor | None = None,
) -> Tensor:
    """F_j⁻¹(u) at evenly spaced u, F_j the distribution function of coordinate j, (steps, D).

    Under a standard normal prior these are Φ⁻¹(u). Evenly spaced quantiles lie close where the
    prior has mass, so that each tick stands for as much of it.

    Args:
        program: A program whose latents are one vector, its coordinates independent under the
            prior; not looked at where `codes` are given.
        *context: What the prior is conditioned on, each of one row.
        steps: How many.
        ends: The first and the last u, between 0 and 1.
        within: r, for ticks evenly spaced from −r to r in place of quantiles; None for quantiles.
        codes: Codes (N, D) whose own quantiles are taken, as of an autoencoder, which has no prior;
            None takes those of the prior.

    Raises:
        ValueError: If the prior has no quantiles, steps is below 2, the ends are not between 0 and
            1 in this order, or both `within` and `codes` are given.

    Examples:
        >>> ticks(models.vae((1, 8, 8), latent_dim=2), steps=3).round(decimals=2)
        tensor([[-1.6400, -1.6400],
                [ 0.0000,  0.0000],
                [ 1.6400,  1.6400]])
    """
    expect_at_least(2, steps=steps)
    expect_positive(within=within)
    levels = _levels(ends, steps)
    if codes is not None:
        if within is not None:
            raise ValueError("expected within or codes, got both; leave one out")
        expect_codes(codes)
        return _quantiles(codes, levels.to(codes.device))
    prior = prior_at(program, *context)
    if within is not None:
        even = torch.linspace(-within, within, steps)
        return even[:, None].expand(-1, prior.event_shape[0]).to(_like(program, prior))
    base = unwrapped(prior, masks=True)
    remedy = (
        "take evenly spaced ones (within=3.0), or those of codes of data (codes=encode(program, "
        "x).mean)"
    )
    if len(base.event_shape) > 0:
        raise ValueError(
            "expected a prior of independent coordinates, each with quantiles, got "
            f"{type(base).__name__}; {remedy}"
        )
    try:
        found: Tensor = base.icdf(levels.to(_like(program, prior))[:, None])
    except NotImplementedError as error:
        raise ValueError(
            f"expected a prior with quantiles, got {type(base).__name__}, which has none here; "
            f"{remedy}"
        ) from error
    return found.expand(steps, prior.event_shape[0])


def lattice(
    program: Any,
    *context: Tensor,
    side: int = 20,
    ends: tuple[float, float] = _ENDS,
    within: float | None = None,
    codes: Tensor | None = None,
    axes: Sequence[int] | None = None,
) -> Tensor:
    """z = (F₁⁻¹(u), F₂⁻¹(v)) on a square of evenly spaced u and v, (side², D), row by row.

    The first coordinate grows to the right, the second upwards, so that rows begin at the top left
    as those of `plots.image_grid(decode(program, z), side)` do.

    Args:
        program: A program whose latents are one vector; not looked at where `codes` are given.
        *context: What the prior is conditioned on, each of one row, such as one label of a CVAE.
        side: The number of ticks along each axis.
        ends: The first and the last quantile along each axis.
        within: r, for a lattice evenly spaced from −r to r; None for quantiles.
        codes: Codes (N, D) whose own quantiles are taken; None takes those of the prior.
        axes: Two coordinates, where there are more than two; the others are held at their medians.

    Raises:
        ValueError: If the latents are not two and no axes are given, or the prior has no quantiles.

    Examples:
        >>> lattice(models.vae((1, 8, 8), latent_dim=2), side=3).round(decimals=2)[:4]
        tensor([[-1.6400,  1.6400],
                [ 0.0000,  1.6400],
                [ 1.6400,  1.6400],
                [-1.6400,  0.0000]])

    Reference:
        Kingma and Welling (2014), Auto-encoding variational Bayes, appendix A.
    """
    expect_at_least(2, side=side)
    expect_memory(f"{side} × {side} codes", 16 * side**2, "take a smaller side")
    along = ticks(program, *context, steps=side, ends=ends, within=within, codes=codes)
    size = along.shape[1]
    if axes is None:
        if size != 2:
            raise ValueError(
                f"expected a program of 2 latents for a lattice, got {size}; name two of them "
                "(axes=(0, 1)), or look at each by traversal"
            )
        axes = (0, 1)
    across, up = _expect_axes(axes, size)
    middle = ticks(program, *context, steps=3, within=within, codes=codes)[1]
    points = middle.repeat(side * side, 1)
    points[:, across] = along[:, across].repeat(side)
    points[:, up] = along[:, up].flip(0).repeat_interleave(side)
    return points


def traversal(z: Tensor, along: Tensor, coordinates: Sequence[int] | None = None) -> Tensor:
    """z with coordinate j set to each tick in turn, the others held, (J, steps, D).

    Args:
        z: A code, (D,).
        along: What coordinates are set to, (steps, D), by `ticks`.
        coordinates: Which J are moved; all D if left out.

    Raises:
        ValueError: If z is not one code of as many dimensions as the ticks, or a coordinate is out
            of range.

    Examples:
        >>> z = torch.zeros(2)
        >>> traversal(z, torch.tensor([[-1.0, -1.0], [1.0, 1.0]])).tolist()
        [[[-1.0, 0.0], [1.0, 0.0]], [[0.0, -1.0], [0.0, 1.0]]]
    """
    expect_codes(along)
    if z.shape != along.shape[1:]:
        raise ValueError(
            f"expected one code of {along.shape[1]} dimensions, as the ticks are, got shape "
            f"{tuple(z.shape)}; pick a row: codes.mean[0]"
        )
    if coordinates is None:
        coordinates = range(len(z))
    steps = len(along)
    moved = z.repeat(len(coordinates), steps, 1)
    for row, j in enumerate(coordinates):
        expect_number(coordinate=j)
        if not 0 <= j < len(z):
            raise ValueError(f"expected coordinates from 0 to {len(z) - 1}, got {j}")
        moved[row, :, j] = along[:, j]
    return moved


def random_walk(
    program: Any,
    *context: Tensor,
    start: Tensor | None = None,
    steps: int = 30,
    size: float = 0.3,
    codes: Tensor | None = None,
    seed: int | None = None,
) -> Tensor:
    """z ← m + √(1 − s²) (z − m) + s σ ε, ε ~ N(0, I), (steps, D): a walk that stays where z lie.

    m and σ are the prior's mean and standard deviation, so that a walk from a normal prior never
    leaves it, however long it is. After t steps z has forgotten all but (1 − s²)^(t/2) of its
    start.

    Args:
        program: A program whose latents are one vector; not looked at where `codes` are given.
        *context: What the prior is conditioned on, each of one row.
        start: The first code, (D,); None draws it.
        steps: How many codes, the first one included.
        size: s, from above 0 to 1; 1 draws each anew.
        codes: Codes (N, D) whose mean and standard deviation are taken, as of an autoencoder; None
            takes those of the prior.
        seed: Seeds the walk and leaves the global generator as it was; None draws from the global
            generator.

    Raises:
        ValueError: If size is not above 0 and at most 1, steps is below 1, start is no code of as
            many dimensions, or the prior has no mean.

    Examples:
        >>> random_walk(models.vae((1, 8, 8), latent_dim=2), steps=5, seed=0).shape
        torch.Size([5, 2])
    """
    expect_at_least(1, steps=steps)
    expect_positive(size=size)
    if size > 1:
        raise ValueError(f"expected a size of at most 1, which draws each code anew, got {size}")
    mean, sd = _moments(program, context, codes)
    if start is not None and start.shape != mean.shape:
        raise ValueError(
            f"expected a start of shape ({len(mean)},), got {tuple(start.shape)}; pick a row: "
            "codes.mean[0]"
        )
    with seeded(mean.device, seed):
        noise = torch.randn(steps, len(mean), dtype=mean.dtype, device=mean.device)
    here = mean + sd * noise[0]
    if start is not None:
        here = start.to(mean)
    points = [here]
    kept = (1 - size**2) ** 0.5
    for moved in noise[1:]:
        here = mean + kept * (here - mean) + size * sd * moved
        points.append(here)
    return torch.stack(points)


def _moments(
    program: Any, context: Sequence[Tensor], codes: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each coordinate, (D,), of codes or of the prior."""
    if codes is not None:
        expect_codes(codes)
        return codes.mean(0), codes.std(0, correction=0)
    prior = prior_at(program, *context)
    try:
        mean, variance = prior.mean[0], prior.variance[0]
    except NotImplementedError as error:
        name = type(unwrapped(prior, masks=True)).__name__
        raise ValueError(
            f"expected a prior with a mean and a variance, got {name}; give codes of data, whose "
            "own are taken (codes=encode(program, x).mean)"
        ) from error
    return mean, variance.sqrt()


def _levels(ends: tuple[float, float], steps: int) -> Tensor:
    """Evenly spaced probabilities from one end to the other, (steps,)."""
    low, high = ends
    expect_number(low=low, high=high)
    if not 0 < low < high < 1:
        raise ValueError(
            f"expected ends between 0 and 1, the lower one first, got {ends}; such as {_ENDS}"
        )
    return torch.linspace(low, high, steps, dtype=torch.float64)


def _like(program: Any, prior: Any) -> Tensor:
    """A draw of a program's prior, for its dtype and device."""
    with forked(device_of(program), 0):
        drawn: Tensor = prior.sample()
    return drawn


def _quantiles(codes: Tensor, levels: Tensor) -> Tensor:
    """Quantiles of each coordinate of codes (N, D), (levels, D); of any number of codes."""
    ordered = codes.sort(0).values
    place = levels * (len(codes) - 1)
    below = place.long()
    above = (below + 1).clamp(max=len(codes) - 1)
    share = (place - below).to(codes.dtype)[:, None]
    return torch.lerp(ordered[below], ordered[above], share)


def _expect_axes(axes: Sequence[int], size: int) -> tuple[int, int]:
    """Raises ValueError unless axes are two different coordinates below D."""
    axes = tuple(axes)
    known = range(size)
    if len(axes) != 2 or axes[0] == axes[1] or not all(axis in known for axis in axes):
        raise ValueError(
            f"expected two different coordinates from 0 to {size - 1} for axes, got {axes}"
        )
    return axes[0], axes[1]
