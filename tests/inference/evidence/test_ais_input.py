"""What AIS and BDMC say of bad input, before work starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs import PROGRAMS
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from ppl_gen.guides import automatic
from ppl_gen.inference import ais, bdmc
from ppl_gen.likelihoods import Dirac
from ppl_gen.models import cvae, vae
from ppl_gen.program import Observed


def _annealed(**changed: Any) -> Any:
    program, x, _ = PROGRAMS["vae"]()
    options = {"chains": 2, "temperatures": 2, "leapfrogs": 1, "seed": 0}
    return ais(program, x, **(options | changed))


def _from(guide: Callable[[Any, Tensor], Any]) -> Any:
    program, x, _ = PROGRAMS["vae"]()
    return ais(program, x, guide=guide(program, x), temperatures=2)


def _named(name: str) -> Callable[[Any, Tensor], Any]:
    def make(program: Any, x: Tensor) -> Any:
        def guide(x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample(name, dist.Normal(torch.zeros(3), 1.0).to_event(1))

        return guide

    return make


class _Fixed:
    """Without latents."""

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        with pyro.plate("data", n if x is None else len(x)):
            return pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=x)


class _Shared:
    """With a latent that all data share."""

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", n if x is None else len(x)):
            return pyro.sample("x", dist.Normal(z, 1.0), obs=x)


class _Positive:
    """With a latent above zero."""

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        with pyro.plate("data", n if x is None else len(x)):
            return pyro.sample("x", dist.Normal(pyro.sample("z", dist.Gamma(2.0, 1.0)), 1.0), obs=x)


class _TwiceObserved:
    """With data that are always there."""

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        with pyro.plate("data", n if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=torch.zeros(n if x is None else len(x)))
            return pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def _normal(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(torch.zeros(len(x)), 3.0))


BAD_INPUT: list[tuple[Callable[[], Any], str]] = [
    (lambda: _annealed(chains=0), "chains of at least 1, got 0"),
    (lambda: _annealed(temperatures=0), "temperatures of at least 1, got 0"),
    (lambda: _annealed(leapfrogs=0), "leapfrogs of at least 1, got 0"),
    (lambda: _annealed(chunk=0), "chunk of at least 1, got 0"),
    (lambda: _annealed(target_accept=1.0), "target_accept between 0 and 1, got 1.0"),
    (lambda: _annealed(engine="quick"), "expected an engine of"),
    (
        lambda: _annealed(schedule=lambda t: torch.linspace(0.1, 1, t + 1)),
        "rises from 0 to 1 at every step, got one from 0.1 to 1",
    ),
    (
        lambda: _annealed(schedule=lambda t: torch.tensor([0.0, torch.nan, 1.0])),
        "rises from 0 to 1 at every step",
    ),
    (
        lambda: _annealed(schedule=lambda t: torch.tensor([0.0, 1.0])),
        r"3 values β₀, …, β_T, got shape \(2,\)",
    ),
    (lambda: ais(_Fixed(), torch.zeros(4, 2)), "program with latents to anneal, got none"),
    (
        lambda: ais(_Shared(), torch.zeros(4)),
        "inside the plate 'data', got 'z' outside it",
    ),
    (lambda: ais(_Positive(), torch.ones(4), guide=_normal), "'z' in the support of its prior"),
    (lambda: bdmc(_TwiceObserved(), 4), r"observed sites \['y'\] without data"),
    (lambda: ais(vae((1, 8, 8), 2), torch.zeros(4, 64)), "expected data of shape"),
    (
        lambda: ais(Observed(vae((1, 8, 8), 2), Dirac()), torch.zeros(4, 1, 8, 8)),
        r"Observed\(program, Gaussian\(ε\)\)",
    ),
    (lambda: _from(_named("w")), r"model's latent sites \['z'\], got \['w'\]"),
    (
        lambda: _from(lambda program, x: automatic(AutoNormal, program.model, x)),
        "auxiliary sites .* begin from the prior",
    ),
    (lambda: bdmc(vae((1, 8, 8), 2), 0), "n of at least 1, got 0"),
    (
        lambda: bdmc(cvae((1, 8, 8), 2, classes=10), 3, torch.zeros(2).long()),
        "context of length n = 3, got 2",
    ),
    (
        lambda: bdmc(Observed(vae((1, 8, 8), 2), Dirac()), 3),
        r"Observed\(program, Gaussian\(ε\)\)",
    ),
]


@pytest.mark.parametrize(("wrong", "message"), BAD_INPUT)
def test_bad_input(wrong: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
