"""Normalising flows of zuko as distributions of Pyro."""

from __future__ import annotations

__all__ = [
    "FlowDistribution",
    "ShiftedFlow",
    "coupling_flow",
    "drawn_by",
    "inverse_autoregressive_flow",
]

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pyro
import torch
from pyro.contrib.zuko import ZukoToPyro
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.memory import expect_weights
from ppl_gen.protocols import Distribution


class FlowDistribution(ZukoToPyro):
    """A distribution of zuko's as one of Pyro's: drawn in plates, and by `sample` and `rsample`.

    The density of draws made by a call, as `pyro.sample` makes them, is kept: a flow has it at no
    further cost.

    Args:
        dist: Of zuko, or any other of torch's kind.
    """

    def expand(self, batch_shape: Any, _instance: Any = None) -> FlowDistribution:
        return FlowDistribution(self.dist.expand(Size(batch_shape)))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self.dist.sample(Size(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.dist.rsample(Size(sample_shape))


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
        return FlowDistribution(made)
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
    for width in hidden:
        expect_at_least(1, hidden=width)
    numbers = 2
    if spline_bins is not None:
        numbers = 3 * spline_bins - 1
    widths = [dim + context, *hidden, numbers * dim]
    expect_weights(*[(transforms, a, b) for a, b in itertools.pairwise(widths)])
    flows = _zuko().flows
    options: dict[str, Any] = {"transforms": transforms, "hidden_features": tuple(hidden)}
    if dim > 1:
        options["passes"] = 2
    if spline_bins is None:
        return flows.MAF(dim, context, **options)
    return flows.NSF(dim, context, bins=spline_bins, **options)


def inverse_autoregressive_flow(
    dim: int, context: int = 0, *, transforms: int = 2, hidden: Sequence[int] = (64, 64)
) -> nn.Module:
    """z = f(ε; c) with ε ~ N(0, I), f autoregressive layers: a draw takes one pass, for guides.

    Each entry of a layer's output is its own input, scaled and shifted by a network of the inputs
    before it and of c. The density of a draw is known with it; that of any other value takes D
    passes.

    Args:
        dim: D, the dimension of z.
        context: C, the size of c; 0 for none.
        transforms: The number of layers; the order of entries is reversed between two of them.
        hidden: The widths of the network of each layer.

    Raises:
        ValueError: If a size is below 1 (C below 0), or the weights do not fit into memory.

    Reference:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling (2016), Improved variational
        inference with inverse autoregressive flow.
    """
    expect_at_least(1, **{"a latent dimension": dim}, transforms=transforms)
    expect_at_least(0, context=context)
    widths = [dim + context, *hidden, 2 * dim]
    expect_weights(*[(transforms, a, b) for a, b in itertools.pairwise(widths)])
    zuko = _zuko()
    forwards = zuko.flows.MAF(dim, context, transforms=transforms, hidden_features=tuple(hidden))
    return zuko.lazy.Flow(forwards.transform.inv, forwards.base)


class ShiftedFlow(TorchDistribution):
    """z = μ + exp(η) u with u ~ flow(c); log q(z) = log p((z − μ) exp(−η) | c) − Σᵢ ηᵢ.

    A draw keeps its u, whose density zuko computes with it.

    Args:
        flow: From a context (*batch, C) to the distribution of u.
        loc: μ, (*batch, D).
        log_scale: η, (*batch, D).
        context: c, (*batch, C).
        batch_shape: As `.expand` gives it; *batch if None.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        flow: Callable[[Tensor], Any],
        loc: Tensor,
        log_scale: Tensor,
        context: Tensor,
        batch_shape: Any = None,
    ) -> None:
        self.flow = flow
        self.loc = loc
        self.log_scale = log_scale
        self.context = context
        self.inner = drawn_by(flow, context)
        if batch_shape is None:
            batch_shape = loc.shape[:-1]
        if Size(batch_shape) != self.inner.batch_shape:
            self.inner = self.inner.expand(Size(batch_shape))
        self._drawn: tuple[Tensor, Tensor] | None = None
        super().__init__(Size(batch_shape), loc.shape[-1:], validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ShiftedFlow:
        return ShiftedFlow(self.flow, self.loc, self.log_scale, self.context, batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        u = self.inner(Size(sample_shape))
        z = self.loc + self.log_scale.exp() * u
        self._drawn = (z, u)
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        if self._drawn is not None and value is self._drawn[0]:
            u = self._drawn[1]
        else:
            u = (value - self.loc) * (-self.log_scale).exp()
        return self.inner.log_prob(u) - self.log_scale.sum(-1)

    def by_datum(self) -> tuple[dict[str, Tensor], Callable[..., ShiftedFlow]]:
        """The parameters that each datum may have for itself, with what makes a q of them."""
        parameters = {"loc": self.loc, "log_scale": self.log_scale, "context": self.context}

        def make(**parameters: Tensor) -> ShiftedFlow:
            return ShiftedFlow(self.flow, **parameters)

        return parameters, make


def _zuko() -> Any:
    """zuko, whose import turns torch's validation of distributions off: it is put back."""
    validates = pyro.distributions.is_validation_enabled()
    import zuko

    pyro.distributions.enable_validation(validates)
    return zuko
