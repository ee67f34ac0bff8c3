"""Families of guides by name."""

from __future__ import annotations

__all__ = ["GUIDES"]

from collections.abc import Callable
from typing import Any

from ppl_gen.app.ingredients.parts import Part, Setting, table_of


def _diagonal(setting: Setting) -> Callable[..., Any]:
    from ppl_gen.guides import DiagonalGaussian

    def family(net: Callable[[int], Any], dim: int) -> Any:
        return DiagonalGaussian(net(2 * dim))

    return family


# Imports of torch and Pyro belong into the functions above: the command's help reads this table.
GUIDES = table_of(
    Part(
        name="diagonal",
        text="N(z; mean(x), diag scale(x)²), the usual one",
        example="vae --guide diagonal",
        make=_diagonal,
    ),
)
