"""Codes: the latents of data as points, what is decoded of them, and where a prior has them."""

from __future__ import annotations

__all__ = ["Codes", "aggregate_draws", "decode", "encode", "expect_codes", "prior_at"]

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from ppl_gen import memory
from ppl_gen.arguments import expect_data, expect_devices, expect_tensor, traced
from ppl_gen.contexts import (
    device_of,
    evaluating,
    expect_context,
    expect_drawing,
    forked,
    guide_of,
    seeded,
)
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.checks import needs_all_data
from ppl_gen.paths import is_autoencoder
from ppl_gen.program import Observed, propose
from ppl_gen.protocols import Guide
from ppl_gen.sites import Sites, is_auxiliary, latent_sites
from ppl_gen.supports import is_discrete, unwrapped

_DRAWS = 200  # of a guide without mean and variance, whose own are taken
_ONE_VECTOR = (
    "expected a program whose latents are one vector z of shape (N, D) of real numbers, got {got}; "
    "`ppl_gen.paths.path` and `ppl_gen.inference.collapse` take several layers"
)


class Codes(NamedTuple):
    """Where an encoder puts data, and how wide.

    Attributes:
        mean: E[z | x], (N, D); the code itself of an autoencoder.
        sd: √Var[z | x], (N, D); None of an autoencoder, whose codes have no width.
        tril: The Cholesky factor of Cov[z | x], (N, D, D), where entries depend on each other; None
            where they do not.

    Examples:
        >>> codes = encode(models.vae((4,), latent_dim=2), torch.zeros(5, 4))
        >>> codes.mean.shape, codes.sd.shape, codes.tril
        (torch.Size([5, 2]), torch.Size([5, 2]), None)
    """

    mean: Tensor
    sd: Tensor | None = None
    tril: Tensor | None = None

    @property
    def covariance(self) -> Tensor:
        """Cov[z | x], (N, D, D).

        Raises:
            ValueError: If the codes have no width.
        """
        if self.tril is not None:
            return self.tril @ self.tril.mT
        if self.sd is None:
            raise ValueError(
                "expected codes with a width, got those of an autoencoder; "
                "`ppl_gen.models.with_prior` makes it a program, whose posteriors have one"
            )
        return self.sd.square().diag_embed()

    def __repr__(self) -> str:
        n, size = self.mean.shape
        return f"codes of {n} data in {size} dimensions"


def encode(program: Any, x: Tensor, *context: Tensor, guide: Guide | None = None) -> Codes:
    """E[z | x], √Var[z | x] under q(z | x, context); encoder(x) of an autoencoder.

    A guide without a mean, as a flow, is drawn from 200 times at a seed of its own, and the moments
    of these draws are taken.

    Args:
        program: A program whose latents are one vector, or an autoencoder; in evaluation mode.
        x: Data (N, *shape).
        *context: What the program is conditioned on, each of length N.
        guide: q(z | x, context); `program.guide` if left out.

    Raises:
        ValueError: If there is no guide, the latents are not one vector of real numbers, or the
            program cannot be run on the data.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> encode(ppca, torch.tensor([[4.0, 4.0, 4.0]])).mean
        tensor([[3.]])
    """
    if guide is None and is_autoencoder(program):
        return Codes(_encoded(program, x))
    guide = guide_of(program, guide)
    data = (x, *context)
    expect_data(program, data)
    expect_devices((guide,), data)
    at_once = len(x)
    if not needs_all_data(guide):
        at_once = memory.pairs(x[0].numel(), x.device)
    parts = []
    with evaluating(program, guide), forked(x.device, 0):
        for start in range(0, len(x), at_once):
            some = [t[start : start + at_once] for t in data]
            parts.append(_codes_of(guide, some))
    return _joined(parts)


def decode(program: Any, z: Tensor, *context: Tensor) -> Tensor:
    """E[x | z, context], (M, *shape); what has no mean, as lines of text, is the mode instead.

    Args:
        program: A program whose latents are one vector, a generator without a likelihood among
            them, or an autoencoder; in evaluation mode.
        z: Codes, (M, D).
        *context: What the program is conditioned on, each of length M.

    Raises:
        ValueError: If the latents are not one vector, z has another dimension, or a context another
            length.

    Examples:
        >>> decode(models.vae((4,), latent_dim=2), torch.zeros(5, 2)).shape
        torch.Size([5, 4])
    """
    expect_codes(z)
    for c in context:
        if len(c) != len(z):
            raise ValueError(
                f"expected a context with a row for each of {len(z)} codes, got {len(c)}; repeat it"
            )
    if is_autoencoder(program):
        expect_devices((program,), (z,))
        with evaluating(program):
            decoded: Tensor = program.decoder(z)
        return decoded
    first = [c[:1] for c in context]
    name, prior = _latent_of(program, first)
    if prior.event_shape != z.shape[1:]:
        raise ValueError(
            f"expected codes of shape (M, {prior.event_shape[0]}), as the program's latents are, "
            f"got {tuple(z.shape)}"
        )
    centred = Observed(program, dist.Delta)
    parts = []
    with evaluating(program), forked(z.device, 0):
        some = _decoded(centred, name, z[:1], first)
        at_once = memory.pairs(some[0].numel(), z.device)
        for start in range(0, len(z), at_once):
            rows = slice(start, start + at_once)
            parts.append(_decoded(centred, name, z[rows], [c[rows] for c in context]))
    return torch.cat(parts)


def _decoded(centred: Observed, name: str, z: Tensor, context: Sequence[Tensor]) -> Tensor:
    """E[x | z] of some codes at once.

    Args:
        centred: The program under a point at its mean.
        name: Of the latent site.
        z: Codes, (m, D).
        context: What the program is conditioned on, each of length m.
    """
    decoded: Tensor = poutine.condition(centred.model, data={name: z})(None, *context, n=len(z))
    return decoded


def prior_at(program: Any, *context: Tensor) -> Any:
    """p(z | context) of a single row, batch shape (1,), event shape (D,).

    Args:
        program: A program whose latents are one vector.
        *context: What the program is conditioned on, each of one row.

    Raises:
        ValueError: If it is an autoencoder, which has none, or the latents are not one vector.
    """
    if is_autoencoder(program):
        raise ValueError(
            "expected a program with a prior, got an autoencoder, which has none; give codes of "
            "data (codes=encode(...).mean), or make it a program: ppl_gen.models.with_prior"
        )
    return _latent_of(program, context)[1]


def aggregate_draws(
    program: Any,
    x: Tensor,
    *context: Tensor,
    draws: int = 1000,
    guide: Guide | None = None,
    seed: int | None = None,
) -> Tensor:
    """z ~ q(z) = (1/N) Σᵢ q(z | xᵢ), (draws, D): a datum at random, then its posterior.

    Decoded, they are what the decoder was fitted to; draws of the prior are what it is asked for.
    The aggregate posterior of an autoencoder is that of its codes, each a point.

    Args:
        program: A program whose latents are one vector, or an autoencoder; in evaluation mode.
        x: Data (N, *shape).
        *context: What the program is conditioned on, each of length N.
        draws: How many.
        guide: q(z | x, context); `program.guide` if left out.
        seed: Seeds the draws and leaves the global generator as it was; None draws from the global
            generator.

    Raises:
        ValueError: If draws is below 1, the latents are not one vector, or the program cannot be
            run on the data.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2)
        >>> aggregate_draws(vae, torch.rand(50, 4).round(), draws=100, seed=0).shape
        torch.Size([100, 2])

    Reference:
        Makhzani, Shlens, Jaitly, Goodfellow and Frey (2015), Adversarial autoencoders, eq. 1.
    """
    expect_at_least(1, draws=draws)
    if guide is not None or not is_autoencoder(program):
        guide = guide_of(program, guide)
        expect_data(program, (x, *context))
        expect_devices((guide,), (x, *context))
    else:
        _expect_rows(x)
    encode(program, x[:1], *[c[:1] for c in context], guide=guide)  # whose errors say what is wrong
    with seeded(x.device, seed):
        rows = torch.randint(len(x), (draws,), device=x.device)
        chosen = [t[rows] for t in (x, *context)]
        if guide is None:
            return _encoded(program, chosen[0])
        with evaluating(program, guide):
            value: Tensor = _only(latent_sites(traced(guide, chosen, "guide")))[1]["value"]
    return value


def expect_codes(z: Any, dimensions: int | None = None) -> None:
    """Raises ValueError unless codes are numbers of shape (M, D), with M of at least 1.

    Args:
        z: Whatever was given as codes.
        dimensions: D; None for any.
    """
    expect_tensor("codes", z)
    if z.dim() != 2 or 0 in z.shape or not z.is_floating_point():
        raise ValueError(
            f"expected codes (M, D) of floating point numbers, got {z.dtype} of shape "
            f"{tuple(z.shape)}; encode(program, x).mean are such"
        )
    if dimensions is not None and z.shape[1] != dimensions:
        raise ValueError(
            f"expected codes of {dimensions} dimensions, got {z.shape[1]}; fit a model with "
            f"latent_dim={dimensions}, or take some coordinates"
        )
    if not bool(z.isfinite().all()):
        raise ValueError("expected finite codes, got NaN or infinite ones; look at the fit")


def _encoded(autoencoder: Any, x: Tensor) -> Tensor:
    """The codes of an autoencoder, (N, D)."""
    _expect_rows(x)
    expect_devices((autoencoder,), (x,))
    with evaluating(autoencoder):
        codes: Tensor = autoencoder.encoder(x)
    if codes.dim() != 2:
        raise ValueError(_ONE_VECTOR.format(got=f"codes of shape {tuple(codes.shape)}"))
    return codes


def _expect_rows(x: Any) -> None:
    """Raises ValueError unless there are data, (N, *shape)."""
    expect_tensor("data", x)
    if x.dim() == 0 or len(x) == 0:
        raise ValueError(f"expected data (N, *shape), got shape {tuple(x.shape)}")


def _codes_of(guide: Guide, data: Sequence[Tensor]) -> Codes:
    """Moments of a guide's latent vector at some data."""
    name, site = _only(latent_sites(traced(guide, data, "guide")))
    fn = site["fn"]
    try:
        mean, variance = fn.mean, fn.variance
    except NotImplementedError:
        drawn = propose(guide, _DRAWS, 1, *data).latents[name]
        centred = (drawn - drawn.mean(0)).transpose(0, 1)
        covariance = centred.mT @ centred / (_DRAWS - 1)
        tril = torch.linalg.cholesky_ex(covariance).L
        return Codes(drawn.mean(0), drawn.std(0), tril)
    inner = unwrapped(fn, masks=True)
    tril = None
    if isinstance(inner, dist.MultivariateNormal | dist.LowRankMultivariateNormal):
        tril = inner.scale_tril
    return Codes(mean, variance.sqrt(), tril)


def _joined(parts: Sequence[Codes]) -> Codes:
    """Codes of some data after those of others."""
    columns: list[Tensor | None] = []
    for column in zip(*parts, strict=True):
        joined = None
        if column[0] is not None:
            joined = torch.cat(column)
        columns.append(joined)
    mean, sd, tril = columns
    assert mean is not None
    return Codes(mean, sd, tril)


def _latent_of(program: Any, context: Sequence[Tensor]) -> tuple[str, Any]:
    """The name of the only latent site of a model, and its distribution for one row."""
    expect_drawing(program)
    expect_context(program, tuple(context))
    expect_devices((program,), tuple(context))
    with evaluating(program), forked(device_of(program, context), 0):
        trace = traced(program.model, (None, *context), n=1)
    sites = latent_sites(trace)
    sites.pop("x", None)
    name, site = _only(sites)
    return name, site["fn"]


def _only(sites: Sites) -> tuple[str, Any]:
    """The only latent site, a vector of real numbers for each datum; raises ValueError if not."""
    own = {name: site for name, site in sites.items() if not is_auxiliary(site)}
    shapes = [f"{name} {tuple(site['value'].shape)}" for name, site in own.items()]
    if len(own) != 1:
        raise ValueError(_ONE_VECTOR.format(got=f"the sites {', '.join(shapes) or 'none'}"))
    ((name, site),) = own.items()
    if len(site["fn"].event_shape) != 1 or site["value"].dim() != 2:
        raise ValueError(_ONE_VECTOR.format(got=f"the site {shapes[0]}"))
    if is_discrete(site["fn"]):
        raise ValueError(_ONE_VECTOR.format(got=f"labels at the site {name!r}"))
    return name, site
