"""q(z | x) by a normalising flow."""

from __future__ import annotations

__all__ = ["FlowGuide", "flow"]

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen.contexts import explained, forked
from ppl_gen.counts import expect_at_least
from ppl_gen.flows import ShiftedFlow, drawn_by, inverse_autoregressive_flow
from ppl_gen.guides.family import NetworkGuide, Networks, expect_outputs
from ppl_gen.protocols import Distribution


class FlowGuide(NetworkGuide):
    """z = μ(x) + exp(η(x)) u with u ~ flow(c(x)), where (μ, η, c) = net(x).

    A flow whose draws are quick trains quickly: `inverse_autoregressive_flow`, and
    `coupling_flow`, of `ppl_gen.flows`; so does one of zuko's whose transform is inverted. Of the
    inverse autoregressive one the density of given values takes D passes: `StickingTheLanding` and
    `DReG`, which ask for them, go faster with coupling layers.

    Args:
        net: Maps x to (*batch, 2D + C): D means, D log scales, and the context of the flow.
        flow: Of zuko, built for D features and a context of C numbers.
        context: C.

    Raises:
        ValueError: If the flow does not give distributions of vectors from a context of C numbers;
            when it is called, if the network has another number of outputs than 2D + C.

    Examples:
        >>> q = flow(lambda outputs: nn.Linear(4, outputs), dim=3, context=8, hidden=(16,))
        >>> type(q).__name__, q(torch.zeros(5, 4)).rsample().shape
        ('FlowGuide', torch.Size([5, 3]))

    Reference:
        Rezende and Mohamed (2015), Variational inference with normalizing flows.
    """

    def __init__(self, net: nn.Module, flow: nn.Module, context: int) -> None:
        super().__init__(net)
        expect_at_least(1, context=context)
        self.flow = flow
        self.context = context
        self.dim = _dimension(flow, context)

    def distribution(self, outputs: Tensor) -> Distribution:
        """The law of μ + exp(η) u.

        Args:
            outputs: (μ, η, c), of shape (*batch, 2D + C).
        """
        expected = f"2D + C = {2 * self.dim + self.context}"
        expect_outputs(outputs.shape[-1] == 2 * self.dim + self.context, expected, outputs)
        loc, log_scale, context = outputs.split([self.dim, self.dim, self.context], -1)
        return ShiftedFlow(self.flow, loc, log_scale, context)


def flow(
    net: Networks,
    dim: int,
    *,
    context: int = 32,
    transforms: int = 2,
    hidden: Sequence[int] = (64, 64),
    make: Callable[..., nn.Module] | None = None,
) -> FlowGuide:
    """The family of inverse autoregressive flows, of 2D + C outputs; or of any flow of zuko's.

    Args:
        net: Makes a network of (x, *context) with as many outputs as it is given.
        dim: D, the latent dimension.
        context: C, how many numbers the flow is told of x.
        transforms: The number of its layers.
        hidden: The widths of the network of each layer.
        make: From (D, C) to another flow, as `zuko.flows.NSF` or `coupling_flow` with its settings
            bound by `functools.partial`; `transforms` and `hidden` are not passed on then.

    Raises:
        ValueError: If a size is below 1, or `make` gives a flow of another dimension than D.

    Examples:
        >>> program = models.vae((4,), latent_dim=2, guide=flow)
        >>> program.encoder(torch.zeros(5, 4)).rsample((7,)).shape
        torch.Size([7, 5, 2])
    """
    expect_at_least(1, context=context, **{"a latent dimension": dim})
    if make is None:
        make = partial(inverse_autoregressive_flow, transforms=transforms, hidden=hidden)
    guide = FlowGuide(net(2 * dim + context), make(dim, context), context)
    if guide.dim != dim:
        raise ValueError(
            f"expected a flow of D = {dim} features, the latent dimension, got one of {guide.dim}; "
            "let make=... pass its first argument on"
        )
    return guide


def _dimension(flow: Any, context: int) -> int:
    """D of a flow, by one draw that leaves the generator alone.

    Raises:
        ValueError: If it gives no distribution of vectors from a context of so many numbers.
    """
    like = next(flow.parameters(), torch.zeros(()))
    told = torch.zeros(1, context, dtype=like.dtype, device=like.device)
    remedy = f"build it for both, as zuko.flows.NSF(features=D, context={context})"
    what = f"a flow that takes a context of {context} numbers"
    with torch.no_grad(), forked(like.device, 0), explained(what, remedy):
        drawn = drawn_by(flow, told)()
    if drawn.dim() != 2:
        raise ValueError(
            f"expected a flow of vectors, (*batch, D), got a draw of shape {tuple(drawn.shape)} "
            f"from a context of shape {tuple(told.shape)}; {remedy}"
        )
    return int(drawn.shape[-1])
