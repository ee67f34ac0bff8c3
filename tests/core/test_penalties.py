"""Penalties of codes: the norm of a Jacobian, exact and estimated, and sparsity."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ppl_gen.models import autoencoder
from ppl_gen.penalties import Contractive, Sparse, squared_jacobian


def by_jacobian(encoder: nn.Module, x: Tensor) -> Tensor:
    """‖∂h/∂x‖²_F of each datum, by torch's Jacobians."""
    jacobians = [torch.autograd.functional.jacobian(encoder, each[None]) for each in x]
    return torch.stack([j.square().sum() for j in jacobians])


ACTIVATIONS: dict[str, Callable[[], nn.Module] | None] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "none": None,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_it_is_exact_for_one_layer(name: str) -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 1, 3, 3, dtype=torch.float64)
    encoder = autoencoder((1, 3, 3), 20, hidden=(), of_code=ACTIVATIONS[name]).double().encoder
    found = squared_jacobian(encoder, x, encoder(x))
    torch.testing.assert_close(found, by_jacobian(encoder, x), rtol=1e-5, atol=0)


def test_of_a_deep_encoder_it_is_estimated_without_bias() -> None:
    torch.manual_seed(0)
    encoder = autoencoder((6,), 4, hidden=(9,), activation=nn.Tanh).encoder
    x = torch.randn(3, 6)
    seen = x.expand(4000, 3, 6).reshape(-1, 6).requires_grad_()
    draws = squared_jacobian(encoder, seen, encoder(seen)).detach().reshape(4000, 3)
    error = draws.std(0) / 4000**0.5
    assert bool(((draws.mean(0) - by_jacobian(encoder, x)).abs() < 4 * error).all())
    assert float((error / draws.mean(0)).max()) < 0.05
    torch.manual_seed(1)
    averaged = squared_jacobian(encoder, seen, encoder(seen), draws=10).detach().reshape(4000, 3)
    assert bool((averaged.std(0) < 0.5 * draws.std(0)).all())


def test_it_has_a_gradient() -> None:
    """That of the closed form, by a step in a random direction."""
    torch.manual_seed(0)
    x = torch.rand(5, 4, dtype=torch.float64)
    encoder = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid()).double()
    penalty = Contractive(2.0)
    penalty(encoder, x, encoder(x)).sum().backward()
    weight = encoder[0].weight
    direction = torch.randn_like(weight)
    ends = []
    for sign in (1, -1):
        moved = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid()).double()
        moved.load_state_dict(encoder.state_dict())
        with torch.no_grad():
            moved[0].weight.add_(sign * 1e-5 * direction)
        ends.append(float(penalty(moved, x, moved(x)).sum()))
    assert float((weight.grad * direction).sum()) == pytest.approx(
        (ends[0] - ends[1]) / 2e-5, rel=1e-6
    )


def test_sparsity_is_the_sum_of_absolute_values() -> None:
    code = torch.tensor([[1.0, -2.0], [0.0, 0.5]])
    assert Sparse(3.0)(nn.Identity(), code, code).tolist() == [9.0, 1.5]


@pytest.mark.parametrize("weight", [-1.0, float("nan"), "much"])
def test_weights_out_of_range(weight: float) -> None:
    for penalty in (Sparse, Contractive):
        with pytest.raises(ValueError, match="weight"):
            penalty(weight)
    with pytest.raises(ValueError, match="draws"):
        Contractive(1.0, draws=0)
