"""How an autoencoder is fitted: by its error of reconstruction, under noise and a penalty."""

from __future__ import annotations

__all__ = ["reconstruction_step", "squared_error"]

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen.arguments import described, expect_data
from ppl_gen.contexts import explained, forked, in_evaluation_mode, one_at_a_time
from ppl_gen.corruptions import Corruption
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.engine.descent import Descent
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.expect import expect_clip, expect_optimizers
from ppl_gen.inference.fitting.loop import NotFinite
from ppl_gen.penalties import Penalty
from ppl_gen.protocols import Step

# From a reconstruction and the datum, (N, *shape) each, to a number for each datum, (N,).
Error = Callable[[Tensor, Tensor], Tensor]


def squared_error(reconstruction: Tensor, x: Tensor) -> Tensor:
    """Σᵢ (x̂ᵢ − xᵢ)², the sum over the values of each datum, (N,).

    Args:
        reconstruction: x̂, of shape (N, *shape).
        x: Of the same shape.
    """
    return (reconstruction - x).square().flatten(1).sum(1)


def reconstruction_step(
    autoencoder: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    corruption: Corruption | None = None,
    penalty: Penalty | None = None,
    error: Error = squared_error,
    clip: float | None = None,
    engine: Engine = "auto",
    steps: int | None = None,
    first_step: int = 0,
) -> Step:
    """A step that descends mean over data of error(decoder(encoder(x̃)), x) + penalty(x̃).

    x̃ is x corrupted anew at each step: a denoising autoencoder; or x itself. Whatever else the
    batch holds, such as labels, is left out.

    Args:
        autoencoder: A module with `encoder` and `decoder`, as `models.Autoencoder`.
        optimizer: A torch optimiser of the parameters to train.
        corruption: From x to x̃: `corruptions.masking(0.3)`, or a function of your own.
        penalty: From (encoder, x̃, code) to a number for each datum: `penalties.Sparse`,
            `penalties.Contractive`, or a function of your own.
        error: From (x̂, x) to a number for each datum.
        clip: The largest norm of the gradient; longer ones are scaled down to it.
        engine: "auto" compiles where the number of steps pays for it; or "inductor", "fx", "eager".
        steps: How many steps are to come, if known, which helps "auto" to decide.
        first_step: How many steps were made in another process, if this one goes on.

    Returns:
        A step with the metrics "error", or "objective" where a penalty is added, and
        "gradient_norm", the norm before it is clipped.

    Raises:
        ValueError: If a number is out of range; on the first batch, if encoder, decoder, corruption
            or penalty do not fit the data.
        NotFinite: Before any update with a loss or gradient that is not finite.

    Reference:
        Vincent et al. (2008), Extracting and composing robust features with denoising autoencoders;
        Rifai et al. (2011), Contractive auto-encoders.
    """
    expect_at_least(0, first_step=first_step, steps=steps)
    expect_clip(clip)
    objective = _Objective(autoencoder, optimizer, corruption, penalty, error)
    descent = Descent(
        objective.loss,
        objective.backward,
        (autoencoder, corruption, penalty),
        optimizer,
        engine=engine,
        steps=steps,
        first_step=first_step,
        clip=clip,
    )
    name = "error"
    if penalty is not None:
        name = "objective"
    index = first_step

    @one_at_a_time
    def step(*batch: Tensor) -> Mapping[str, Tensor]:
        nonlocal index
        x = batch[0]
        if index == first_step:
            expect_optimizers(optimizer)
            objective.check(x)

        def failure(loss: Tensor) -> NotFinite:
            what = name
            if torch.isfinite(loss):
                what = "gradient"
            return NotFinite(
                f"the {what} at step {index} is not finite; lower the learning rate, or clip the "
                "gradient"
            )

        loss, norm = descent.step((x,), None, failure)
        index += 1
        return {name: loss, "gradient_norm": norm}

    return step


class _Objective:
    """The mean over data of error and penalty.

    Args:
        autoencoder: A module with `encoder` and `decoder`.
        optimizer: The optimiser of the parameters that get a gradient.
        corruption: From x to what the encoder sees, if it is not x.
        penalty: From (encoder, x̃, code) to a number for each datum, if there is one.
        error: From (x̂, x) to a number for each datum.
    """

    def __init__(
        self,
        autoencoder: nn.Module,
        optimizer: torch.optim.Optimizer,
        corruption: Corruption | None,
        penalty: Penalty | None,
        error: Error,
    ) -> None:
        self._autoencoder: Any = autoencoder
        self._optimizer = optimizer
        self._corruption = corruption
        self._penalty = penalty
        self._error = error

    def loss(self, batch: tuple[Tensor, ...], weight: Tensor | None) -> Tensor:
        """The objective, differentiable; there is no weight."""
        (x,) = batch
        return self._by_datum(x).mean()

    def backward(self, batch: tuple[Tensor, ...], weight: Tensor | float | None) -> Tensor:
        """Adds the gradient of the objective to those in the parameters, and returns it."""
        loss = self.loss(batch, None)
        fitted = []
        for group in self._optimizer.param_groups:
            fitted.extend([p for p in group["params"] if p.requires_grad])
        loss.backward(inputs=fitted)
        return loss.detach()

    def check(self, x: Any) -> None:
        """Raises ValueError unless x is data, and what is made of two of them has their shape."""
        expect_data(self._autoencoder, (x,))
        few = x[:2]
        given = f"data of shape {tuple(few.shape)}"
        remedy = "build it for data of this shape"
        with forked(x.device, None), in_evaluation_mode(self._autoencoder), torch.enable_grad():
            seen = few
            if self._corruption is not None:
                with explained(f"a corruption that takes {given}", "try it on two data"):
                    seen = self._corruption(few)
                _expect_shape("the corruption to return", seen, few.shape)
            with explained(f"an autoencoder that takes {given}", remedy):
                made = self._autoencoder.decoder(self._autoencoder.encoder(seen))
            _expect_shape("the decoder to return", made, few.shape)
            with explained(f"an error and a penalty of {given}", "try them on two data"):
                by_datum = self._by_datum(few)
            _expect_shape("error and penalty to return", by_datum, few.shape[:1])

    def _by_datum(self, x: Tensor) -> Tensor:
        """error(decoder(encoder(x̃)), x) + penalty(x̃), (N,)."""
        seen = x
        if self._corruption is not None:
            seen = self._corruption(x)
        if self._penalty is None:
            return self._error(self._autoencoder.decoder(self._autoencoder.encoder(seen)), x)
        seen = seen.detach().requires_grad_()
        code = self._autoencoder.encoder(seen)
        error = self._error(self._autoencoder.decoder(code), x)
        return error + self._penalty(self._autoencoder.encoder, seen, code)


def _expect_shape(what: str, found: Any, shape: torch.Size) -> None:
    """Raises ValueError unless something is a tensor of a shape."""
    if not torch.is_tensor(found) or found.shape != shape:
        raise ValueError(
            f"expected {what} a tensor of shape {tuple(shape)}, got {described(found)}; keep one "
            "row for each datum, and the shape of the data"
        )
