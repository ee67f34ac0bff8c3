"""p(z) a mixture of Gaussians, the same under every context or given one."""

from __future__ import annotations

__all__ = ["ConditionalMixture", "MixtureOfGaussians"]

import math

import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least, expect_number
from ppl_gen.distributions import GaussianMixture
from ppl_gen.memory import expect_weights
from ppl_gen.protocols import Distribution


class MixtureOfGaussians(nn.Module):
    """p(z) = Σₖ πₖ N(z; μₖ, diag exp(ηₖ)²), all learned, the same under every context.

    It begins with equal weights, means drawn from N(0, s²I) and standard deviations √(1 − s²), as
    of a standard normal whose mass has drawn together around K points.

    Through its density, as a VAE is trained, gradients reach all three. Through its draws alone, as
    a GAN is, those of means and scales are reparameterised, and that of the weights is implicit:
    unbiased, and the noisier the further components are apart (`ppl_gen.distributions`,
    `GaussianMixture`).

    Args:
        dim: D, the dimension of z.
        components: K, at least 1.
        spread: s, the standard deviation of the means at the start, between 0 and 1. At 0 all
            components would be one, and stay one.

    Raises:
        ValueError: If a size is below 1, or s not between 0 and 1.

    Examples:
        >>> prior = MixtureOfGaussians(2, components=5)
        >>> prior().sample((3,)).shape
        torch.Size([3, 2])
        >>> vae = models.vae((4,), latent_dim=2, prior=prior)  # learned with the rest

    Reference:
        Dilokthanakul et al. (2016), Deep unsupervised clustering with Gaussian mixture variational
        autoencoders; as the baseline of VampPrior, Tomczak and Welling (2018), section 3.
    """

    def __init__(self, dim: int, components: int = 10, *, spread: float = 0.5) -> None:
        super().__init__()
        expect_at_least(1, **{"a latent dimension": dim})
        expect_at_least(1, components=components)
        expect_number(spread=spread)
        if not 0 < spread < 1:
            raise ValueError(
                f"expected a spread between 0 and 1, got {spread}: it is the standard deviation of "
                "the means, of a total of 1"
            )
        expect_weights((3, components, dim))
        within = 0.5 * math.log(1 - spread**2)
        self.loc = nn.Parameter(spread * torch.randn(components, dim))
        self.log_scale = nn.Parameter(torch.full((components, dim), within))
        self.logits = nn.Parameter(torch.zeros(components))

    def forward(self, *context: Tensor) -> Distribution:
        return GaussianMixture(self.loc, self.log_scale, self.logits)


class ConditionalMixture(nn.Module):
    """p(z | y) = Σₖ πₖ(y) N(z; μₖ(y), diag exp(ηₖ(y))²), its parameters the output of a network.

    Args:
        net: Maps y to (N, K(1 + 2D)): the K logits of π, then K times D means, then as many log
            standard deviations; `Condition(mlp([classes, ..., K * (1 + 2 * D)]), classes)` takes
            labels.
        components: K, at least 1.

    Raises:
        ValueError: If K is below 1; when called, if the network has another number of outputs.

    Examples:
        >>> from ppl_gen.nn import Condition
        >>> net = Condition(nn.Linear(10, 3 * (2 * 4 + 1)), classes=10)
        >>> prior = ConditionalMixture(net, components=3)
        >>> prior(torch.arange(5)).event_shape  # of z in 4 dimensions, for each of five labels
        torch.Size([4])
    """

    def __init__(self, net: nn.Module, components: int = 10) -> None:
        super().__init__()
        expect_at_least(1, components=components)
        self.net = net
        self.components = components

    def forward(self, *context: Tensor) -> Distribution:
        outputs = self.net(*context)
        moments = outputs.shape[-1] - self.components
        if moments < 1 or moments % (2 * self.components):
            raise ValueError(
                f"expected a network of K(1 + 2D) outputs with K = {self.components} components, "
                f"got {outputs.shape[-1]}; for D latents give its last layer "
                f"{self.components} * (1 + 2 * D)"
            )
        logits = outputs[..., : self.components].movedim(-1, 0)
        both = outputs[..., self.components :].unflatten(-1, (2, self.components, -1))
        loc, log_scale = both.movedim(-2, 0).unbind(-2)
        return GaussianMixture(loc, log_scale, logits)
