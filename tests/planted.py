"""Digits drawn anew from digits, by class, one class of them with thicker strokes if asked."""

from __future__ import annotations

import pyro
import torch
from pyro import distributions as dist
from torch import Tensor, nn
from torch.nn import functional

from ppl_gen import data


def thickened(x: Tensor) -> Tensor:
    """Each pixel half of the way to the largest of itself and its four neighbours."""
    across = functional.max_pool2d(x, (1, 3), 1, (0, 1))
    down = functional.max_pool2d(x, (3, 1), 1, (1, 0))
    return (x + torch.maximum(across, down)) / 2


class Redrawn(nn.Module):
    """p(x | y): a digit of the class y, at random from a pool.

    Args:
        split: The pool.
        thick: The class whose strokes are thickened; None for none.
    """

    def __init__(self, split: data.Split, thick: int | None = None) -> None:
        super().__init__()
        assert split.y is not None
        self.labels = split.y
        self.images = split.x.clone()
        self.places = [(split.y == label).nonzero()[:, 0] for label in range(10)]
        if thick is not None:
            own = split.y == thick
            self.images[own] = thickened(self.images[own])

    def model(self, x: Tensor | None, y: Tensor, *, n: int | None = None) -> Tensor:
        """A digit for each label of y; no data are scored."""
        assert x is None
        picked = []
        for label in y.tolist():
            own = self.places[label]
            picked.append(own[torch.randint(len(own), ())])
        images = self.images[torch.stack(picked)]
        with pyro.plate("data", len(y)):
            return pyro.sample("x", dist.Delta(images, event_dim=3))


def digits(seed: int) -> tuple[data.Split, data.Split]:
    """scikit-learn's digits, all 1797 in one heap and divided anew: a pool and 297 held out.

    The seed is kept apart from those that draws are made with: the same stream would choose both.
    """
    loaded = data.load("digits")
    x = torch.cat([loaded.train.x, loaded.test.x])
    y = torch.cat([loaded.train.y, loaded.test.y])
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(10**6 + seed))
    held, pool = order[:297], order[297:]
    return data.Split(x[pool], y[pool]), data.Split(x[held], y[held])
