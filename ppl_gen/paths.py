"""From one datum to another: what a program draws along a line, or a circle, between latents."""

from __future__ import annotations

__all__ = ["Along", "great_circle", "is_autoencoder", "path", "straight"]

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from ppl_gen.arguments import expect_data, expect_devices, expect_tensor, traced
from ppl_gen.contexts import evaluating, guide_of
from ppl_gen.counts import expect_at_least
from ppl_gen.program import Observed
from ppl_gen.protocols import Guide
from ppl_gen.sites import is_auxiliary, latent_sites

# From both ends (D,) and the shares t (T,) of the way, codes (T, D).
Along = Callable[[Tensor, Tensor, Tensor], Tensor]


def straight(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """(1 − t) z₀ + t z₁, (T, *shape).

    Args:
        start: z₀, of any shape.
        end: z₁, of the same shape.
        share: t, the shares of the way, (T,).
    """
    along = share.to(start.dtype).reshape(-1, *[1] * start.dim())
    return torch.lerp(start, end, along)


def great_circle(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """r(t) (sin((1 − t) ω) u₀ + sin(t ω) u₁) / sin ω, uᵢ = zᵢ / ‖zᵢ‖, cos ω = u₀ᵀu₁, (T, *shape).

    The length r goes straight from ‖z₀‖ to ‖z₁‖, so that what lies between is as far from the
    origin as its ends are; in many dimensions a straight line passes where a normal prior has
    hardly any mass. Where the ends point the same way, or opposite ways, it is the straight line.

    Args:
        start: z₀, of any shape, taken as one vector.
        end: z₁, of the same shape.
        share: t, the shares of the way, (T,).

    Reference:
        Shoemake (1985), Animating rotation with quaternion curves; White (2016), Sampling
        generative networks, section 2.
    """
    ends = torch.stack([start.flatten(), end.flatten()]).double()
    lengths = ends.norm(dim=1)
    cosine = (ends[0] @ ends[1]) / lengths.prod()
    angle = cosine.clamp(-1, 1).acos()
    if not float(angle.sin()) > 1e-6:
        return straight(start, end, share)
    t = share.double()[:, None]
    units = ends / lengths[:, None]
    direction = ((1 - t) * angle).sin() * units[0] + (t * angle).sin() * units[1]
    length = torch.lerp(lengths[0], lengths[1], t)
    points = length * direction / angle.sin()
    return points.to(start.dtype).reshape(-1, *start.shape)


def is_autoencoder(part: Any) -> bool:
    """Whether something has an encoder and a decoder, and no model: codes without a density.

    Args:
        part: A program, an autoencoder, or anything else.
    """
    if hasattr(part, "model"):
        return False
    return callable(getattr(part, "encoder", None)) and callable(getattr(part, "decoder", None))


def path(
    program: Any,
    x: Tensor,
    *context: Tensor,
    steps: int = 11,
    guide: Guide | None = None,
    along: Along = straight,
) -> Tensor:
    """E[x | z] on the way from E[z | x₀] to E[z | x₁], t = 0, …, 1, of shape (steps, *shape).

    What has no mean, as lines of text, is the likeliest instead, token by token. Between the codes
    of an autoencoder it is their decoding.

    Args:
        program: Any program with continuous latents, or an autoencoder; in evaluation mode
            meanwhile.
        x: Two data, (2, *shape).
        *context: What the program is conditioned on, each of length 2; its row of the nearer end is
            taken.
        steps: The number of points, both ends included.
        guide: q(z | x, context); `program.guide` if left out.
        along: The way, latent site by latent site: `straight` or `great_circle`.

    Raises:
        ValueError: If x is not two data, there are fewer than two steps, or the program cannot be
            run on them.
    """
    expect_at_least(2, steps=steps)
    if guide is None and is_autoencoder(program):
        expect_tensor("data", x)
        _expect_two(x)
        expect_devices((program,), (x,))
        with evaluating(program):
            start, end = program.encoder(x)
            decoded: Tensor = program.decoder(along(start, end, _shares(steps, x)))
        return decoded
    guide = guide_of(program, guide)
    expect_data(program, (x, *context))
    _expect_two(x)
    expect_devices((guide,), (x, *context))
    share = _shares(steps, x)
    nearer = (share > 0.5).long()
    with evaluating(program, guide):
        drawn = traced(guide, (x, *context), "guide")
        latents = {}
        for name, site in latent_sites(drawn).items():
            if is_auxiliary(site):
                continue
            start, end = _middle(site)
            latents[name] = along(start, end, share)
        given = [c[nearer] for c in context]
        centred = Observed(program, dist.Delta)
        return poutine.condition(centred.model, data=latents)(None, *given, n=steps)


def _expect_two(x: Tensor) -> None:
    """Raises ValueError unless there are two data."""
    count = x.shape[:1].numel()
    if count != 2 or x.dim() == 0:
        raise ValueError(f"expected two data, the ends of a path, got {count}; give both")


def _shares(steps: int, x: Tensor) -> Tensor:
    """Shares of the way, from 0 to 1, (steps,)."""
    return torch.linspace(0, 1, steps, device=x.device)


def _middle(site: Any) -> tuple[Tensor, Tensor]:
    """The means of a latent at both data; its draws where its distribution has no mean."""
    try:
        middle = site["fn"].mean
    except NotImplementedError:
        middle = site["value"]
    return middle[0], middle[1]
