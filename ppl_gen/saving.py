"""Weights of programs in files: tensors and plain values alone, so that a file can run no code."""

from __future__ import annotations

__all__ = ["Loaded", "load_weights", "save"]

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ppl_gen.reading import expect_file
from ppl_gen.sealed import Format, read_sealed, write_sealed
from ppl_gen.states import expect_module_state, expect_optimizer_state

_FORMAT = Format(
    family="ppl-gen weights",
    version=2,
    oldest=1,
    sealed_since=2,
    remedy="write it anew with ppl_gen.save (the checkpoint of a run is read by the run's folder)",
)
_PLAIN = (Tensor, bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


@dataclass(frozen=True)
class Loaded:
    """What `load` gives back for a file that `save` has written.

    Attributes:
        program: The program that was passed in, with the weights of the file.
        notes: The plain values that were saved beside it, by name.
    """

    program: Any
    notes: dict[str, Any]


def save(path: str | PathLike[str], program: nn.Module, **parts: Any) -> None:
    """Writes the weights of a program, and what goes with it, whole or not at all.

    A checksum at the end of the file tells whether it is still what was written.

    Tensors and plain values are written, no code and no pickled objects: the shape of the program
    (its networks, prior and likelihood) stays in your own code, which builds it before
    `ppl_gen.load(path, program)` puts the weights in.

    Args:
        path: Of the file; one that is there is written over.
        program: Any program that is an `nn.Module`, such as a VAE.
        **parts: By names of your own: what has a `state_dict`, such as a guide, a critic, an
            optimiser or a scheduler, and plain values (numbers, strings, tensors, lists and dicts
            of these), such as `epoch=20`.

    Raises:
        ValueError: If the program is no module, or something is neither of these.

    Examples:
        >>> import tempfile
        >>> path = f"{tempfile.mkdtemp()}/vae.pt"
        >>> save(path, models.vae((2,), latent_dim=1), epoch=20)
        >>> load(path, models.vae((2,), latent_dim=1)).notes
        {'epoch': 20}
    """
    if not isinstance(program, nn.Module):
        raise ValueError(
            f"expected a program that is an nn.Module, got {type(program).__name__}, whose weights "
            "have no names; hold its networks in one module, or save that module"
        )
    states = {"program": program.state_dict()}
    notes = {}
    for name, part in parts.items():
        if hasattr(part, "state_dict"):
            states[name] = part.state_dict()
        else:
            notes[name] = part
    for name, held in {**states, **notes}.items():
        _expect_plain(name, held)
    kind = f"{type(program).__module__}.{type(program).__qualname__}"
    write_sealed(Path(path), _FORMAT, {"kind": kind, "states": states, "notes": notes})


def load_weights(path: str | PathLike[str], program: nn.Module, **parts: Any) -> Loaded:
    """Puts the weights of a file into a program and into what goes with it.

    All are compared with the file before the first is changed.

    Args:
        path: Of a file that `save` has written.
        program: Built as it was when it was saved, on any device.
        **parts: What the other states of the file are for, by the names that they were saved under;
            states that are not asked for are passed over.

    Returns:
        The program, and the plain values of the file.

    Raises:
        ValueError: If the file cannot be read, is damaged, of a newer version or not one of
            `save`'s, holds no state of such a name, or its weights are those of another program.
    """
    held = _read(Path(path))
    wanted = {"program": program, **parts}
    for name, part in wanted.items():
        if name not in held["states"]:
            raise ValueError(
                f"expected a state named {name!r} in {path}, got "
                f"{', '.join(map(str, held['states']))}; leave it out, or name it as it was saved"
            )
        _expect_same(name, part, held, path)
    for name, part in wanted.items():
        part.load_state_dict(held["states"][name])
    return Loaded(program, held["notes"])


def _read(path: Path) -> dict[str, Any]:
    """What `save` has written."""
    expect_file(path)
    if not path.exists():
        raise ValueError(f"no file of weights at {path}; ppl_gen.save writes one")
    _, held = read_sealed(path, _FORMAT)
    is_whole = isinstance(held.get("kind"), str)
    for name in ("states", "notes"):
        is_whole = is_whole and isinstance(held.get(name), dict)
    if not is_whole:
        raise ValueError(f"expected kind, states and notes in {path}; {_FORMAT.remedy}")
    return held


def _expect_same(name: str, part: Any, held: dict[str, Any], path: str | PathLike[str]) -> None:
    """Raises ValueError unless a state of the file fits what it is to be loaded into."""
    state = held["states"][name]
    try:
        if isinstance(part, nn.Module):
            expect_module_state(part, state)
        elif isinstance(part, Optimizer):
            expect_optimizer_state(part, state)
    except ValueError as error:
        raise ValueError(
            f"expected the weights of this {name}, got those of a {held['kind']} in {path}: "
            f"{error}; build it as it was when it was saved (an automatic guide: call it once on "
            "the data)"
        ) from error


def _expect_plain(name: str, held: Any) -> None:
    """Raises ValueError if something would have to be pickled."""
    if isinstance(held, Mapping):
        for key, value in held.items():
            _expect_plain(name, key)
            _expect_plain(name, value)
    elif isinstance(held, list | tuple):
        for value in held:
            _expect_plain(name, value)
    elif not isinstance(held, _PLAIN):
        raise ValueError(
            f"expected tensors and plain values in {name!r}, got a {type(held).__name__}, which "
            "only a pickle could hold; save its numbers, and build it anew"
        )
