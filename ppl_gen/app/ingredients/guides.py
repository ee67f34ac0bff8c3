"""Families of guides by name."""

from __future__ import annotations

__all__ = ["GUIDES"]

from typing import Any

from ppl_gen.app.ingredients.parts import Part, Setting, table_of


def _diagonal(setting: Setting) -> Any:
    from ppl_gen.guides import diagonal

    return diagonal


def _bounded(setting: Setting) -> Any:
    from ppl_gen.guides import bounded

    return bounded


def _on_sphere(setting: Setting) -> Any:
    from ppl_gen.guides import on_sphere

    return on_sphere


# Imports of torch and Pyro belong into the functions above: the command's help reads this table.
GUIDES = table_of(
    Part(
        name="diagonal",
        text="N(z; mean(x), diag scale(x)²), the usual one",
        example="vae --guide diagonal",
        make=_diagonal,
    ),
    Part(
        name="bounded",
        text="a Gaussian through tanh, for the prior uniform",
        example="vae --prior uniform --guide bounded",
        make=_bounded,
    ),
    Part(
        name="on-sphere",
        text="the power spherical distribution, for the prior hypersphere",
        example="vae --prior hypersphere --guide on-sphere",
        make=_on_sphere,
    ),
)
