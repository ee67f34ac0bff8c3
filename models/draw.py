"""DRAW: z₁, …, z_T ~ p(z), each of which adds to a canvas c_T, and x ~ p(x | c_T)."""

from __future__ import annotations

__all__ = ["DRAW", "Canvas", "Painter", "Reader", "draw"]

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyro
import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.guides import Family, diagonal, guide_of_family
from ppl_gen.likelihoods import (
    Bernoulli,
    parameters_per_datum,
    parameters_per_value,
    takes_missing,
)
from ppl_gen.memory import SINGLE, expect_memory, expect_weights
from ppl_gen.nn import LSTM, LSTMState, Shape, Window
from ppl_gen.priors import StandardNormal
from ppl_gen.program import per_datum, register
from ppl_gen.protocols import Conditional
from ppl_gen.sharing import shared


class Canvas(NamedTuple):
    """How far a picture is.

    Attributes:
        drawn: c, all that was drawn so far, flat, (*batch, size).
        memory: That of the decoder, (*batch, H) each.
    """

    drawn: Tensor
    memory: LSTMState


class DRAW(nn.Module):
    """p(x, z) = Πₜ p(zₜ) p(x | c_T), cₜ = decoder(zₜ, cₜ₋₁), under the guide Πₜ q(zₜ | x, z₁…zₜ₋₁).

    The latents are sites of their own, "z1" to "zT". The guide sees the canvas that they have made
    so far, and what of x is still missing on it, x − E[x | cₜ₋₁]: it goes through the decoder's
    recurrence as the model does, and in a step of training both have one pass through it.

    Args:
        prior: `prior()` is p(zₜ), the same at every step.
        decoder: `decoder.start` is an empty `Canvas`, `decoder(z, canvas)` the next one and
            `decoder.output(canvas)` the likelihood's parameters; `Painter` is one.
        likelihood: `likelihood(decoder.output(canvas))` is p(x | c).
        reader: `reader.start` is an `LSTMState`, `reader(x, missing, canvas, state)` the next one;
            `Reader` is one.
        encoder: `encoder(state.hidden)` is q(zₜ | x, z₁, …, zₜ₋₁).
        steps: T.

    Raises:
        ValueError: If there is no step.

    Examples:
        >>> from ppl_gen.program import simulate_sites
        >>> program = draw((1, 8, 8), latent_dim=4, steps=3, hidden=16)
        >>> sites = simulate_sites(program, 2)
        >>> latents = [sites[f"z{t}"]["value"] for t in (1, 2, 3)]
        >>> program.canvases(*latents).shape  # each picture after each of its steps
        torch.Size([3, 2, 1, 8, 8])

    Reference:
        Gregor et al. (2015), DRAW: a recurrent neural network for image generation.
    """

    def __init__(
        self,
        prior: Conditional,
        decoder: nn.Module,
        likelihood: Conditional,
        reader: nn.Module,
        encoder: Conditional,
        steps: int,
    ) -> None:
        super().__init__()
        expect_at_least(1, steps=steps)
        self.prior = prior
        self.decoder: Any = decoder
        self.likelihood = likelihood
        self.reader: Any = reader
        self.encoder = encoder
        self.steps = steps

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """x of shape (N, *shape) is scored; without x, n data are drawn."""
        register(self)
        prior = self.prior()
        canvas = self.decoder.start
        batch_dims = 1
        with pyro.plate("data", n if x is None else x.shape[0]):
            for t in range(1, self.steps + 1):
                z = pyro.sample(f"z{t}", prior)
                canvas = shared(self.decoder, z, canvas)
                batch_dims = z.dim() - prior.event_dim
            likelihood = self.likelihood(self.decoder.output(canvas))
            return pyro.sample("x", per_datum(likelihood, batch_dims), obs=x)

    def guide(self, x: Tensor) -> None:
        """zₜ ~ q(zₜ | x, z₁, …, zₜ₋₁), t = 1, …, T, of shape (*particles, N, D) each."""
        register(self)
        canvas = self.decoder.start
        state = self.reader.start
        with pyro.plate("data", x.shape[0]):
            for t in range(1, self.steps + 1):
                state = self.reader(x, x - self._shown(canvas), canvas, state)
                z = pyro.sample(f"z{t}", self.encoder(state.hidden))
                if t < self.steps:
                    canvas = shared(self.decoder, z, canvas)

    def canvases(self, *latents: Tensor) -> Tensor:
        """E[x | z₁, …, zₜ] after each step, (T, *batch, *shape): a picture as it is drawn.

        Args:
            *latents: z₁, …, z_T, (*batch, D) each.

        Raises:
            ValueError: If there are not as many latents as steps.
        """
        if len(latents) != self.steps:
            raise ValueError(
                f"expected latents of all {self.steps} steps, got {len(latents)}; draw them with "
                "ppl_gen.program.simulate_sites"
            )
        canvas = self.decoder.start
        shown = []
        for z in latents:
            canvas = self.decoder(z, canvas)
            shown.append(self.likelihood(self.decoder.output(canvas)).mean)
        return torch.stack(shown)

    def _shown(self, canvas: Canvas) -> Tensor:
        """What the canvas has of x: the likelihood's location, or its mean where it has none."""
        likelihood: Any = self.likelihood(self.decoder.output(canvas))
        if hasattr(likelihood, "loc"):
            return likelihood.loc
        return likelihood.mean


class Painter(nn.Module):
    """cₜ = cₜ₋₁ + write(hₜ), hₜ = LSTM(zₜ, hₜ₋₁): the decoder.

    Args:
        latent_dim: The size of z.
        shape: The shape of one datum, (C, H, W) or (D,).
        hidden: The size of h.
        parameters: P, the numbers that the likelihood takes per value.
        per_datum: Q, the numbers that it takes per datum besides, which no window draws.
        window: The side of the window that write draws in; None draws everywhere.

    Raises:
        ValueError: If a size is below 1 or the weights do not fit into memory; of a window, if the
            data are no images, or smaller.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: Sequence[int],
        hidden: int,
        parameters: int = 1,
        per_datum: int = 0,
        window: int | None = None,
    ) -> None:
        super().__init__()
        expect_at_least(1, latent_dim=latent_dim)
        self.recurrent = LSTM(latent_dim, hidden)
        self.output_shape = Shape(shape, parameters, per_datum)
        self.window: Window | None = None
        patch = self.output_shape.inputs
        if window is not None:
            self.window = Window(window, hidden, shape)
            self.in_window = shape[0] * parameters * window**2
            patch = self.in_window + per_datum
        expect_weights((hidden, patch))
        self.patch = nn.Linear(hidden, patch)
        self.blank = nn.Parameter(torch.zeros(self.output_shape.inputs))

    @property
    def start(self) -> Canvas:
        """The learned canvas before the first step, without batch axes."""
        return Canvas(self.blank, self.recurrent.start)

    def forward(self, z: Tensor, canvas: Canvas) -> Canvas:
        """The canvas after z (*batch, D)."""
        memory = self.recurrent(z, canvas.memory)
        return Canvas(canvas.drawn + self._written(memory.hidden), memory)

    def _written(self, hidden: Tensor) -> Tensor:
        """write(h), flat."""
        patch = self.patch(hidden)
        if self.window is None:
            return patch
        side = self.window.side
        pixels = patch[..., : self.in_window].unflatten(-1, (-1, side, side))
        drawn = self.window.write(pixels, hidden).flatten(-3)
        return torch.cat([drawn, patch[..., self.in_window :]], -1)

    def output(self, canvas: Canvas) -> Tensor:
        """The likelihood's parameters, (*batch, *shape), or (*batch, *shape, P)."""
        return self.output_shape(canvas.drawn)


class Reader(nn.Module):
    """sₜ = LSTM(read(x, x − E[x | cₜ₋₁]) ⊕ hₜ₋₁, sₜ₋₁): what the guide knows before zₜ.

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        hidden: The size of s.
        seen: The size of h, the decoder's state.
        window: The side of the window that is read, placed by h; None reads all of x.
        missing: Whether entries of x may be NaN: then it is told which of them are observed.

    Raises:
        ValueError: If a size is below 1 or the weights do not fit into memory; of a window, if the
            data are no images, or smaller.
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: int,
        seen: int,
        window: int | None = None,
        *,
        missing: bool = False,
    ) -> None:
        super().__init__()
        self.axes = len(shape)
        self.missing = missing
        pictures = 2
        if missing:
            pictures = 3
        self.window: Window | None = None
        size = math.prod(shape)
        if window is not None:
            self.window = Window(window, seen, shape)
            size = shape[0] * window**2
        self.recurrent = LSTM(pictures * size + seen, hidden)

    @property
    def start(self) -> LSTMState:
        """The learned state before the first step, without batch axes."""
        return self.recurrent.start

    def forward(self, x: Tensor, missing: Tensor, canvas: Canvas, state: LSTMState) -> LSTMState:
        """The state after a look at x (N, *shape) and at what is missing, (*batch, *shape)."""
        hidden = canvas.memory.hidden
        pictures = [x.expand(missing.shape), missing]
        if self.missing:
            is_observed = ~pictures[0].isnan()
            pictures = [torch.where(is_observed, picture, 0.0) for picture in pictures]
            pictures.append(is_observed.to(x.dtype))
        read = torch.stack(pictures, -1 - self.axes)
        if self.window is not None:
            read = self.window.read(read, hidden.unsqueeze(-2))
        seen = read.flatten(-1 - self.axes)
        hidden = hidden.expand(*seen.shape[:-1], -1)
        return self.recurrent(torch.cat([seen, hidden], -1), state)


def draw(
    shape: Sequence[int],
    latent_dim: int,
    *,
    steps: int = 8,
    hidden: int = 256,
    attention: tuple[int, int] | None = None,
    likelihood: Conditional | None = None,
    prior: Conditional | None = None,
    guide: Family = diagonal,
) -> DRAW:
    """A DRAW of two LSTMs, which read and write the whole datum, or by attention a window of it.

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        latent_dim: The dimension of each zₜ.
        steps: T, the number of latents.
        hidden: The size of both LSTMs.
        attention: The sides, in filters, of the windows to read from and to write in, such as
            (2, 5); None for no attention.
        likelihood: Bernoulli() if left out.
        prior: p(zₜ); StandardNormal(latent_dim) if left out.
        guide: The family of q(zₜ | x, z₁, …, zₜ₋₁), a function of (net, dim) of `ppl_gen.guides` or
            one of your own.

    Raises:
        ValueError: If there is no step, a size is below 1, the weights do not fit into memory, or
            `guide` is no family; with attention, if the data are no images, or smaller than a
            window.

    Examples:
        >>> from ppl_gen.inference import elbo
        >>> program = models.draw((1, 8, 8), 4, steps=3, hidden=16, attention=(3, 3))
        >>> elbo(program, program.guide, torch.zeros(5, 1, 8, 8), particles=2).value.shape
        torch.Size([5])
    """
    expect_at_least(1, steps=steps, latent_dim=latent_dim, **{"hidden units": hidden})
    read, write = _windows(attention)
    needed = SINGLE * steps * (math.prod(shape) + latent_dim + hidden)
    expect_memory(f"one draw of {steps} steps", needed, "take fewer steps")
    if likelihood is None:
        likelihood = Bernoulli()
    if prior is None:
        prior = StandardNormal(latent_dim)

    def net(outputs: int) -> nn.Module:
        expect_weights((hidden, outputs))
        return nn.Linear(hidden, outputs)

    return DRAW(
        prior,
        Painter(
            latent_dim,
            shape,
            hidden,
            parameters_per_value(likelihood),
            parameters_per_datum(likelihood),
            write,
        ),
        likelihood,
        Reader(shape, hidden, hidden, read, missing=takes_missing(likelihood)),
        guide_of_family(guide, net, latent_dim),
        steps,
    )


def _windows(attention: Any) -> tuple[int | None, int | None]:
    """The sides of the windows to read from and to write in; raises ValueError if not two."""
    if attention is None:
        return None, None
    if not isinstance(attention, tuple | list) or len(attention) != 2:
        raise ValueError(
            "expected attention as the sides of two windows, (read, write) such as (2, 5), got "
            f"{attention!r}"
        )
    return attention[0], attention[1]
