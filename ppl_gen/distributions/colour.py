"""Masses of whole pixels, their channels conditional on each other."""

from __future__ import annotations

__all__ = ["DiscretizedMixture"]

from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor
from torch.nn import functional as F

from ppl_gen.distributions.grid import OnGrid

_LEAST_LOG_SCALE = -7.0  # in the unit of t: a 256th of a grid step at 8 bits


class DiscretizedMixture(TorchDistribution):
    """P(x) = Πₚ Σₖ πₖ Π_c [σ((t_c + h − m_c)/s_c) − σ((t_c − h − m_c)/s_c)], pixel by pixel.

    t = 2x − 1 in [−1, 1] and h is half a grid step of it; the ends of the grid take the tails. The
    means of green and blue depend on the channels before: m_r = μ_r, m_g = μ_g + α t_r and m_b =
    μ_b + β t_r + γ t_g, with α, β and γ in (−1, 1) for every component.

    Args:
        parameters: (*batch, C, H, W, P) with P = 3K of one channel: K logits of π, K means μ and K
            log scales; and K coefficients more of three channels. Logits are added over channels.
        components: K.
        levels: The number of grid values.

    Examples:
        >>> images = DiscretizedMixture(torch.zeros(5, 1, 2, 2, 3 * 2), components=2, levels=16)
        >>> images.event_shape, images.log_prob(images.sample()).shape
        (torch.Size([1, 2, 2]), torch.Size([5]))

    Reference:
        Salimans, Karpathy, Chen and Kingma (2017), PixelCNN++, eq. 1 to 3.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, parameters: Tensor, components: int, levels: int) -> None:
        self.parameters = parameters
        self.components = components
        self.levels = levels
        shape = parameters.shape[:-1]
        super().__init__(shape[:-3], shape[-3:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(OnGrid(self.levels), 3)

    @property
    def mean(self) -> Tensor:
        """Σₖ πₖ m, each m at the means of the channels before and cut off at the grid's ends."""
        shares = self._logits.softmax(-1)
        channels: list[Tensor] = []
        for loc, terms in self._channels:
            for coefficients, before in zip(terms, channels, strict=True):
                loc = loc + coefficients * before
            channels.append(loc.clamp(-1, 1))
        means = [(shares * channel).sum(-1) for channel in channels]
        return (torch.stack(means, -3) + 1) / 2

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiscretizedMixture:
        parameters = self.parameters.expand(*batch_shape, *self.parameters.shape[-4:])
        return DiscretizedMixture(parameters, self.components, self.levels)

    def log_prob(self, value: Tensor) -> Tensor:
        t = (2 * value - 1)[..., None]
        total = self._logits.log_softmax(-1)
        seen: list[Tensor] = []
        for c, (loc, terms) in enumerate(self._channels):
            for coefficients, before in zip(terms, seen, strict=True):
                loc = loc + coefficients * before
            channel = t.select(-4, c)
            total = total + self._log_mass(channel, loc, self._log_scale.select(-4, c))
            seen.append(channel)
        return total.logsumexp(-1).sum((-2, -1))

    def log_masses(self, before: Tensor) -> Tensor:
        """log P(x_c = k/(levels − 1) | x_1, …, x_(c−1)) of all values k of the next channel.

        Args:
            before: The channels before, (*batch, c − 1, H, W) with c from 1 on.

        Returns:
            A tensor (levels, *batch, H, W).
        """
        t = (2 * before - 1)[..., None]
        seen: list[Tensor] = []
        shares = self._logits
        for channel in t.unbind(-4):
            shares = shares + self._log_mass(channel, *self._given(seen))
            seen.append(channel)
        shares = shares.log_softmax(-1)
        loc, log_scale = self._given(seen)
        levels = torch.arange(self.levels, dtype=loc.dtype, device=loc.device)
        masses = []
        for value in (2 * levels / (self.levels - 1) - 1).unbind():
            own = self._log_mass(value.expand_as(loc), loc, log_scale)
            masses.append((shares + own).logsumexp(-1))
        return torch.stack(masses)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            d = self.expand(Size(sample_shape) + self.batch_shape)
            taken = _drawn(d._logits)
            seen: list[Tensor] = []
            for c, (loc, terms) in enumerate(d._channels):
                for coefficients, before in zip(terms, seen, strict=True):
                    loc = loc + coefficients * before
                own = loc.gather(-1, taken)
                scale = d._log_scale.select(-4, c).gather(-1, taken).exp()
                u = torch.rand_like(own).logit(eps=torch.finfo(own.dtype).eps)
                step = (d.levels - 1) / 2
                level = ((own + scale * u).clamp(-1, 1) * step + step).round()
                seen.append(level / step - 1)
            levels = [((t + 1) * step).round() / (d.levels - 1) for t in seen]
            return torch.stack(levels, -4).squeeze(-1)

    def _log_mass(self, t: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        """log P(t) of each component, (*batch, H, W, K), for one channel t of (*batch, H, W, 1)."""
        half = 1 / (self.levels - 1)
        inverse = log_scale.neg().exp()
        upper = (t + half - loc) * inverse
        lower = (t - half - loc) * inverse
        # σ(u) − σ(l) = σ(u) σ(−l) (1 − exp(l − u)), exact in either tail.
        first = F.logsigmoid(upper)
        last = F.logsigmoid(-lower)
        inside = first + last + torch.log(-torch.expm1(-2 * half * inverse))
        not_first = torch.where(t > 1 - half, last, inside)
        return torch.where(t < half - 1, first, not_first)

    def _given(self, seen: list[Tensor]) -> tuple[Tensor, Tensor]:
        """m and log s of each component, (*batch, H, W, K), of the channel after those seen."""
        c = len(seen)
        loc, terms = self._channels[c]
        for coefficients, before in zip(terms, seen, strict=True):
            loc = loc + coefficients * before
        return loc, self._log_scale.select(-4, c)

    @property
    def _logits(self) -> Tensor:
        """The logits of π, (*batch, H, W, K)."""
        return self._numbers(0).sum(-4)

    @property
    def _log_scale(self) -> Tensor:
        """log s, (*batch, C, H, W, K)."""
        return self._numbers(2).clamp(min=_LEAST_LOG_SCALE)

    @property
    def _channels(self) -> list[tuple[Tensor, list[Tensor]]]:
        """Each channel's μ, with the coefficients of those before it, each (*batch, H, W, K)."""
        locs = self._numbers(1).unbind(-4)
        if len(locs) == 1:
            return [(locs[0], [])]
        alpha, beta, gamma = self._numbers(3).tanh().unbind(-4)
        red, green, blue = locs
        return [(red, []), (green, [alpha]), (blue, [beta, gamma])]

    def _numbers(self, kind: int) -> Tensor:
        """The K numbers of a kind: logits, means, log scales or coefficients."""
        first = kind * self.components
        return self.parameters[..., first : first + self.components]


def _drawn(logits: Tensor) -> Tensor:
    """One of K components with probability softmax(logits), (*batch, 1)."""
    shares = logits.softmax(-1)
    index = shares.reshape(-1, shares.shape[-1]).multinomial(1)
    return index.reshape(*shares.shape[:-1], 1)
