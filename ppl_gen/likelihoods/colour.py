"""P(x) of pixels whose channels depend on each other."""

from __future__ import annotations

__all__ = ["DiscretizedMixture"]

from torch import Tensor, nn

from ppl_gen import distributions
from ppl_gen.counts import expect_at_least
from ppl_gen.protocols import Distribution


class DiscretizedMixture(nn.Module):
    """P(x | η): a mixture of K logistics for each pixel, discretised to the grid 0, δ, 2δ, …, 1.

    The channels of a pixel share a component, and green and blue follow the channels before them by
    a linear regression of each component (see `ppl_gen.distributions.DiscretizedMixture`). This is
    a probability mass for images (C, H, W) as stored: its nats are comparable with those of other
    discrete likelihoods only.

    The decoder's output is of shape (*batch, C, H, W, 3K) for one channel and (*batch, C, H, W, 4K)
    for three. The paper has K logits for each pixel; here each channel has K, which are added.

    Args:
        channels: C, 3 for colour or 1 for grey.
        components: K.
        levels: The number of grid values: 256 for 8-bit images, 17 for scikit-learn's digits.

    Raises:
        ValueError: If there are neither one nor three channels, or a count is too small; when it is
            called, if decoder outputs have another shape.

    Examples:
        >>> likelihood = DiscretizedMixture(channels=3, components=5)
        >>> likelihood.parameters_per_value
        20
        >>> likelihood(torch.zeros(2, 3, 4, 4, 20)).event_shape
        torch.Size([3, 4, 4])

    Reference:
        Salimans, Karpathy, Chen and Kingma (2017), PixelCNN++, eq. 1 to 3.
    """

    def __init__(self, channels: int = 3, components: int = 10, levels: int = 256) -> None:
        super().__init__()
        expect_at_least(1, channels=channels, components=components)
        expect_at_least(2, levels=levels)
        if channels not in (1, 3):
            raise ValueError(
                f"expected 3 channels, or 1 of grey images, got {channels}; take "
                "DiscretizedLogistic, which has any number"
            )
        self.channels = channels
        self.components = components
        self.levels = levels
        self.parameters_per_value = 3 * components
        if channels == 3:
            self.parameters_per_value = 4 * components

    def forward(self, parameters: Tensor) -> Distribution:
        expected = (self.channels, self.parameters_per_value)
        shape = parameters.shape
        if parameters.dim() < 4 or (shape[-4], shape[-1]) != expected:
            raise ValueError(
                f"expected decoder outputs of shape (*batch, {expected[0]}, H, W, {expected[1]}), "
                f"got {tuple(shape)}; build the program for images of shape ({expected[0]}, H, W)"
            )
        return distributions.DiscretizedMixture(parameters, self.components, self.levels)
