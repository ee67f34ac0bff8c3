"""Devices by name."""

from __future__ import annotations

__all__ = ["device_of_process", "find_device"]

import os

import torch

from ppl_gen.ranks import Ranks


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


def device_of_process(name: str, ranks: Ranks) -> torch.device:
    """The device of a name for one of several processes, each of which has a CUDA device to itself.

    Args:
        name: auto, cpu or cuda.
        ranks: The processes.

    Raises:
        ValueError: If there is no such device on this machine, or more processes than CUDA devices.
    """
    device = find_device(name)
    if device.type == "cpu" or ranks.count == 1:
        return device
    if device.index is not None:
        raise ValueError(
            f"expected --device cuda, of which each of several processes takes its own, got {name}"
        )
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    devices = torch.cuda.device_count()
    if here > devices:
        raise ValueError(
            f"expected at most {devices} processes on this machine, one for each of its CUDA "
            f"devices, got {here}; take --nproc-per-node {devices}, or --device cpu"
        )
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device
