"""Latent sites side by side in one flat, unconstrained vector: what samplers move in."""

from __future__ import annotations

__all__ = ["Layout", "coordinates"]

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_gen.sites import plates
from ppl_gen.supports import support_ends


class _Place(NamedTuple):
    """Where a site is in the flat vector.

    Attributes:
        start: Its first coordinate.
        stop: The coordinate after its last.
        shape: Its shape there; that of one datum where latents are local.
        transform: From its support to the whole line.
        ends: The least and the largest value that an entry of it can take, or ∓∞.
    """

    start: int
    stop: int
    shape: torch.Size
    transform: Any
    ends: tuple[float, float]


class Layout:
    """q ↔ z: continuous latents z, each in its support, as unconstrained q of shape (*batch, B, D).

    Jointly, B = 1 and q holds all latents. Where they are local to the plate "data", B = N, one row
    for each datum.

    Args:
        sites: The latent sites of a trace, by name.
        transforms: By name, from the support to the whole line.
        rows: N where the latents are local; None where they are taken jointly.
        remedy: What to do where a latent lies outside the plate of the data, as the error says it.
        plate: The name of the plate of the data.

    Attributes:
        local: Whether there is one row for each datum.
        places: By name, where each site is in the flat vector.
        shape: (B, D).

    Raises:
        ValueError: If the latents are to be local and one lies outside the plate "data".
    """

    def __init__(
        self,
        sites: Mapping[str, Any],
        transforms: Mapping[str, Any],
        rows: int | None,
        remedy: str = "",
        plate: str = "data",
    ) -> None:
        self.local = rows is not None
        self.places: dict[str, _Place] = {}
        start = 0
        for name, site in sites.items():
            shape = transforms[name](site["value"]).shape
            if self.local:
                axes = plates(site)
                if plate in axes[1:]:
                    raise ValueError(
                        f"expected the plate {plate!r} on the first axis of every latent, got it "
                        f"on axis {axes.index(plate)} of {name!r} of shape {tuple(shape)}; put it "
                        "left of the plates inside it (dim=-2 of two)"
                    )
                if axes[:1] != (plate,) or shape[0] != rows:
                    jointly = "sample it jointly, by posterior(...) or with local=False"
                    raise ValueError(
                        f"expected every latent inside the plate {plate!r}, on its first axis, got "
                        f"the site {name!r} outside it, of shape {tuple(shape)}; "
                        f"{remedy or jointly}"
                    )
                shape = shape[1:]
            stop = start + math.prod(shape)
            self.places[name] = _Place(
                start=start,
                stop=stop,
                shape=shape,
                transform=transforms[name],
                ends=support_ends(site["fn"]),
            )
            start = stop
        self.shape = (1, start)
        if rows is not None:
            self.shape = (rows, start)

    def support_ends(self, name: str) -> tuple[float, float]:
        """The least and the largest value that an entry of a site can take, or ∓∞.

        Args:
            name: Of the site; one that is not laid out here, a deterministic one, is unbounded.
        """
        if name not in self.places:
            return -math.inf, math.inf
        return self.places[name].ends

    def sites(self, q: Tensor) -> dict[str, Tensor]:
        """The value of each site, in its support.

        Args:
            q: The flat vector, of shape (*batch, B, D).

        Returns:
            By name, tensors of shape (*batch, *shape of the site).
        """
        free = self.unconstrained(q)
        return {name: place.transform.inv(free[name]) for name, place in self.places.items()}

    def unconstrained(self, q: Tensor) -> dict[str, Tensor]:
        """The coordinates of each site, in the shape of the site but on the whole line.

        Args:
            q: The flat vector, of shape (*batch, B, D).
        """
        if not self.local:
            q = q[..., 0, :]
        free = {}
        for name, place in self.places.items():
            flat = q[..., place.start : place.stop]
            free[name] = flat.reshape((*flat.shape[:-1], *place.shape))
        return free

    def flatten(self, values: Mapping[str, Tensor]) -> Tensor:
        """The flat vector q of shape (*batch, B, D), from the values of all sites.

        Args:
            values: By name, values in the support of each site: what `sites` returns.
        """
        parts = []
        for name, place in self.places.items():
            free = place.transform(values[name])
            batch = free.shape[: free.dim() - len(place.shape)]
            parts.append(free.reshape((*batch, place.stop - place.start)))
        q = torch.cat(parts, -1)
        if self.local:
            return q
        return q[..., None, :]

    def log_jacobian(self, q: Tensor) -> Tensor:
        """log |∂z/∂q|, of shape (*batch, B).

        Args:
            q: The flat vector, of shape (*batch, B, D).
        """
        total = q.new_zeros(q.shape[:-1])
        for name, free in self.unconstrained(q).items():
            transform = self.places[name].transform
            term = -transform.log_abs_det_jacobian(transform.inv(free), free)
            term = term.reshape((*q.shape[:-1], -1))
            total = total + term.sum(-1)
        return total


def coordinates(name: str, shape: Sequence[int]) -> list[str]:
    """The names of the entries of a site: "z[0]", "z[1]", …; the name itself for a scalar.

    Args:
        name: The name of the site.
        shape: The shape of its value; () for a scalar.
    """
    if not shape:
        return [name]
    indices = itertools.product(*map(range, shape))
    return [f"{name}[{', '.join(map(str, index))}]" for index in indices]
