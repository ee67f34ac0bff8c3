"""What is evaluated: a fitted run with its test data, and what several judges need of it."""

from __future__ import annotations

__all__ = ["Samples", "Subject"]

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_gen.app.evaluation.asked import Asked
from ppl_gen.app.evaluation.features import MOST, Chosen, choose
from ppl_gen.app.run.opened import Fitted
from ppl_gen.contexts import forked
from ppl_gen.inference import Estimate, ais, elbo, log_evidence
from ppl_gen.program import simulate
from ppl_gen.ranks import ALONE, Ranks


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


def _annealed(program: Any, guide: None, *data: Tensor, **options: Any) -> Estimate:
    """log p(x) by AIS, from the guide where there is one."""
    return ais(program, *data, guide=getattr(program, "guide", None), **options)


# What several processes estimate datum by datum, each for its share, by name.
_SHARED: dict[str, Callable[..., Estimate]] = {
    "ELBO": elbo,
    "importance weights": log_evidence,
    "AIS": _annealed,
}


class _Request(NamedTuple):
    """What process 0 has all processes estimate.

    Attributes:
        estimator: Its name in `_SHARED`.
        first: Of how many data, from the first.
        options: Keyword arguments.
    """

    estimator: str
    first: int
    options: dict[str, Any]


class Subject:
    """A run and its test data.

    Args:
        fitted: The run.
        asked: What it is evaluated for: how much data, how many chains, the seed.
        ranks: The processes that estimate evidence, each for its share of the data.

    Attributes:
        x: The test data (N, *shape); of a run between two domains, those of domain a.
        y: Their labels (N,), or what else the data set has in the place of labels; None if nothing.
        given: What the program is conditioned on, tensors of length N; empty if nothing.
        x_first: The first `asked.subset` of them, which the annealed methods are run on.
        given_first: The context of these.
        condition: " given the label" and the like, to be put behind a heading; empty if nothing.
    """

    def __init__(self, fitted: Fitted, asked: Asked, ranks: Ranks = ALONE) -> None:
        self.fitted = fitted
        self.asked = asked
        self._ranks = ranks
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
        asked = self.asked
        options = {"chains": asked.chains, "temperatures": asked.temperatures}
        return self._estimate("AIS", len(self.x_first), progress=True, **options)

    def elbo(self, count: int, particles: int) -> Estimate:
        """The bound of the first `count` data, in nats, per datum.

        Args:
            count: The number of data.
            particles: Draws of the guide, for each.
        """
        return self._estimate("ELBO", count, particles=particles)

    def weighted(self, count: int, *, progress: bool = False) -> Estimate:
        """log p(x) of the first `count` data by importance weights, in nats, per datum.

        Args:
            count: The number of data.
            progress: Whether to show a progress bar.
        """
        particles = self.asked.particles
        return self._estimate("importance weights", count, particles=particles, progress=progress)

    def _estimate(self, estimator: str, count: int, **options: Any) -> Estimate:
        """An estimate per datum, by all processes."""
        seed = self.asked.seed
        ranks = self._ranks
        if ranks.count == 1 or count < ranks.count:
            return _SHARED[estimator](
                self.fitted.program, None, *self.head(count), seed=seed, **options
            )
        request = ranks.from_first(_Request(estimator, count, options))
        return _joined(ranks.gather(self._own_share(request)), self.fitted.device)

    def estimate_along(self) -> None:
        """Estimates for the process's own share what process 0 asks for, until it is done."""
        nothing: _Request | None = None
        while (request := self._ranks.from_first(nothing)) is not None:
            request.options.pop("progress", None)
            self._ranks.gather(self._own_share(request))

    def end(self) -> None:
        """Has the other processes wait for nothing more."""
        self._ranks.from_first(None)

    def _own_share(self, request: _Request) -> Estimate | Exception:
        """The estimates of this process's share, or why there are none.

        Each process draws from a stream of its own.
        """
        rows = self._ranks.share(request.first)
        data = [part[rows] for part in self.head(request.first)]
        seed = self._ranks.seed(self.asked.seed)
        try:
            found = _SHARED[request.estimator](
                self.fitted.program, None, *data, seed=seed, **request.options
            )
        except (ValueError, RuntimeError) as error:
            return type(error)(str(error))
        return _on(found, torch.device("cpu"))

    @cached_property
    def samples(self) -> Samples:
        """As many draws as there are test data, 2000 unless more are asked for."""
        asked = self.asked
        data, *given = self.head(asked.limit or MOST)
        chosen = choose(asked.features, self.fitted.data, asked.seed)
        with forked(self.fitted.device, asked.seed):
            drawn = simulate(self.fitted.program, len(data), *given)
        return Samples(drawn, data, chosen)


def _joined(parts: Sequence[Estimate | Exception], device: torch.device) -> Estimate:
    """The estimates of all processes in the order of the data; raises what one has raised."""
    found: list[Estimate] = []
    for part in parts:
        if isinstance(part, Exception):
            raise part
        found.append(part)

    def column(name: str) -> Tensor | None:
        values = [getattr(part, name) for part in found]
        if any(value is None for value in values):
            return None
        return torch.cat(values)

    value, error = column("value"), column("standard_error")
    assert value is not None
    assert error is not None
    joined = Estimate(value, error, ess=column("ess"), k_hat=column("k_hat"))
    return _on(joined, device)


def _on(found: Estimate, device: torch.device) -> Estimate:
    """An estimate per datum on another device."""
    columns = {}
    for name in ("value", "standard_error", "ess", "k_hat"):
        column = getattr(found, name)
        if column is not None:
            column = column.to(device)
        columns[name] = column
    return Estimate(**columns)
