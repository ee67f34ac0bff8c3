"""A preset: a named sweep, with settings for a look on digits and those of its source."""

from __future__ import annotations

__all__ = ["DIGITS", "Preset", "Scope", "in_memory", "known_presets", "preset_of"]

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from ppl_gen.app.sweeps import presets
from ppl_gen.app.sweeps.cell import Cell, Measure
from ppl_gen.app.sweeps.sweep import Results, Sweep
from ppl_gen.data import Split, load
from ppl_gen.names import resolve

DIGITS = "digits"


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a preset is asked for.

    Attributes:
        data: The name or path of data, as `ppl_gen.data.load` takes it.
        scale: What epochs, draws and repetitions are multiplied by: 1 for the preset's own.
        places: Where data lie, for `Cell.places`: {"root": folder}.
    """

    data: str = DIGITS
    scale: float = 1.0
    places: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_look(self) -> bool:
        """Whether it is for a look, on digits, in under two minutes; else at the full settings."""
        return self.data == DIGITS

    def count(self, full: int, least: int = 1) -> int:
        """A number of epochs, draws, steps or repetitions, scaled.

        Args:
            full: At scale 1.
            least: The smallest that makes sense.
        """
        return max(least, round(full * self.scale))

    def cell(self, measure: Measure, **settings: Any) -> Cell:
        """A cell of the data asked for, wherever they lie.

        Args:
            measure: What is called.
            **settings: Those besides "data", the seed among them.
        """
        return Cell(measure=measure, settings={"data": self.data, **settings}, places=self.places)


def in_memory(data: str, root: str | None) -> tuple[Split, Split]:
    """Grey training and test data, held in memory.

    Args:
        data: Their name or path.
        root: Folder of torchvision's data; None for the usual one.

    Raises:
        ValueError: If they cannot be read, or are larger than memory.
    """
    read = load(data, root, stream=False)
    if isinstance(read.train, Split) and isinstance(read.test, Split):
        return read.train, read.test
    raise ValueError(f"expected data that fit into memory, got {data}; take smaller images")


def _nothing(results: Results) -> Sequence[str]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named sweep.

    Attributes:
        shows: What it shows, in a line of at most 90 characters.
        figure: The figure that it is, of which lecture: "L3, dimensions".
        cells: Makes the cells.
        draw: Draws the picture from all cells; what they have kept is in their `arrays`.
        say: Sentences for below the table.
        takes_data: Whether it is about data; else --data is refused.
    """

    shows: str
    figure: str
    cells: Callable[[Scope], Sequence[Cell]]
    draw: Callable[[Results], Figure]
    say: Callable[[Results], Sequence[str]] = _nothing
    takes_data: bool = True

    def sweep(self, name: str, scope: Scope) -> Sweep:
        """The sweep of a scope.

        Args:
            name: Of the preset.
            scope: What is asked for.
        """
        return Sweep(
            name=name,
            title=self.shows,
            cells=self.cells(scope),
            draw=self.draw,
            say=self.say,
        )


def known_presets() -> list[str]:
    """The names of all presets, by folder and name: of the file two_kl.py it is two-kl."""
    return list(_modules())


def preset_of(name: str) -> Preset:
    """The preset of a name.

    Args:
        name: Of the preset.

    Raises:
        ValueError: If there is none; says the nearest name, and all of them.
    """
    modules = _modules()
    resolve("preset", name, modules)
    found: Preset = importlib.import_module(modules[name]).PRESET
    return found


def _modules() -> dict[str, str]:
    """The module of each preset by its name: the files in the folders of `presets`."""
    found = {}
    for module in pkgutil.walk_packages(presets.__path__, f"{presets.__name__}."):
        if not module.ispkg:
            name = module.name.rpartition(".")[2].rstrip("_")  # lambda_.py is lambda
            found[name.replace("_", "-")] = module.name
    return found
