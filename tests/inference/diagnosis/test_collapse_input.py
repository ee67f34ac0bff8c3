"""What `collapse` says of bad input."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs import PROGRAMS
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from ppl_gen.guides import automatic
from ppl_gen.inference.diagnosis.collapse import collapse
from ppl_gen.models import toy, vae
from ppl_gen.priors import StandardNormal
from ppl_gen.program import simulate


@pytest.fixture
def ppca() -> tuple[toy.PPCA, Tensor]:
    program = toy.PPCA(torch.randn(5, 3), torch.zeros(5), 0.7)
    return program, simulate(program, 60)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"particles": 0}, "expected particles of at least 2, got 0"),
            ({"particles": 1}, "expected particles of at least 2, got 1"),
            ({"chunk": 0}, "expected chunk of at least 1, got 0"),
            ({"threshold": -0.1}, "expected a finite threshold of at least 0, got -0.1"),
            ({"threshold": math.nan}, "expected a finite threshold"),
        ],
    )
    def test_numbers(
        self, options: dict[str, float], said: str, ppca: tuple[toy.PPCA, Tensor]
    ) -> None:
        with pytest.raises(ValueError, match=said):
            collapse(ppca[0], None, ppca[1], **options)

    def test_a_discrete_latent(self) -> None:
        program, x, _ = PROGRAMS["toy mixture"]()
        with pytest.raises(ValueError, match=r"discrete sites \['z'\].*entropy"):
            collapse(program, None, x)

    def test_auxiliary_sites_and_point_masses(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        def guide(x: Tensor) -> Tensor:
            with pyro.plate("data", x.shape[0]):
                u = pyro.sample("u", StandardNormal(3)(), infer={"is_auxiliary": True})
                return pyro.sample("z", dist.Delta(u).to_event(1))

        with pytest.raises(ValueError, match=r"auxiliary sites or point masses at \['u', 'z'\]"):
            collapse(ppca[0], guide, ppca[1])

    def test_an_automatic_guide(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        guide = automatic(AutoNormal, ppca[0].model, ppca[1])
        with pytest.raises(
            ValueError, match="expected a guide that is a function of the data, got AutoNormal"
        ):
            collapse(ppca[0], guide, ppca[1])

    def test_data(self, binary: Tensor) -> None:
        for x, said in (
            (binary[:1], "expected at least 2 data"),
            (binary.flatten(1), "expected data of shape"),
        ):
            with pytest.raises(ValueError, match=said):
                collapse(vae((1, 8, 8), 2), None, x)
