"""checkpoint.pt: all that a run needs to go on as if it had not stopped."""

from __future__ import annotations

__all__ = ["FILE", "restore", "resume", "write"]

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ppl_gen.app.ingredients.fitting import Fitting
from ppl_gen.writing import write_atomically

FILE = "checkpoint.pt"
FORMAT = "ppl-gen checkpoint 2"
KEYS = {"format", "epoch", "data", "program", "companions", "optimizers", "rng", "rng_cuda"}
# Before the names of the weights of a moving average, among the companions.
AVERAGE = "average.module."


def write(folder: Path, epoch: int, fitting: Fitting, device: torch.device, data: str) -> None:
    """Writes all that a run needs to go on, whole or not at all.

    Args:
        folder: Of the run.
        epoch: The number of epochs that are done.
        fitting: What has moved.
        device: Where the model is fitted.
        data: The fingerprint of the data.
    """
    rng_cuda = None
    if device.type == "cuda":
        rng_cuda = torch.cuda.get_rng_state(device)
    state = {
        "format": FORMAT,
        "epoch": epoch,
        "data": data,
        "program": fitting.program.state_dict(),
        "companions": fitting.companions.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in fitting.optimizers],
        "rng": torch.get_rng_state(),
        "rng_cuda": rng_cuda,
    }
    # By way of memory: an interrupt inside torch.save's own file writer ends the process.
    held = io.BytesIO()
    torch.save(state, held)
    write_atomically(folder / FILE, lambda file: file.write(held.getbuffer()))


def restore(folder: Path, program: Any, device: torch.device, data: str | None = None) -> int:
    """Loads the weights that are sampled and judged, a moving average's where there is one.

    Args:
        folder: Of the run.
        program: The program that the run's configuration builds.
        device: Where it lies.
        data: The fingerprint of the data that the program is to be used on; None if any.

    Returns:
        The number of epochs that the weights have been fitted for.

    Raises:
        ValueError: If the checkpoint is missing, damaged, of another program, or of other data.
    """
    state = _read_for(folder, device, data)
    with _errors_of_another_program(folder):
        averaged = {}
        for name, weights in state["companions"].items():
            if name.startswith(AVERAGE):
                averaged[name.removeprefix(AVERAGE)] = weights
        program.load_state_dict(averaged or state["program"])
        return int(state["epoch"])


def resume(folder: Path, fitting: Fitting, device: torch.device, data: str) -> int:
    """Loads all that a run needs to go on as if it had not stopped.

    Args:
        folder: Of the run.
        fitting: What is to move, new.
        device: Where the model is fitted.
        data: The fingerprint of the data.

    Returns:
        The number of epochs that are done.

    Raises:
        ValueError: If the checkpoint is missing, damaged, of another program, or of other data.
    """
    state = _read_for(folder, device, data)
    with _errors_of_another_program(folder):
        fitting.program.load_state_dict(state["program"])
        fitting.companions.load_state_dict(state["companions"])
        for optimizer, held in zip(fitting.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(held)
        torch.set_rng_state(state["rng"].cpu())
        if state["rng_cuda"] is not None and device.type == "cuda":
            torch.cuda.set_rng_state(state["rng_cuda"].cpu(), device)
        return int(state["epoch"])


def _read(folder: Path, device: torch.device) -> dict[str, Any]:
    """The checkpoint as it was written."""
    path = folder / FILE
    if not path.is_file():
        raise ValueError(
            f"{folder} has no checkpoint.pt: the run stopped before its first one; go on with "
            "--resume"
        )
    try:
        with warnings.catch_warnings(action="ignore"):
            state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a torn file makes the unpickler raise anything
        raise ValueError(
            f"{path} is damaged, or not a checkpoint; fit the run anew with --overwrite"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or state.keys() != KEYS:
        raise ValueError(
            f"expected a {FORMAT!r} file, got something else in {path}; fit the run anew with "
            "--overwrite"
        )
    return state


def _read_for(folder: Path, device: torch.device, data: str | None) -> dict[str, Any]:
    """The checkpoint, if it was written with data of this fingerprint; None for any data."""
    state = _read(folder, device)
    if data is not None and state["data"] != data:
        raise ValueError(
            f"the data of the run {folder} have changed since it was begun; fit them into another "
            "--out"
        )
    return state


@contextmanager
def _errors_of_another_program(folder: Path) -> Iterator[None]:
    """Makes what torch raises when a checkpoint does not fit a program a ValueError."""
    try:
        yield
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{folder / FILE} is of another program than config.json says: {reason}"
        ) from error
