"""p(x | parameters) of a table whose columns are of different kinds."""

from __future__ import annotations

__all__ = ["Table"]

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen import distributions
from ppl_gen.likelihoods.parameters import (
    parameters_per_datum,
    parameters_per_value,
    takes_missing,
)
from ppl_gen.protocols import Conditional, Distribution


class Table(nn.Module):
    """p(x | η) = Πⱼ pⱼ(xⱼ | ηⱼ): a likelihood for each column of x, (N, columns).

    Each column has as many of the decoder's outputs as its likelihood takes: of shape (*batch,
    columns, Q), the same for all columns, as `ppl_gen.nn.Shape((columns,), 0, Q)` gives them, Q
    the number of all. Columns that share one likelihood object are computed at once, and share
    what it learns (a scale).

    Args:
        columns: The likelihoods, in the order of the columns; by the columns' names, which errors
            then say, or in a list.

    Raises:
        ValueError: If there are no columns, or one is no likelihood; when it is called, if decoder
            outputs have another shape, or a likelihood is not of single values.

    Examples:
        >>> from ppl_gen.likelihoods import Bernoulli, Gaussian, Poisson
        >>> table = Table({"height": Gaussian(), "smokes": Bernoulli(), "children": Poisson()})
        >>> table.parameters_per_datum, table(torch.zeros(5, 3, 3)).batch_shape
        (3, torch.Size([5, 3]))
    """

    parameters_per_value = 0

    def __init__(self, columns: Mapping[str, Conditional] | Sequence[Conditional]) -> None:
        super().__init__()
        if not isinstance(columns, Mapping):
            columns = {str(j): likelihood for j, likelihood in enumerate(columns)}
        _expect_likelihoods(columns)
        self.names = list(columns)
        self.kinds = list(dict.fromkeys(columns.values()))
        self.modules_of_kinds = nn.ModuleList([k for k in self.kinds if isinstance(k, nn.Module)])
        self.widths = [parameters_per_value(k) + parameters_per_datum(k) for k in self.kinds]
        self.counts: list[int] = []
        places: list[int] = []
        for kind in self.kinds:
            of_kind = [j for j, column in enumerate(columns.values()) if column is kind]
            self.counts.append(len(of_kind))
            places += of_kind
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.register_buffer("order", torch.tensor(places).argsort(), persistent=False)
        self.is_in_order = places == sorted(places)
        self.parameters_per_datum = sum(
            [count * width for count, width in zip(self.counts, self.widths, strict=True)]
        )
        self.takes_missing = any(takes_missing(kind) for kind in self.kinds)

    places: Tensor
    order: Tensor

    def forward(self, parameters: Tensor) -> Distribution:
        expected = (len(self.names), self.parameters_per_datum)
        if parameters.shape[-2:] != expected:
            raise ValueError(
                f"expected decoder outputs of shape (*batch, {expected[0]}, {expected[1]}), got "
                f"{tuple(parameters.shape)}; let the decoder end in ppl_gen.nn.Shape("
                f"({expected[0]},), 0, {expected[1]})"
            )
        numbers = parameters[..., 0, :]
        sizes = [count * width for count, width in zip(self.counts, self.widths, strict=True)]
        parts = []
        for kind, width, own in zip(self.kinds, self.widths, numbers.split(sizes, -1), strict=True):
            if width > 1:
                own = own.unflatten(-1, (-1, width))
            part = kind(own)
            if part.event_shape:
                raise ValueError(
                    "expected likelihoods of single values, one for each column, got "
                    f"{type(part).__name__} of event shape {tuple(part.event_shape)}; leave "
                    ".to_event to the program"
                )
            parts.append(part)
        places = self.places.split(self.counts)
        order: Tensor | None = self.order
        if self.is_in_order:
            order = None
        return distributions.Columns(parts, places, order, self.names)


def _expect_likelihoods(columns: Mapping[str, Any]) -> None:
    """Raises ValueError unless there are columns, each with a callable."""
    if not columns:
        raise ValueError("expected a likelihood for each column, got none")
    for name, likelihood in columns.items():
        if not callable(likelihood):
            raise ValueError(
                f"expected a likelihood for column {name!r}, such as Gaussian(), got {likelihood!r}"
            )
