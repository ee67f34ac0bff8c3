"""Autoencoders fitted and measured as presets do."""

from __future__ import annotations

__all__ = ["fit_autoencoder", "movement", "squared_errors"]

from typing import Any

import torch
from torch import Tensor

from ppl_gen.data import Split
from ppl_gen.inference import fit, reconstruction_step, squared_error
from ppl_gen.models import Autoencoder

RATE = 3e-3
BATCH_SIZE = 50
_AT_ONCE = 1000  # data that are reconstructed in one call


def fit_autoencoder(
    net: Autoencoder,
    x: Tensor,
    *,
    epochs: int,
    rate: float = RATE,
    batch_size: int = BATCH_SIZE,
    **options: Any,
) -> None:
    """Fits an autoencoder by Adam, its learning rate falling to zero.

    Args:
        net: A new one.
        x: Data (N, *shape).
        epochs: Passes over them.
        rate: Learning rate at the start.
        batch_size: Data per step.
        **options: Of `reconstruction_step`: corruption, penalty.
    """
    optimizer = torch.optim.Adam(net.parameters(), rate)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs)
    step = reconstruction_step(net, optimizer, engine="fx", **options)
    fit(step, Split(x).batches(batch_size), epochs, progress=False, scheduler=falling)


@torch.no_grad()
def squared_errors(net: Autoencoder, x: Tensor, seen: Tensor | None = None) -> Tensor:
    """‖x̂ − x‖² of each datum, (N,).

    Args:
        net: A fitted autoencoder.
        x: (N, *shape).
        seen: What x̂ is made of; x if left out.
    """
    if seen is None:
        seen = x
    pairs = zip(seen.split(_AT_ONCE), x.split(_AT_ONCE), strict=True)
    return torch.cat([squared_error(net(some), true) for some, true in pairs])


@torch.no_grad()
def movement(net: Autoencoder, x: Tensor, seen: Tensor) -> Tensor:
    """‖g(x̃) − g(x)‖ / ‖g(x)‖ of each datum, g the encoder, (N,).

    Args:
        net: A fitted autoencoder.
        x: (N, *shape).
        seen: x̃, likewise.
    """
    code = net.encoder(x)
    return (net.encoder(seen) - code).norm(dim=1) / code.norm(dim=1)
