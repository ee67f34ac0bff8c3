"""The posterior as a function of one flat vector, against densities written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_gen.inference.latents.potential import Potential, log_joint

Y = torch.tensor([0.3, -1.2, 2.0])


def scaled(y: Tensor) -> None:
    """One latent, positive, shared by all data."""
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    pyro.deterministic("variance", scale**2)
    with pyro.plate("data", y.shape[0]):
        pyro.sample("y", dist.Normal(0.0, scale), obs=y)


def apart(y: Tensor, width: float = 1.0) -> None:
    """One latent for each datum."""
    with pyro.plate("data", y.shape[0]):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, width), obs=y)


def mixture(y: Tensor) -> None:
    """A discrete latent for each datum, summed out."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", y.shape[0]):
        k = pyro.sample("k", dist.Bernoulli(0.25), infer={"enumerate": "parallel"})
        pyro.sample("y", dist.Normal(loc + k, 1.0), obs=y)


def test_the_energy_of_all_latents_together() -> None:
    potential = Potential(scaled, (Y,))
    assert potential.shape == (1, 1)
    assert potential.names == ["scale"]
    assert potential.dims == {"scale": (), "variance": ()}
    q = torch.tensor([[0.4]])
    scale = q.exp()
    density = dist.LogNormal(0.0, 1.0).log_prob(scale) + dist.Normal(0.0, scale).log_prob(Y).sum()
    torch.testing.assert_close(potential.energy(q, *potential.tensors), -(density + q)[0])


def test_the_energies_datum_by_datum() -> None:
    potential = Potential(apart, (Y, 0.5), local=True)
    assert potential.shape == (3, 1)
    assert potential.dims == {"z": ("data",)}
    assert potential.words == ("0.5",)
    q = torch.randn(3, 1)
    z = q[:, 0]
    density = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z, 0.5).log_prob(Y)
    torch.testing.assert_close(potential.energy(q, *potential.tensors), -density)


def test_discrete_latents_are_summed_out() -> None:
    potential = Potential(mixture, (Y,))
    assert potential.names == ["loc"]
    q = torch.tensor([[0.7]])
    parts = [math.log(w) + dist.Normal(0.7 + k, 1.0).log_prob(Y) for k, w in ((0, 0.75), (1, 0.25))]
    density = dist.Normal(0.0, 1.0).log_prob(q) + torch.logaddexp(*parts).sum()
    torch.testing.assert_close(potential.energy(q, *potential.tensors), -density[0])


def labelled(y: Tensor) -> None:
    """Two discrete latents for each datum, one of which Pyro is told to enumerate otherwise."""
    with pyro.plate("data", y.shape[0]):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        k = pyro.sample("k", dist.Bernoulli(0.25), infer={"enumerate": "sequential"})
        j = pyro.sample("j", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
        pyro.sample("y", dist.Normal(z + k * j, 1.0), obs=y)


@pytest.mark.parametrize("local", [False, True])
def test_discrete_latents_of_each_datum_are_summed_out(local: bool) -> None:
    potential = Potential(labelled, (Y,), local=local)
    assert potential.summed_out == ("k", "j")
    q = torch.randn(5, 3)
    parts = []
    for k, w in ((0, 0.75), (1, 0.25)):
        for j, v in ((0, 0.2), (1, 0.3), (2, 0.5)):
            parts.append(math.log(w * v) + dist.Normal(q + k * j, 1.0).log_prob(Y))
    expected = -dist.Normal(0.0, 1.0).log_prob(q) - torch.stack(parts).logsumexp(0)
    if local:
        energy, _ = potential.energies(q[:, :, None], *potential.tensors)
        torch.testing.assert_close(energy, expected)
    else:
        energy, _ = potential.energies(q[:, None], *potential.tensors)
        torch.testing.assert_close(energy[:, 0], expected.sum(1))


def subsampled(y: Tensor) -> None:
    """Its data are looked up by the indices of the plate."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("some", 3, subsample_size=2) as i:
        pyro.sample("y", dist.Normal(loc, 1.0), obs=y[i])


def by_pyro(y: Tensor) -> None:
    """Its data are taken by `pyro.subsample`."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("some", 3, subsample_size=2):
        pyro.sample("y", dist.Normal(loc, 1.0), obs=pyro.subsample(y, event_dim=0))


@pytest.mark.parametrize("model", [subsampled, by_pyro])
def test_a_subsampled_plate_is_taken_whole(model: Callable[..., Any]) -> None:
    potential = Potential(model, (Y,))
    assert potential.subsampled == {"some": (2, 3)}
    assert "all 3 data of the plate 'some'" in potential.remarks[0]
    q = torch.tensor([[0.4]])
    density = dist.Normal(0.0, 1.0).log_prob(q[0, 0]) + dist.Normal(0.4, 1.0).log_prob(Y).sum()
    torch.testing.assert_close(potential.energy(q, *potential.tensors), -density[None])


def _of_a_batch(y: Tensor) -> None:
    """Given a mini-batch, of data of which the others are not at hand."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 10, subsample_size=y.shape[0]):
        pyro.sample("y", dist.Normal(loc, 1.0), obs=y)


def _of_given_indices(y: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 10, subsample=torch.tensor([1, 4, 5])):
        pyro.sample("y", dist.Normal(loc, 1.0), obs=y)


@pytest.mark.parametrize("model", [_of_a_batch, _of_given_indices])
def test_a_mini_batch_is_refused(model: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"3 of 10 in the plate 'data': .*pass all data"):
        Potential(model, (Y,))


@pytest.mark.parametrize("local", [False, True])
def test_chains_at_once_are_chains_in_turn(local: bool) -> None:
    potential = Potential(apart, (Y,), local=local)
    q = potential.starts(4)
    assert q.shape == (4, *potential.shape)
    at_once = potential.energies(q, *potential.tensors)
    torch.testing.assert_close(at_once, potential.energies_in_turn(q, *potential.tensors))
    torch.testing.assert_close(log_joint(potential, q), -at_once[0])


def test_parameters_and_arguments_are_inputs_of_the_energy() -> None:
    class Program(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loc = nn.Parameter(torch.zeros(()))

        def forward(self, y: Tensor) -> None:
            z = pyro.sample("z", dist.Normal(self.loc, 1.0))
            with pyro.plate("data", y.shape[0]):
                pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    program = Program()
    potential = Potential(program, (Y,))
    q = torch.zeros(1, 1)
    assert [t.shape for t in potential.tensors] == [(), (3,)]
    moved = potential.energy(q, torch.ones(()), Y)
    other = potential.energy(q, torch.zeros(()), Y + 1)
    torch.testing.assert_close(moved - potential.energy(q, *potential.tensors), torch.tensor([0.5]))
    assert not torch.equal(other, moved)
    assert float(program.loc.detach()) == 0


def test_deterministic_sites_follow_the_latents() -> None:
    potential = Potential(scaled, (Y,))
    q = torch.randn(6, 1, 1)
    values = potential.constrain(q)
    torch.testing.assert_close(values["scale"], q[:, 0, 0].exp())
    torch.testing.assert_close(values["variance"], values["scale"] ** 2)


def test_the_random_state_and_the_store_are_left_as_found() -> None:
    state = torch.get_rng_state()
    potential = Potential(scaled, (Y,))
    potential.energy(torch.zeros(1, 1), *potential.tensors)
    assert torch.equal(torch.get_rng_state(), state)
    assert not pyro.get_param_store().keys()


def _noisy(y: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(torch.randn(()), 1.0))
    with pyro.plate("data", y.shape[0]):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def _bounded(y: Tensor) -> None:
    top = pyro.sample("top", dist.Uniform(1.0, 2.0))
    pyro.sample("z", dist.Uniform(torch.zeros(()), top))


def _counted(y: Tensor) -> None:
    pyro.sample("k", dist.Poisson(2.0))


def _combined(y: Tensor) -> None:
    """Eight values, which Pyro does not list."""
    pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("k", dist.Bernoulli(torch.full((3,), 0.5)).to_event(1))


def _shared_label(y: Tensor) -> None:
    k = pyro.sample("k", dist.Bernoulli(0.5))
    with pyro.plate("data", y.shape[0]):
        z = pyro.sample("z", dist.Normal(k, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def _nothing(y: Tensor) -> None:
    pyro.sample("y", dist.Normal(0.0, 1.0).expand(y.shape).to_event(1), obs=y)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (_bounded, {}, "expected a support that is the same for all latents, got that of .*'z'"),
        (_counted, {}, "discrete ones of finite support .*got the site 'k' from Poisson"),
        (_nothing, {}, "expected a program with continuous latents to sample, got the sites none"),
        (mixture, {"local": True}, "got the site 'loc' outside it"),
        (_combined, {}, "got the site 'k' from Independent; .*put its entries in a plate"),
        (_shared_label, {"local": True}, "inside the plate 'data', got 'k' outside it"),
        (scaled, {"local": True}, "got the site 'scale' outside it"),
    ],
)
def test_what_cannot_be_sampled_is_refused(
    model: Callable[..., Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Potential(model, (Y,), **options)


def test_what_is_no_data_is_refused() -> None:
    with pytest.raises(ValueError, match="expected finite data, got NaN or infinite values"):
        Potential(scaled, (torch.tensor([1.0, torch.nan]),))
    with pytest.raises(ValueError, match=r"expected data of shape \(N, \*shape\) as the first"):
        Potential(apart, (), local=True)


def test_a_random_density_is_refused() -> None:
    potential = Potential(_noisy, (Y,))
    with pytest.raises(ValueError, match="expected the same log density at the same latents"):
        potential.expect_no_noise(torch.zeros(2, 1, 1))
