"""What is evaluated: a fitted run with its test data, and what several judges need of it."""

from __future__ import annotations

__all__ = ["Samples", "Subject"]

from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor

from ppl_gen.app.evaluation.asked import Asked
from ppl_gen.app.evaluation.features import MOST, Chosen, choose
from ppl_gen.app.run.opened import Fitted
from ppl_gen.contexts import forked
from ppl_gen.inference import Estimate, ais
from ppl_gen.program import simulate


class Samples(NamedTuple):
    """Draws of a program beside as many test data.

    Attributes:
        drawn: The draws, (n, *shape); of a conditional program, under the context of the data.
        data: The first n test data, (n, *shape).
        chosen: The features that both are compared in.
    """

    drawn: Tensor
    data: Tensor
    chosen: Chosen


class Subject:
    """A run and its test data.

    Args:
        fitted: The run.
        asked: What it is evaluated for: how much data, how many chains, the seed.

    Attributes:
        x: The test data (N, *shape); of a run between two domains, those of domain a.
        y: Their labels (N,), or what else the data set has in the place of labels; None if nothing.
        given: What the program is conditioned on, tensors of length N; empty if nothing.
        x_first: The first `asked.subset` of them, which the annealed methods are run on.
        given_first: The context of these.
        condition: " given the label" and the like, to be put behind a heading; empty if nothing.
    """

    def __init__(self, fitted: Fitted, asked: Asked) -> None:
        self.fitted = fitted
        self.asked = asked
        dataset = fitted.data
        if fitted.recipe.translates:
            dataset = fitted.data.a
        test = dataset.test.fixed(0, asked.limit)
        self.x: Tensor = test.x
        self.y: Tensor | None = test.y
        self.given = fitted.context(test)
        self.x_first, *self.given_first = self.head(asked.subset)
        self.condition = ""
        if fitted.given:
            self.condition = f" {fitted.given}"

    def head(self, count: int) -> list[Tensor]:
        """The first `count` test data, and their context."""
        return [part[:count] for part in (self.x, *self.given)]

    @property
    def annealing(self) -> dict[str, Any]:
        """The options of AIS and BDMC, as keyword arguments."""
        return {
            "guide": getattr(self.fitted.program, "guide", None),
            "chains": self.asked.chains,
            "temperatures": self.asked.temperatures,
            "seed": self.asked.seed,
            "progress": True,
        }

    @cached_property
    def annealed(self) -> Estimate:
        """log p(x) of the first data by AIS, in nats, per datum."""
        return ais(self.fitted.program, self.x_first, *self.given_first, **self.annealing)

    @cached_property
    def samples(self) -> Samples:
        """As many draws as there are test data, 2000 unless more are asked for."""
        asked = self.asked
        data, *given = self.head(asked.limit or MOST)
        chosen = choose(asked.features, self.fitted.data, asked.seed)
        with forked(self.fitted.device, asked.seed):
            drawn = simulate(self.fitted.program, len(data), *given)
        return Samples(drawn, data, chosen)
