"""How an autoencoder is fitted: by its error of reconstruction, under noise and a penalty."""

from __future__ import annotations

__all__ = ["ReconstructionValidation", "greedy_step", "reconstruction_step", "squared_error"]

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen.arguments import described, expect_data
from ppl_gen.contexts import evaluating, explained, forked, in_evaluation_mode
from ppl_gen.corruptions import Corruption
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.engine.descent import Descent
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.expect import expect_clip, expect_optimizers
from ppl_gen.inference.fitting.gradient_step import GradientStep
from ppl_gen.inference.fitting.loop import NotFinite
from ppl_gen.penalties import Penalty
from ppl_gen.precision import Precision, expect_precision, in_precision
from ppl_gen.protocols import Step
from ppl_gen.ranks import Ranks

_AT_ONCE = 1000  # data that are reconstructed in one call

# From a reconstruction and the datum, (N, *shape) each, to a number for each datum, (N,).
Error = Callable[[Tensor, Tensor], Tensor]


def squared_error(reconstruction: Tensor, x: Tensor) -> Tensor:
    """Σᵢ (x̂ᵢ − xᵢ)², the sum over the values of each datum, (N,).

    Args:
        reconstruction: x̂, of shape (N, *shape).
        x: Of the same shape.

    Examples:
        >>> squared_error(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]]))
        tensor([5.])
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
    across: Ranks | None = None,
    precision: Precision = "float32",
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
        engine: "auto" compiles where the number of steps pays for it; or "cuda-graph", "inductor",
            "fx", "eager".
        steps: How many steps are to come, if known, which helps "auto" to decide.
        first_step: How many steps were made in another process, if this one goes on.
        across: The processes of a `ranks.joined()`, each of which calls its step on its own share
            of every batch: all make the update of the whole batch. None for one process.
        precision: How networks are computed: "float32", as torch is set; "tf32", in that mode of
            CUDA devices, which processors have not; "bfloat16", of which linear maps and
            convolutions multiply, all else, log densities and sums too, being in float32.

    Returns:
        A step with the metrics "error", or "penalised_error" where a penalty is added, and
        "gradient_norm", the norm before it is clipped.

    Raises:
        ValueError: If a number is out of range; on the first batch, if encoder, decoder, corruption
            or penalty do not fit the data.
        NotFinite: Before any update with a loss or gradient that is not finite.
        ProcessLost: If another of several processes has ended.

    Examples:
        >>> net = models.autoencoder((4,), code_dim=2, hidden=[8])
        >>> optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        >>> step = reconstruction_step(net, optimizer, engine="eager")
        >>> sorted(step(torch.rand(20, 4)))
        ['error', 'gradient_norm']

    Reference:
        Vincent et al. (2008), Extracting and composing robust features with denoising autoencoders;
        Rifai et al. (2011), Contractive auto-encoders.
    """
    expect_at_least(0, first_step=first_step, steps=steps)
    expect_precision(precision)
    expect_clip(clip)
    objective = _Objective(autoencoder, optimizer, corruption, penalty, error)
    descent = Descent(
        in_precision(objective.loss, precision),
        in_precision(objective.backward, precision),
        (autoencoder, corruption, penalty),
        optimizer,
        engine=engine,
        steps=steps,
        first_step=first_step,
        clip=clip,
        across=across,
    )
    return GradientStep(descent, objective, first_step, precision)


def greedy_step(
    layers: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    steps: int,
    *,
    corruption: Corruption | None = None,
    engine: Engine = "auto",
    first_step: int = 0,
    across: Ranks | None = None,
) -> Step:
    """A step that fits autoencoders one after another, each to the codes of those before it.

    The k-th, k = 1, 2, …, descends in steps (k − 1) · `steps` to k · `steps` the squared error of
    h₍ₖ₋₁₎(x), the code of x by the layers before it, whose weights stay. All steps after these
    descend that of x by the whole stack.

    Args:
        layers: Autoencoders from the data up, such as `models.autoencoder_layers(shape, widths)`.
        optimizers: Of the weights of each layer, in their order, and one of the whole stack.
        steps: For each layer.
        corruption: Of what each layer sees, data or codes; the whole stack sees corrupted data.
        engine: "auto" compiles where the number of steps pays for it; or "cuda-graph", "inductor",
            "fx", "eager".
        first_step: How many steps were made in another process, if this one goes on.
        across: The processes of a `ranks.joined()`, each of which calls its step on its own share
            of every batch; None for one process.

    Returns:
        A step with the metrics of `reconstruction_step`, "error" being that of the layer's input.

    Raises:
        ValueError: If there are no layers, there is another number of optimisers, or a number is
            out of range; on the first batch, if layers do not fit the data or each other.

    Examples:
        >>> layers = models.autoencoder_layers((4,), (3, 2))
        >>> trained = [*layers, models.stacked(layers)]  # each, then all together
        >>> optimizers = [torch.optim.Adam(net.parameters(), 1e-3) for net in trained]
        >>> step = greedy_step(layers, optimizers, steps=10, engine="eager")  # ten for each
        >>> sorted(step(torch.rand(20, 4)))
        ['error', 'gradient_norm']

    Reference:
        Bengio, Lamblin, Popovici and Larochelle (2007), Greedy layer-wise training of deep
        networks.
    """
    expect_at_least(1, steps=steps)
    expect_at_least(0, first_step=first_step)
    if not len(layers) or len(optimizers) != len(layers) + 1:
        raise ValueError(
            f"expected an optimiser for each of one or more layers, and one for all of them, got "
            f"{len(layers)} layers and {len(optimizers)} optimisers; give "
            "[*(Adam(layer.parameters()) for layer in layers), Adam(stacked(layers).parameters())]"
        )
    fitted = [*layers, _Stack(layers)]
    made = []
    for number, (each, optimizer) in enumerate(zip(fitted, optimizers, strict=True)):
        before = max(0, first_step - number * steps)
        step = reconstruction_step(
            each,
            optimizer,
            corruption=corruption,
            engine=engine,
            first_step=before,
            across=across,
        )
        made.append(step)
    index = first_step

    def greedy(*batch: Tensor) -> Mapping[str, Tensor]:
        nonlocal index
        number = min(index // steps, len(layers))
        seen = batch[0]
        if number < len(layers):
            with torch.no_grad():
                for layer in layers[:number]:
                    seen = layer.encoder(seen)  # type: ignore[operator]
        metrics = made[number](seen)
        index += 1
        return metrics

    return greedy


class _Stack(nn.Module):
    """Autoencoders, each of the codes of that before it, as one.

    Args:
        layers: From the data up.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*[layer.encoder for layer in layers])
        self.decoder = nn.Sequential(*[layer.decoder for layer in reversed(layers)])


class ReconstructionValidation:
    """Mean over held-out data of ‖decoder(encoder(x)) − x‖², and over as many training data.

    For `fit(..., validation=..., stop=Patience(5, metric=ReconstructionValidation.METRIC,
    falls=True))`. It is computed in evaluation mode, without corruption or penalty.

    Args:
        autoencoder: A module with `encoder` and `decoder`.
        held_out: Data of which no batch has any, (N, *shape).
        train: Training data to be measured beside; none if left out.

    Attributes:
        modules: The autoencoder, whose weights `fit(..., stop=...)` keeps.

    Raises:
        ValueError: If there are no data.

    Examples:
        >>> from ppl_gen.models import autoencoder
        >>> sorted(ReconstructionValidation(autoencoder((2,), 1), torch.ones(4, 2))())
        ['validation_squared_distance', 'validation_squared_distance_error']
    """

    METRIC = "validation_squared_distance"

    def __init__(
        self, autoencoder: nn.Module, held_out: Tensor, train: Tensor | None = None
    ) -> None:
        self.modules: list[nn.Module] = [autoencoder]
        self._autoencoder: Any = autoencoder
        self._measured = {"validation": held_out}
        if train is not None:
            self._measured["train"] = train
        for data in self._measured.values():
            expect_data(autoencoder, (data,))

    def __call__(self) -> dict[str, float]:
        """The averages now, by name: `validation_squared_distance`, `train_squared_distance`.

        Beside each, under its name and `_error`, is its standard error sd / √N over data; NaN for
        one datum.
        """
        metrics = {}
        with evaluating(self._autoencoder):
            for name, data in self._measured.items():
                parts = []
                for x in data.split(_AT_ONCE):
                    made = self._autoencoder.decoder(self._autoencoder.encoder(x))
                    parts.append(squared_error(made, x).double())
                distances = torch.cat(parts)
                metrics[f"{name}_squared_distance"] = float(distances.mean())
                error = float(distances.std()) if len(data) > 1 else math.nan
                metrics[f"{name}_squared_distance_error"] = error / math.sqrt(len(data))
        return metrics


class _Objective:
    """The mean over data of error and penalty.

    Args:
        autoencoder: A module with `encoder` and `decoder`.
        optimizer: The optimiser of the parameters that get a gradient.
        corruption: From x to what the encoder sees, if it is not x.
        penalty: From (encoder, x̃, code) to a number for each datum, if there is one.
        error: From (x̂, x) to a number for each datum.

    Attributes:
        width: 1: of a batch, the data alone are taken.
    """

    width = 1

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
        self._metric = "error"
        if penalty is not None:
            self._metric = "penalised_error"

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

    def begin(self, batch: tuple[Any, ...]) -> None:
        """Raises ValueError unless what is made of two data has their shape."""
        expect_optimizers(self._optimizer)
        (x,) = batch
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

    def expect(self, batch: tuple[Any, ...]) -> None:
        """Nothing: what fits once does so for good."""

    def weight(self, index: int) -> None:
        """There is none."""

    def metrics(self, loss: Tensor, norm: Tensor) -> Mapping[str, Tensor]:
        """The error, with its penalty if there is one, and the norm of the gradient."""
        return {self._metric: loss, "gradient_norm": norm}

    def failure(self, index: int, loss: Tensor, batch: tuple[Any, ...]) -> NotFinite:
        """What went wrong at a step, and what to do.

        Args:
            index: Of the step.
            loss: Its loss.
            batch: Its data.
        """
        what = self._metric.replace("_", " ")
        if torch.isfinite(loss):
            what = "gradient"
        return NotFinite(
            f"the {what} at step {index} is not finite; lower the learning rate, or clip the "
            "gradient"
        )

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
