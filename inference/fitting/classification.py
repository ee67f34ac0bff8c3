"""How a classifier is fitted: by its cross-entropy under labels."""

from __future__ import annotations

__all__ = ["classification_step"]

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen.arguments import described, expect_data
from ppl_gen.contexts import explained, in_evaluation_mode
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.engine.descent import Descent
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.expect import expect_clip, expect_optimizers
from ppl_gen.inference.fitting.gradient_step import GradientStep
from ppl_gen.inference.fitting.loop import NotFinite
from ppl_gen.precision import Precision, expect_precision, in_precision
from ppl_gen.protocols import Step


def classification_step(
    classifier: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    clip: float | None = None,
    engine: Engine = "auto",
    steps: int | None = None,
    first_step: int = 0,
    precision: Precision = "float32",
) -> Step:
    """A step that descends −mean log softmax(classifier(x))_y, in nats per datum.

    Args:
        classifier: From data (N, *shape) to logits (N, K), such as `models.classifier(...)`.
        optimizer: A torch optimiser of the parameters to train.
        clip: The largest norm of the gradient; longer ones are scaled down to it.
        engine: "auto" compiles where the number of steps pays for it; or "cuda-graph", "inductor",
            "fx", "eager".
        steps: How many steps are to come, if known, which helps "auto" to decide.
        first_step: How many steps were made in another process, if this one goes on.
        precision: How networks are computed: "float32", as torch is set; "tf32", in that mode of
            CUDA devices, which processors have not; "bfloat16", of which linear maps and
            convolutions multiply, all else, log densities and sums too, being in float32.

    Returns:
        A step of batches (x, y), y labels from 0 to K − 1, with the metrics "cross_entropy" and
        "gradient_norm", the norm before it is clipped.

    Raises:
        ValueError: If a number is out of range; on the first batch, if there are no labels, or the
            classifier does not fit the data; on any, if a label is none of the K.
        NotFinite: Before any update with a loss or gradient that is not finite.

    Examples:
        >>> net = nn.Linear(4, 3)
        >>> optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        >>> step = classification_step(net, optimizer, engine="eager")
        >>> sorted(step(torch.randn(20, 4), torch.arange(20) % 3))
        ['cross_entropy', 'gradient_norm']
    """
    expect_at_least(0, first_step=first_step, steps=steps)
    expect_precision(precision)
    expect_clip(clip)
    objective = _Objective(classifier, optimizer)
    descent = Descent(
        in_precision(objective.loss, precision),
        in_precision(objective.backward, precision),
        (classifier,),
        optimizer,
        engine=engine,
        steps=steps,
        first_step=first_step,
        clip=clip,
    )
    return GradientStep(descent, objective, first_step, precision)


class _Objective:
    """The mean cross-entropy of labels.

    Args:
        classifier: From data to logits.
        optimizer: The optimiser of the parameters that get a gradient.

    Attributes:
        width: 2: data and labels.
    """

    width = 2

    def __init__(self, classifier: Any, optimizer: torch.optim.Optimizer) -> None:
        self._classifier = classifier
        self._optimizer = optimizer
        self._classes = 0
        self._fitted: list[Tensor] = []
        for group in optimizer.param_groups:
            self._fitted.extend([p for p in group["params"] if p.requires_grad])

    def loss(self, batch: tuple[Tensor, ...], weight: Tensor | None) -> Tensor:
        """The objective, differentiable; there is no weight."""
        x, y = batch
        return F.cross_entropy(self._classifier(x), y)

    def backward(self, batch: tuple[Tensor, ...], weight: Tensor | float | None) -> Tensor:
        """Adds the gradient of the objective to those in the parameters, and returns it."""
        loss = self.loss(batch, None)
        loss.backward(inputs=self._fitted)
        return loss.detach()

    def begin(self, batch: tuple[Any, ...]) -> None:
        """Raises ValueError unless there are labels, and logits of the data."""
        expect_optimizers(self._optimizer)
        self._classes = _classes(self._classifier, batch)

    def expect(self, batch: tuple[Any, ...]) -> None:
        """Raises ValueError unless every datum has a label."""
        x, y = batch
        _expect_labels(y, len(x), self._classes)

    def weight(self, index: int) -> None:
        """There is none."""

    def metrics(self, loss: Tensor, norm: Tensor) -> Mapping[str, Tensor]:
        """The cross-entropy, and the norm of the gradient."""
        return {"cross_entropy": loss, "gradient_norm": norm}

    def failure(self, index: int, loss: Tensor, batch: tuple[Any, ...]) -> NotFinite:
        """What went wrong at a step, and what to do.

        Args:
            index: Of the step.
            loss: Its loss.
            batch: Its data.
        """
        return NotFinite(
            f"the cross-entropy or its gradient at step {index} is not finite; lower the learning "
            "rate, or clip the gradient"
        )


def _classes(classifier: Any, batch: tuple[Any, ...]) -> int:
    """K, once it is clear that a batch has labels and that the classifier takes its data."""
    if len(batch) < 2:
        raise ValueError(
            "expected batches (x, y) of data and labels, got x alone; give labels, as "
            "Split(x, y).batches(100) does"
        )
    x = batch[0]
    expect_data(classifier, (x,))
    few = x[:2]
    given = f"data of shape {tuple(few.shape)}"
    explains = explained(f"a classifier that takes {given}", "build it for data of this shape")
    with in_evaluation_mode(classifier), torch.no_grad(), explains:
        logits = classifier(few)
    if not torch.is_tensor(logits) or logits.dim() != 2 or len(logits) != len(few):
        raise ValueError(
            f"expected a classifier that gives logits (N, K), got {described(logits)} for {given}; "
            "end it in a layer with an output for each class"
        )
    return logits.shape[1]


def _expect_labels(y: Any, count: int, classes: int) -> None:
    """Raises ValueError unless y is a whole number from 0 to K − 1 for each datum."""
    if not torch.is_tensor(y) or y.is_floating_point() or y.shape != (count,):
        raise ValueError(
            f"expected labels of shape ({count},), whole numbers, got {described(y)}; give y as "
            "numbers from 0 on"
        )
    if bool(((y < 0) | (y >= classes)).any()):
        raise ValueError(
            f"expected labels from 0 to {classes - 1}, got {int(y.min())} to {int(y.max())}; give "
            "the classifier as many outputs, and leave out data without a label (-1)"
        )
