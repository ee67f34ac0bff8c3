"""What an autoencoder is asked besides a small error: sparse codes, or codes that move little."""

from __future__ import annotations

__all__ = ["Contractive", "Penalty", "Sparse", "squared_jacobian"]

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least, expect_weight

# From (encoder, x, encoder(x)) to a number for each datum, (N,); x requires a gradient.
Penalty = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Sparse:
    """λ Σⱼ |hⱼ|, with h the code of a datum.

    Args:
        weight: λ, in the unit of the error over that of the code.

    Raises:
        ValueError: If λ is negative or not finite.
    """

    def __init__(self, weight: float) -> None:
        expect_weight(weight=weight)
        self.weight = weight

    def __call__(self, encoder: nn.Module, x: Tensor, code: Tensor) -> Tensor:
        return self.weight * code.abs().flatten(1).sum(1)


class Contractive:
    """λ ‖∂h/∂x‖²_F, the squared Frobenius norm of the encoder's Jacobian at a datum.

    Of one layer h = φ(W x + b) with φ the sigmoid, tanh, ReLU or the identity it is exact,
    Σⱼ φ'(aⱼ)² ‖Wⱼ‖². Of any other encoder it is Hutchinson's estimate, the mean of ‖vᵀ ∂h/∂x‖² over
    draws of signs v, which is unbiased.

    Args:
        weight: λ, in the unit of the error.
        draws: Of v, for each datum.

    Raises:
        ValueError: If λ is negative or not finite, or `draws` below 1.

    Reference:
        Rifai, Vincent, Muller, Glorot and Bengio (2011), Contractive auto-encoders, eq. 7 and 9;
        Hutchinson (1990), A stochastic estimator of the trace of the influence matrix.
    """

    def __init__(self, weight: float, draws: int = 1) -> None:
        expect_at_least(1, draws=draws)
        expect_weight(weight=weight)
        self.weight = weight
        self.draws = draws

    def __call__(self, encoder: nn.Module, x: Tensor, code: Tensor) -> Tensor:
        return self.weight * squared_jacobian(encoder, x, code, self.draws)


def squared_jacobian(encoder: nn.Module, x: Tensor, code: Tensor, draws: int = 1) -> Tensor:
    """‖∂h/∂x‖²_F for each datum, (N,): exact for one layer, else Hutchinson's estimate.

    Args:
        encoder: h, which keeps data apart (no batch normalisation).
        x: Data (N, *shape), which require a gradient unless h is one layer.
        code: h(x), (N, d), computed from this x.
        draws: Of the signs v of the estimate.
    """
    layer, activation = _one_layer(encoder)
    if layer is not None:
        slope = _SLOPES[activation](code)
        return slope.square() @ layer.weight.square().sum(1)
    total = torch.zeros_like(code[:, 0])
    for _ in range(draws):
        signs = torch.randint_like(code, 2) * 2 - 1
        (moved,) = torch.autograd.grad(code, x, signs, create_graph=True)
        total = total + moved.flatten(1).square().sum(1)
    return total / draws


# φ'(a), from φ(a), of the activations that end an encoder of one layer.
_SLOPES: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.Identity: torch.ones_like,
    nn.Sigmoid: lambda h: h * (1 - h),
    nn.Tanh: lambda h: 1 - h.square(),
    nn.ReLU: lambda h: (h > 0).to(h.dtype),
}


def _one_layer(encoder: nn.Module) -> tuple[nn.Linear | None, type[nn.Module]]:
    """The layer of an encoder that has just one, and the kind of its activation."""
    parts = [part for part in encoder.modules() if not isinstance(part, nn.Sequential | nn.Flatten)]
    layers = [part for part in parts if isinstance(part, nn.Linear)]
    others = [part for part in parts if not isinstance(part, nn.Linear)]
    if len(layers) != 1 or parts[0] is not layers[0] or len(others) > 1:
        return None, nn.Identity
    activation: type[nn.Module] = nn.Identity
    if others:
        activation = type(others[0])
    if activation not in _SLOPES:
        return None, activation
    return layers[0], activation
