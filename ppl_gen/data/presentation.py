"""How stored data are shown to a model: as they are, binarised, or with noise within a level."""

from __future__ import annotations

__all__ = ["BINARIZATIONS", "InMemory", "Presentation", "check_binarize"]

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

BINARIZATIONS = ("threshold", "static", "dynamic", "dequantize")


def check_binarize(binarize: str | None) -> None:
    """Raises ValueError unless `binarize` is None or one of `BINARIZATIONS`."""
    if binarize is not None and binarize not in BINARIZATIONS:
        raise ValueError(
            f"expected binarize None or one of {', '.join(BINARIZATIONS)}, got {binarize!r}"
        )


@dataclass(frozen=True)
class Presentation:
    """From stored data to what a model is shown, with noise from torch's generator.

    Attributes:
        binarize: "threshold", "dynamic" or "dequantize"; data that are None or "static" stay as
            they are.
        levels: The number of grey levels of stored images, which "dequantize" needs.
    """

    binarize: str | None = None
    levels: int = 256

    def __call__(self, x: Tensor, uniform: Tensor | None = None) -> Tensor:
        """One presentation.

        Args:
            x: Stored data, in [0, 1] where they are changed.
            uniform: The noise, uniform on [0, 1) and of the shape of x; drawn if None.
        """
        if self.binarize is None or self.binarize == "static":
            return x
        if self.binarize == "threshold":
            return _binary(x, (x >= 0.5).to(x.dtype))
        if uniform is None:
            uniform = torch.rand_like(x)
        if self.binarize == "dynamic":
            return _binary(x, uniform.lt_(x))
        return (x * (self.levels - 1) + uniform) / self.levels

    def fixed(self, x: Tensor, seed: int) -> Tensor:
        """One presentation whose noise comes from a generator of its own, on the CPU.

        Args:
            x: Stored data.
            seed: Of the generator.
        """
        if self.binarize not in ("dynamic", "dequantize"):
            return self(x)
        own = torch.Generator().manual_seed(seed)
        uniform = torch.rand(x.shape, dtype=x.dtype, generator=own).to(x.device)
        return self(x, uniform)


@dataclass(frozen=True)
class InMemory:
    """Batches as a graph can draw them: tensors that stay where they are, and rows of them.

    Attributes:
        stored: The data (N, *shape), and what else a batch has of them, each of N rows.
        order: Begins a pass: the rows of each of its batches, Long (B,).
        present: How the data are shown.
    """

    stored: tuple[Tensor, ...]
    order: Callable[[], Iterable[Tensor]]
    present: Presentation

    def draw(self, rows: Tensor, *stored: Tensor) -> tuple[Tensor, ...]:
        """The batch of some rows.

        Args:
            rows: Long (B,).
            *stored: The tensors of `stored`, or what stands for them in a graph.
        """
        x, *context = [tensor.index_select(0, rows) for tensor in stored]
        return self.present(x), *context


def _binary(x: Tensor, drawn: Tensor) -> Tensor:
    """Binary pixels that were drawn of x, NaN where x is, which is missing."""
    if not drawn.is_floating_point():
        return drawn
    return drawn.masked_fill_(x.isnan(), math.nan)
