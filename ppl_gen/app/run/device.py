"""Devices by name."""

from __future__ import annotations

__all__ = ["find_device"]

import torch


def find_device(name: str) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one.

    Raises:
        ValueError: If there is no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; known: auto, cpu, cuda, cuda:0, ...") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise ValueError(f"expected --device auto, cpu or cuda, got {name!r}")
    if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"no CUDA device for --device {name} on this machine; take --device cpu or auto"
        )
    return device
