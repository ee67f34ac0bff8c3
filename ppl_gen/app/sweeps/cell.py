"""A cell of a sweep: settings, and the function that measures something under them."""

from __future__ import annotations

__all__ = ["Cell", "Measure", "save_arrays"]

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppl_gen.writing import plain, write_atomically

# `measure(folder, **settings, **places)`: numbers by name, each an `Estimate` of one number, a
# number or a pair (value, standard error). What it wants to keep besides goes into the folder.
Measure = Callable[..., Mapping[str, Any]]

_ARRAYS = "arrays.npz"
_NAMED = 60  # letters of the settings in the name of a folder


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a sweep.

    A cell that is finished is found again by its measure and its settings alone: whatever the
    numbers depend on is a setting, the seed included.

    Attributes:
        measure: A function of a module, so that other processes find it. It is called with torch's
            generator at the seed of the setting "seed" (0 if there is none), on one thread.
        settings: By the names of its parameters: what JSON holds.
        places: Further arguments on which the numbers do not depend: where data lie.
    """

    measure: Measure
    settings: Mapping[str, Any]
    places: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """That of everything that the measure draws."""
        return int(self.settings.get("seed", 0))

    @property
    def asked(self) -> dict[str, Any]:
        """What its file says of it."""
        name = f"{self.measure.__module__}.{self.measure.__qualname__}"
        return {"measure": name, "settings": json.loads(json.dumps(plain(dict(self.settings))))}

    @property
    def name(self) -> str:
        """The name of its folder: its settings, cut short, and their fingerprint."""
        text = json.dumps(self.asked, sort_keys=True)
        fingerprint = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
        words = "-".join(f"{name}-{value}" for name, value in self.settings.items())
        readable = re.sub(r"[^\w.]+", "-", words)[:_NAMED].strip("-.")
        return f"{readable}-{fingerprint}"

    def run(self, folder: Path) -> Mapping[str, Any]:
        """Calls the measure.

        Args:
            folder: Of the cell.
        """
        return self.measure(folder, **self.settings, **self.places)


def save_arrays(folder: Path, **arrays: Any) -> None:
    """Keeps arrays for the picture of a sweep, which finds them as `Finished.arrays`.

    Args:
        folder: Of the cell.
        **arrays: Tensors or arrays, by name.
    """
    held: dict[str, Any] = {}
    for name, values in arrays.items():
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu().numpy()
        held[name] = np.asarray(values)
    write_atomically(folder / _ARRAYS, lambda file: np.savez(file, **held))


def read_arrays(folder: Path) -> dict[str, torch.Tensor]:
    """The arrays that a cell has kept, by name; none if it kept none.

    Args:
        folder: Of the cell.
    """
    path = folder / _ARRAYS
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as held:
        return {name: torch.as_tensor(held[name]) for name in held.files}
