"""p(x observed | parameters): data with missing entries."""

from __future__ import annotations

__all__ = ["Masked"]

import pyro.distributions as dist
from torch import Tensor, nn

from ppl_gen import distributions
from ppl_gen.likelihoods.parameters import parameters_per_datum, parameters_per_value
from ppl_gen.protocols import Conditional, Distribution
from ppl_gen.supports import unwrapped


class Masked(nn.Module):
    """p(x | η) = Π f(xᵢ | η) over the observed entries i: the evidence of what is observed.

    A missing entry is NaN in x; where a mask says it (True where missing), `x.masked_fill(mask,
    torch.nan)` puts it there. What it would have been is summed or integrated out, which is exact
    for values that are independent given the latents. It is missing at random: that it is missing
    tells nothing of its value beyond what the observed ones tell.

    Builders give the encoder 0 for what is missing, and the mask beside the data; an encoder that
    is there already is wrapped in `ppl_gen.nn.ZeroFilled`. `ppl_gen.inference.impute` draws what is
    missing.

    Args:
        likelihood: f, of values that are independent given its parameters, such as `Bernoulli()`
            or `Table(...)`.

    Raises:
        ValueError: When it is called, if the values of f are not independent, or f is a Dirac.

    Examples:
        >>> import torch
        >>> from ppl_gen.likelihoods import Bernoulli
        >>> Masked(Bernoulli())(torch.zeros(2)).log_prob(torch.tensor([1.0, torch.nan]))
        tensor([-0.6931,  0.0000])

    Reference:
        Rubin (1976), Inference and missing data; for VAEs, Nazabal, Olmos, Ghahramani and Valera
        (2020), Handling incomplete heterogeneous data using VAEs, eq. 2.
    """

    takes_missing = True

    def __init__(self, likelihood: Conditional) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.parameters_per_value = parameters_per_value(likelihood)
        self.parameters_per_datum = parameters_per_datum(likelihood)

    def forward(self, parameters: Tensor) -> Distribution:
        given = self.likelihood(parameters)
        each = unwrapped(given)
        if each.event_shape or isinstance(each, dist.Delta):
            raise ValueError(
                "expected a likelihood of values that are independent given the latents, got "
                f"{type(each).__name__} of event shape {tuple(each.event_shape)}: the rest of a "
                "datum has no density of its own; take one of single values, such as Gaussian()"
            )
        return distributions.Masked(each).to_event(len(given.event_shape))
