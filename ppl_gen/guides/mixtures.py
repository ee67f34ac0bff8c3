"""q(z | x) a mixture of Gaussians, for posteriors of several modes."""

from __future__ import annotations

__all__ = ["GaussianMixtureGuide", "mixture"]

from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.distributions import GaussianMixture
from ppl_gen.guides.family import NetworkGuide, Networks, expect_outputs
from ppl_gen.protocols import Distribution


class GaussianMixtureGuide(NetworkGuide):
    """q(z | c) = Σₖ πₖ(c) N(z; μₖ(c), diag exp(ηₖ(c))²), with (log π, μ, η) = net(c).

    Draws have a gradient in all of these, π included, so that every objective takes them. That in π
    is noisy where components are many standard deviations apart. log q − log p has no closed form:
    `AnalyticELBO` takes it by draws.

    Args:
        net: Maps the context to (*batch, K(2D + 1)): K logits, then the means and then the log
            standard deviations, component by component.
        components: K, at least 1.

    Raises:
        ValueError: If there are no components; when it is called, if the network has another
            number of outputs.

    Examples:
        >>> q = GaussianMixtureGuide(nn.Linear(4, 2 * (2 * 3 + 1)), components=2)
        >>> q(torch.zeros(5, 4)).rsample().shape
        torch.Size([5, 3])
    """

    def __init__(self, net: nn.Module, components: int = 3) -> None:
        super().__init__(net)
        expect_at_least(1, components=components)
        self.components = components

    def distribution(self, outputs: Tensor) -> Distribution:
        """Σₖ πₖ N(μₖ, diag exp(ηₖ)²).

        Args:
            outputs: (log π, μ, η), of shape (*batch, K(2D + 1)).
        """
        count = self.components
        dim = (outputs.shape[-1] // count - 1) // 2
        fits = dim > 0 and count * (2 * dim + 1) == outputs.shape[-1]
        expect_outputs(fits, f"K(2D + 1) = {count}(2D + 1)", outputs)
        logits, loc, log_scale = outputs.split([count, count * dim, count * dim], -1)
        return GaussianMixture(
            loc.unflatten(-1, (count, dim)).movedim(-2, 0),
            log_scale.unflatten(-1, (count, dim)).movedim(-2, 0),
            logits.movedim(-1, 0),
        )


def mixture(net: Networks, dim: int, components: int = 3) -> GaussianMixtureGuide:
    """The family Σₖ πₖ(x) N(z; μₖ(x), diag σₖ(x)²), of K(2D + 1) outputs.

    Args:
        net: Makes a network of (x, *context) with as many outputs as it is given.
        dim: D, the latent dimension.
        components: K, at least 1.

    Raises:
        ValueError: If there are no components.

    Examples:
        >>> q = mixture(lambda outputs: nn.Linear(4, outputs), dim=3, components=2)
        >>> q.net.out_features
        14
    """
    expect_at_least(1, components=components, **{"a latent dimension": dim})
    return GaussianMixtureGuide(net(components * (2 * dim + 1)), components)
