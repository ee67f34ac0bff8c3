"""The flat vector of all latents: there and back, and the volume that the way changes."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions.transforms import biject_to
from torch import Tensor

from ppl_gen.inference.latents.layout import Layout, coordinates
from ppl_gen.sites import stochastic_sites


def mixed() -> None:
    """A scalar, a vector and a point of the simplex, which takes one coordinate less."""
    pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    pyro.sample("loc", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    pyro.sample("weights", dist.Dirichlet(torch.ones(4)))


def local() -> None:
    with pyro.plate("data", 5):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("rate", dist.Gamma(2.0, 1.0))


def sites_of(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    sites = stochastic_sites(poutine.trace(model).get_trace())
    return sites, {name: biject_to(site["fn"].support).inv for name, site in sites.items()}


CASES = {"joint": (mixed, None, (1, 7)), "local": (local, 5, (5, 3))}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_there_and_back(name: str, batch: tuple[int, ...]) -> None:
    model, rows, shape = CASES[name]
    sites, transforms = sites_of(model)
    layout = Layout(sites, transforms, rows)
    assert layout.shape == shape
    q = torch.randn(*batch, *shape)
    values = layout.sites(q)
    for name, site in sites.items():
        assert values[name].shape == (*batch, *site["value"].shape)
        assert bool(site["fn"].support.check(values[name]).all())
    torch.testing.assert_close(layout.flatten(values), q, rtol=1e-4, atol=1e-4)
    assert layout.log_jacobian(q).shape == (*batch, shape[0])


def test_the_ends_of_supports() -> None:
    """Of a deterministic site, which is not laid out, nothing is known."""
    sites, transforms = sites_of(mixed)
    layout = Layout(sites, transforms, None)
    ends = {name: layout.support_ends(name) for name in (*sites, "sum")}
    everywhere = (-math.inf, math.inf)
    assert ends == {
        "scale": (0.0, math.inf),
        "loc": everywhere,
        "weights": (0.0, 1.0),
        "sum": everywhere,
    }


def test_the_jacobian_is_that_of_automatic_differentiation() -> None:
    """Of the free coordinates: the last entry of a point of the simplex follows from the others."""
    sites, transforms = sites_of(mixed)
    layout = Layout(sites, transforms, None)

    def free_entries(flat: Tensor) -> Tensor:
        values = layout.sites(flat[None])
        return torch.cat([values["scale"][None], values["loc"], values["weights"][:-1]])

    q = torch.randn(7, dtype=torch.float64)
    _, expected = torch.linalg.slogdet(torch.autograd.functional.jacobian(free_entries, q))
    torch.testing.assert_close(layout.log_jacobian(q[None])[0], expected)


def test_a_latent_outside_the_plate_is_not_local() -> None:
    sites, transforms = sites_of(mixed)
    with pytest.raises(ValueError, match=r"got the site 'scale' outside it.*local=False"):
        Layout(sites, transforms, 5)
    with pytest.raises(ValueError, match=r"got the site 'scale' outside it.*; draw it elsewhere"):
        Layout(sites, transforms, 5, "draw it elsewhere")


def test_coordinates_are_named() -> None:
    assert coordinates("z", ()) == ["z"]
    assert coordinates("z", (2,)) == ["z[0]", "z[1]"]
    assert coordinates("z", (1, 2)) == ["z[0, 0]", "z[0, 1]"]
