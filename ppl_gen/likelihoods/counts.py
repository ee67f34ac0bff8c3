"""P(x | parameters) of counts: 0, 1, 2, …"""

from __future__ import annotations

__all__ = ["NegativeBinomial", "Poisson", "ZeroInflated"]

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ppl_gen import distributions
from ppl_gen.counts import expect_positive
from ppl_gen.likelihoods.parameters import (
    columns_of,
    parameters_per_datum,
    parameters_per_value,
)
from ppl_gen.protocols import Conditional, Distribution
from ppl_gen.supports import is_discrete


class Poisson(nn.Module):
    """P(x | η) = e^(xη − e^η) / x!, with the log rate η of shape (*batch, *shape).

    Examples:
        >>> Poisson()(torch.tensor([0.0, 1.0])).mean  # exp η
        tensor([1.0000, 2.7183])
    """

    def forward(self, log_rate: Tensor) -> Distribution:
        return distributions.Poisson(log_rate)


class NegativeBinomial(nn.Module):
    """P(x | η) = NB(x; μ, r) with the mean μ = exp η and the variance μ + μ²/r.

    Counts that vary more than Poisson's. The dispersion r is fixed; or learned, one for all values
    or one for each value of a datum (each gene); or comes from the decoder, whose output (η, log r)
    is then of shape (*batch, *shape, 2).

    Args:
        dispersion: r; None has it learned, or taken from the decoder.
        shape: The shape of the learned r: () for one number, that of a datum for one per value.
        decoded: Whether the decoder gives log r.
        initial_dispersion: Where a learned r starts.

    Raises:
        ValueError: If a dispersion is not positive, or is both given and decoded.

    Examples:
        >>> counts = NegativeBinomial(dispersion=2.0)(torch.tensor([4.0]).log())
        >>> counts.mean, counts.variance
        (tensor([4.]), tensor([12.]))

    Reference:
        Lopez, Regier, Cole, Jordan and Yosef (2018), Deep generative modeling for single-cell
        transcriptomics.
    """

    def __init__(
        self,
        dispersion: float | None = None,
        *,
        shape: Sequence[int] = (),
        decoded: bool = False,
        initial_dispersion: float = 1.0,
    ) -> None:
        super().__init__()
        expect_positive(dispersion=dispersion, initial_dispersion=initial_dispersion)
        if decoded and dispersion is not None:
            raise ValueError(
                f"expected a dispersion or decoded=True, got both: {dispersion} would not be used"
            )
        self.decoded = decoded
        if decoded:
            self.parameters_per_value = 2
        elif dispersion is None:
            start = torch.full(tuple(shape), math.log(initial_dispersion))
            self.log_dispersion = nn.Parameter(start)
        else:
            self.register_buffer("log_dispersion", torch.tensor(math.log(dispersion)))

    def forward(self, parameters: Tensor) -> Distribution:
        if self.decoded:
            log_mean, log_dispersion = columns_of(parameters)
            return distributions.NegativeBinomial(log_mean, log_dispersion)
        log_dispersion = self.log_dispersion.to(parameters.dtype)
        return distributions.NegativeBinomial(parameters, log_dispersion)


class ZeroInflated(nn.Module):
    """P(x | η, ζ) = σ(ζ) [x = 0] + (1 − σ(ζ)) f(x | η): zeros beside those of a likelihood f.

    The decoder's output has one number more than f takes, ζ, which comes last: `ZeroInflated(
    Poisson())` takes (*batch, *shape, 2).

    Args:
        likelihood: f, of counts: `Poisson()`, `NegativeBinomial()`, a function of your own.

    Raises:
        ValueError: If f takes numbers per datum; when it is called, if its values are not single
            counts with 0 among them: a density has no mass at 0 that could be shared.

    Examples:
        >>> likelihood = ZeroInflated(Poisson())
        >>> likelihood.parameters_per_value, likelihood(torch.zeros(5, 3, 2)).mean.unique()
        (2, tensor([0.5000]))

    Reference:
        Lambert (1992), Zero-inflated Poisson regression, with an application to defects in
        manufacturing.
    """

    def __init__(self, likelihood: Conditional) -> None:
        super().__init__()
        if parameters_per_datum(likelihood):
            raise ValueError(
                "expected a likelihood of counts that takes numbers per value alone, got "
                f"{type(likelihood).__name__}; take Poisson() or NegativeBinomial()"
            )
        self.likelihood = likelihood
        self.own = parameters_per_value(likelihood)
        self.parameters_per_value = self.own + 1

    def forward(self, parameters: Tensor) -> Distribution:
        columns, logits = parameters.movedim(-1, 0).split([self.own, 1])
        own = columns.movedim(0, -1)
        if self.own == 1:
            own = own.squeeze(-1)
        base = self.likelihood(own)
        if base.event_shape or not is_discrete(base):
            raise ValueError(
                "expected a likelihood of single counts, got "
                f"{type(base).__name__} of event shape {tuple(base.event_shape)}; take Poisson() "
                "or NegativeBinomial(), without .to_event: a density has no mass at 0 to share"
            )
        return distributions.ZeroInflated(base, logits.squeeze(0))
