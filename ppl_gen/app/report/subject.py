"""What a report is of: a run as its folder holds it, without running any of it."""

from __future__ import annotations

__all__ = ["Subject", "names_of"]

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppl_gen.app.exploration import found
from ppl_gen.app.ingredients.data import fingerprint
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.recipes import recipe_of
from ppl_gen.app.run import checkpoint, comparison
from ppl_gen.app.run.checkpoint import Checkpoint
from ppl_gen.app.run.evaluation import Entry, Evaluation, is_of
from ppl_gen.app.run.folder import Run
from ppl_gen.inference import Record


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A run as its folder holds it.

    Attributes:
        name: What the page calls it.
        run: Its folder and configuration.
        records: What was measured in each epoch.
        entries: What `evaluate` has found, by quantity.
        looks: What `explore` has found, by look.
        comparison: What `compare` has found; None where it was not asked.
        done: The number of epochs that are done; None before the first checkpoint.
        epoch: The number of epochs that the weights have been fitted for which are judged.
        weights: A checksum of these weights; None where results are told by their epoch alone.
        numbers: How many numbers these weights are.
        stopped_early: Whether a rule has ended the fit.
        fingerprint: A checksum of each part of the data that it was begun with, by its name.
        changed: Why the data where they lie now are not those, in words; empty where they are.
        unread: Why the data were not looked at, in words; empty where they were.
    """

    name: str
    run: Run
    records: Sequence[Record]
    entries: Mapping[str, Entry]
    looks: Mapping[str, Any]
    comparison: Entry | None
    done: int | None = None
    epoch: int = 0
    weights: str | None = None
    numbers: int = 0
    stopped_early: bool = False
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    changed: str = ""
    unread: str = ""

    @classmethod
    def read(cls, folder: Path, name: str, *, with_data: bool = True) -> Subject:
        """The run of a folder.

        Args:
            folder: Of the run.
            name: What the page calls it.
            with_data: Whether its data are looked at, where they lie now.

        Raises:
            ValueError: If it is not the folder of a run, or a file in it is damaged.
        """
        run = Run.open(folder)
        read: dict[str, Any] = {
            "name": name,
            "run": run,
            "records": run.records(),
            "entries": Evaluation.read(folder).entries,
            "looks": found.read(folder),
            "comparison": comparison.read(folder),
        }
        if not os.path.lexists(folder / checkpoint.FILE):
            return cls(**read)
        held = checkpoint.read(folder)
        known: Mapping[str, str] = {}
        if isinstance(held.data, dict):
            known = held.data
        read |= {"fingerprint": known, **_of_weights(run, held)}
        if with_data:
            read |= _of_data(run, held)
        return cls(**read)

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self.run.folder

    @property
    def recipe(self) -> Recipe:
        """What the command knows about the run's model."""
        return recipe_of(self.run.config)

    @property
    def data_name(self) -> str:
        """The data, as the configuration names them."""
        config = self.run.config
        names = [str(config.data)]
        if self.recipe.translates:
            names.append(str(config.data_b))
        return " and ".join([Path(name).name or name for name in names])

    @property
    def words(self) -> str:
        """Model and data: "vae on digits"."""
        return f"{self.run.config.model} on {self.data_name}"

    @property
    def is_finished(self) -> bool:
        """Whether the fit has come to its end."""
        if self.done is None:
            return False
        return self.stopped_early or self.done >= self.run.config.passes

    def is_current(self, entry: Mapping[str, Any]) -> bool:
        """Whether something was found of the present weights.

        Args:
            entry: With its epoch and, but for former versions, a checksum of its weights.
        """
        return is_of(dict(entry), self.epoch, self.weights)

    def current(self, quantity: str) -> Entry | None:
        """What `evaluate` has found of the present weights; None where it has found nothing.

        Args:
            quantity: As evaluation.json calls it.
        """
        entry = self.entries.get(quantity)
        if entry is None or not self.is_current(entry):
            return None
        return entry


def names_of(folders: Sequence[Path]) -> list[str]:
    """What a page calls the runs of these folders: their last names where these tell them apart.

    Args:
        folders: Of the runs.
    """
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return names


def _of_weights(run: Run, held: Checkpoint) -> dict[str, Any]:
    """What a checkpoint says of the weights."""
    recipe = recipe_of(run.config)
    state = held.state
    weights: str | None = held.weights
    if not recipe.is_finished_state(state):
        weights = None  # what is computed once is added to them when they are opened
    stopped = held.stopping is not None and bool(held.stopping["rule"].get("is_over"))
    return {
        "done": held.epoch,
        "epoch": held.shown,
        "weights": weights,
        "numbers": sum(tensor.numel() for tensor in state.values()),
        "stopped_early": stopped,
    }


def _of_data(run: Run, held: Checkpoint) -> dict[str, Any]:
    """Whether the data are those that the run was begun with, if they can be read."""
    try:
        data = run.data()
        now = fingerprint(data)
    except (ValueError, OSError) as error:
        return {"unread": str(error)}
    try:
        held.expect_data(data, now)
    except ValueError as error:
        return {"changed": str(error)}
    return {}
