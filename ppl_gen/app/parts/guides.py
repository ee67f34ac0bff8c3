"""Families of guides by name."""

from __future__ import annotations

__all__ = ["GUIDES"]

from functools import partial
from typing import Any

from ppl_gen.app.parts.part import Part, Setting, table_of

_RANK = 2
_SLOTS = ("encoder", "prior", "decoder", "likelihood")


def _diagonal(setting: Setting) -> Any:
    from ppl_gen.guides import diagonal

    return diagonal


def _full_covariance(setting: Setting) -> Any:
    from ppl_gen.guides import full_covariance

    return full_covariance


def _low_rank(setting: Setting) -> Any:
    from ppl_gen.guides import low_rank

    return partial(low_rank, rank=min(_RANK, setting.latent_dim))


def _flow(setting: Setting) -> Any:
    from ppl_gen.guides import flow

    return flow


def _mixture(setting: Setting) -> Any:
    from ppl_gen.guides import mixture

    return mixture


def _semi_amortised(setting: Setting) -> Any:
    from ppl_gen.guides import SemiAmortised

    program = setting.program
    slots: list[Any] = [getattr(program, name, None) for name in _SLOTS]
    if None in slots:
        raise ValueError(
            "expected a model with a prior, a decoder, a likelihood and an encoder for --guide "
            f"semi-amortised, got {setting.config.model}; take another guide, or fit a vae"
        )
    return SemiAmortised(*slots)


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
        name="full-covariance",
        text="N(z; mean(x), covariance(x)), by its Cholesky factor",
        example="vae --guide full-covariance",
        make=_full_covariance,
    ),
    Part(
        name="low-rank",
        text="N(z; mean(x), a diagonal plus a matrix of rank 2)",
        example="vae --guide low-rank",
        make=_low_rank,
    ),
    Part(
        name="flow",
        text="an inverse autoregressive flow, given x",
        example="vae --guide flow",
        make=_flow,
    ),
    Part(
        name="mixture",
        text="a mixture of 3 Gaussians, for posteriors of several modes",
        example="vae --guide mixture",
        make=_mixture,
    ),
    Part(
        name="semi-amortised",
        text="a Gaussian, made better for each datum by 4 steps on its ELBO",
        example="vae --guide semi-amortised",
        make=_semi_amortised,
        needs_program=True,
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
