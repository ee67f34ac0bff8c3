"""Columns of different kinds side by side."""

from __future__ import annotations

__all__ = ["Columns"]

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

from ppl_gen.protocols import Distribution
from ppl_gen.supports import point_in, support_of, unwrapped


class _ByColumn(constraints.Constraint):
    """A constraint for each column."""

    is_discrete = False

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        super().__init__()

    @property
    def point(self) -> Tensor:
        """A value for each column that lies in its support."""
        columns = self.columns
        pairs = zip(columns.parts, columns.places, strict=True)
        return columns.joined([_point(part, places) for part, places in pairs])

    def check(self, value: Tensor) -> Tensor:
        checks = [support_of(part).check(some) for part, some in self.columns.pairs(value)]
        return self.columns.joined(checks)


def _point(part: Distribution, places: Tensor) -> Tensor:
    """A value in the support of each of a part's columns, (n,), where their places are."""
    point = point_in(support_of(part))
    if torch.is_tensor(point):
        return point.to(places.device).expand(places.shape)
    return torch.full(places.shape, point, device=places.device)


class Columns(TorchDistribution):
    """p(x) = Πⱼ pⱼ(xⱼ): values that are independent, in columns of different distributions.

    Args:
        parts: Distributions of single values, each of shape (*batch, n), of n columns.
        places: The columns of each part, (n,).
        order: Where each column is found among those of all parts, (D,); None if they stand in the
            order of the parts.
        names: What the columns are called.

    Examples:
        >>> parts = [dist.Normal(torch.zeros(1), 1.0), dist.Poisson(torch.full((1,), 3.0))]
        >>> places = [torch.tensor([0]), torch.tensor([1])]
        >>> person = Columns(parts, places, None, ["height", "children"])
        >>> person.mean, person.log_prob(torch.tensor([0.0, 2.0])).shape
        (tensor([0., 3.]), torch.Size([2]))
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self,
        parts: Sequence[Distribution],
        places: Sequence[Tensor],
        order: Tensor | None,
        names: Sequence[str],
    ) -> None:
        self.parts = list(parts)
        self.places = list(places)
        self.order = order
        self.names = list(names)
        batch = torch.broadcast_shapes(*[part.batch_shape[:-1] for part in parts])
        super().__init__(Size((*batch, len(self.names))), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return _ByColumn(self)

    @property
    def mean(self) -> Tensor:
        return self.joined([part.mean for part in self.parts])

    @property
    def variance(self) -> Tensor:
        return self.joined([part.variance for part in self.parts])

    def expand(self, batch_shape: Any, _instance: Any = None) -> Columns:
        parts = []
        for part, places in zip(self.parts, self.places, strict=True):
            parts.append(part.expand((*batch_shape[:-1], len(places))))
        return Columns(parts, self.places, self.order, self.names)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.joined([part.sample(Size(sample_shape)) for part in self.parts])

    def log_prob(self, value: Tensor) -> Tensor:
        return self.joined([part.log_prob(some) for part, some in self.pairs(value)])

    def pairs(self, value: Tensor) -> Iterator[tuple[Distribution, Tensor]]:
        """Each part with the values of its columns.

        Args:
            value: Data, (*batch, D).
        """
        if self.order is None:
            pieces = value.split([len(places) for places in self.places], -1)
        else:
            pieces = tuple([value.index_select(-1, places) for places in self.places])
        yield from zip(self.parts, pieces, strict=True)

    def by_name(self, value: Tensor) -> Iterator[tuple[str, Distribution, Tensor]]:
        """Each column by its name, with the distribution of its part and its values, (N, 1).

        Args:
            value: Data, (N, D).
        """
        for part, places in zip(self.parts, self.places, strict=True):
            for place in places.tolist():
                yield self.names[place], unwrapped(part, masks=True), value[..., place, None]

    def joined(self, pieces: Sequence[Tensor]) -> Tensor:
        """What each part gives for its columns, in the order of the table, (*batch, D).

        Args:
            pieces: By part, (*batch, n).
        """
        kind = torch.bool
        for piece in pieces:
            kind = torch.promote_types(kind, piece.dtype)
        batch = torch.broadcast_shapes(*[piece.shape[:-1] for piece in pieces])
        wide = [piece.to(kind).expand(*batch, -1) for piece in pieces]
        joined = torch.cat(wide, -1)
        if self.order is None:
            return joined
        return joined.index_select(-1, self.order)
