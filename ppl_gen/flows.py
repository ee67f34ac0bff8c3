"""Normalising flows of zuko as distributions of Pyro."""

from __future__ import annotations

__all__ = ["coupling_flow", "drawn_by"]

import itertools
from collections.abc import Sequence
from typing import Any

import pyro
import torch
from pyro.contrib.zuko import ZukoToPyro
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.memory import expect_weights
from ppl_gen.protocols import Distribution


def drawn_by(flow: Any, *context: Tensor) -> Distribution:
    """The distribution that a flow makes of a context, as one of Pyro's.

    Args:
        flow: Of zuko (any lazy distribution), or anything callable that gives a distribution.
        *context: Nothing, or one tensor (*batch, C) where the flow was built for C numbers.

    Raises:
        ValueError: If what it gives is no distribution.
    """
    made = flow(*context)
    if isinstance(made, Distribution):
        return made
    if isinstance(made, torch.distributions.Distribution):
        return ZukoToPyro(made)
    raise ValueError(
        f"expected a flow that gives a distribution when it is called, got {type(made).__name__} "
        f"from {type(flow).__name__}; take one of zuko.flows, not one of its transforms"
    )


def coupling_flow(
    dim: int,
    context: int = 0,
    *,
    transforms: int = 4,
    hidden: Sequence[int] = (128, 128),
    spline_bins: int | None = None,
) -> nn.Module:
    """p(z | c) = N(f(z; c); 0, I) |det ∂f/∂z|, f being coupling layers: quick both ways.

    Half of the entries are scaled and shifted (or passed through monotone splines) by a network of
    the other half and c, in turn. Autoregressive flows, `zuko.flows.MAF` and `NSF`, fit better with
    as many layers and take D passes for a draw.

    Args:
        dim: D, the dimension of z.
        context: C, the size of c; 0 for none.
        transforms: The number of coupling layers.
        hidden: The widths of the network of each layer.
        spline_bins: Of rational quadratic splines on [−5, 5]; None for affine layers.

    Raises:
        ValueError: If a size is below 1 (C below 0), or the weights do not fit into memory.

    Reference:
        Dinh, Sohl-Dickstein and Bengio (2017), Density estimation using Real NVP; Durkan, Bekasov,
        Murray and Papamakarios (2019), Neural spline flows.
    """
    expect_at_least(1, **{"a latent dimension": dim}, transforms=transforms)
    expect_at_least(1, spline_bins=spline_bins)
    expect_at_least(0, context=context)
    numbers = 2
    if spline_bins is not None:
        numbers = 3 * spline_bins - 1
    widths = [dim + context, *hidden, numbers * dim]
    expect_weights(*[(transforms, a, b) for a, b in itertools.pairwise(widths)])
    # Importing zuko turns the validation of all of torch's distributions off: it is put back.
    validates = pyro.distributions.is_validation_enabled()
    from zuko import flows

    pyro.distributions.enable_validation(validates)
    options: dict[str, Any] = {"transforms": transforms, "hidden_features": tuple(hidden)}
    if dim > 1:
        options["passes"] = 2
    if spline_bins is None:
        return flows.MAF(dim, context, **options)
    return flows.NSF(dim, context, bins=spline_bins, **options)
