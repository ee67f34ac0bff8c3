"""p(z) standard normal at first, and learned later."""

from __future__ import annotations

__all__ = ["Delayed"]

import torch
from torch import Tensor, nn

from ppl_gen.priors.normal import StandardNormal
from ppl_gen.protocols import Conditional, Distribution


class Delayed(nn.Module):
    """p(z) = N(z; 0, I) until it is begun, p(z | y) of a learned prior from then on.

    A prior that is learned from the first step on follows the posteriors while these say little of
    x, and may keep them there. So program and guide are fitted under N(0, I) first, then the
    learned prior alone, to the codes as they are, and then everything. It is `--prior-after` of the
    command: in Python, where the slot of a program can be given another prior between two fits,
    `VampPrior` and `FlowPrior` show how. Whether it has begun is part of its state: a program is
    judged by the prior that its weights were fitted under.

    Args:
        prior: The learned one, p(z | y).
        dim: D, the dimension of z.

    Attributes:
        has_begun: Whether the learned prior is the one that holds.

    Examples:
        >>> from ppl_gen.priors import MixtureOfGaussians
        >>> delayed = Delayed(MixtureOfGaussians(2), 2)
        >>> type(delayed()).__name__
        'Independent'
        >>> delayed.begin()
        >>> type(delayed()).__name__
        'GaussianMixture'
    """

    def __init__(self, prior: Conditional, dim: int) -> None:
        super().__init__()
        self.first = StandardNormal(dim)
        self.prior = prior
        self.has_begun = False

    def forward(self, *context: Tensor) -> Distribution:
        if self.has_begun:
            return self.prior(*context)
        return self.first(*context)

    def begin(self) -> None:
        """Puts the learned prior in the place of N(0, I)."""
        self.has_begun = True

    def own(self, program: nn.Module) -> list[nn.Parameter]:
        """The parameters that no part of a program but this prior holds.

        Of a VampPrior, these are its pseudo-inputs, the encoder being that of the program.

        Args:
            program: With this prior in a slot, or in several parts.
        """
        beside: set[int] = set()
        for _, module in program.named_modules(memo={self}):
            beside.update(map(id, module.parameters(recurse=False)))
        return [parameter for parameter in self.parameters() if id(parameter) not in beside]

    def get_extra_state(self) -> Tensor:
        """Whether it has begun, for `state_dict`."""
        return torch.tensor(self.has_begun)

    def set_extra_state(self, state: Tensor) -> None:
        """Begins where a state says so.

        Args:
            state: What `get_extra_state` gave.
        """
        self.has_begun = bool(state)
