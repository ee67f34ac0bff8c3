"""p(z) a normalising flow, the same under every context or given one."""

from __future__ import annotations

__all__ = ["FlowPrior"]

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen.contexts import explained
from ppl_gen.flows import drawn_by
from ppl_gen.protocols import Distribution


class FlowPrior(nn.Module):
    """p(z | y) = N(f(z; e(y)); 0, I) |det ∂f/∂z|, f an invertible network; or p(z), without e.

    Learned from the first step on it may follow posteriors that say nothing of x yet: −121.0 nats
    on MNIST after 20 epochs, to −96.0 of a standard normal. Put into the slot after half of the
    epochs, and fitted alone for one, it gained 2.0 nats (`tests/benchmarks/priors_table.py`). In
    the command that is `--prior flow --prior-after 10`; a step trains the parameters of its
    optimiser alone:

        fit(svi_step(program, Adam(program.parameters())), batches, 10)
        program.prior = FlowPrior(coupling_flow(40))
        fit(svi_step(program, Adam(program.prior.parameters())), batches, 1)
        fit(svi_step(program, Adam(program.parameters())), batches, 9)

    Args:
        flow: Of zuko, such as `zuko.flows.MAF(features=D, transforms=4)`, or of
            `ppl_gen.flows.coupling_flow(D)`, whose draws are as quick as its density. One whose
            inverse is not known cannot score given values, and is no prior.
        embed: e, from y to what the flow was built to take, (N, C):
            `Condition(nn.Linear(classes, C), classes)` of labels, `nn.Identity()` of attributes.
            None for a flow that takes no context, and is the same under every y.

    Raises:
        ValueError: If there is no `embed` and the flow has no density without a context, or what it
            gives is no distribution.

    Reference:
        Chen et al. (2017), Variational lossy autoencoder, for a flow as prior; Papamakarios et al.
        (2021), Normalizing flows for probabilistic modeling and inference.

    Examples:
        >>> from ppl_gen.flows import coupling_flow
        >>> FlowPrior(coupling_flow(3))().event_shape
        torch.Size([3])
    """

    def __init__(
        self, flow: Callable[..., Any], embed: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        if embed is None:
            _check_without_context(flow)
        self.flow = flow
        self.embed = embed

    def forward(self, *context: Tensor) -> Distribution:
        if self.embed is None:
            return drawn_by(self.flow)
        return drawn_by(self.flow, self.embed(*context))


def _check_without_context(flow: Callable[..., Any]) -> None:
    """Raises ValueError unless a flow gives a distribution with a density, and asks for nothing."""
    zero = torch.zeros(())
    if isinstance(flow, nn.Module):
        zero = next(flow.parameters(), zero)
    remedy = "give embed, from y to the context that it was built for, or build it for none"
    what = "a flow with a density that takes no context"
    with torch.no_grad(), explained(what, remedy):
        made = drawn_by(flow)
        made.log_prob(zero.new_zeros(made.event_shape))
