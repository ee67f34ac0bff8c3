"""The folder of a run: configuration, metrics, checkpoint, pictures and evaluation.

Metrics have one line for each epoch.
"""

from __future__ import annotations

__all__ = ["Run", "expect_new_run", "expect_vacant"]

import io
import json
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.fitting import Fitting
from ppl_gen.app.recipes import configuration
from ppl_gen.app.run import evaluation
from ppl_gen.app.run.evaluation import Evaluation
from ppl_gen.inference import Record
from ppl_gen.writing import plain, write_atomically, write_json

FORMAT = "ppl-gen checkpoint 2"
KEYS = {"format", "epoch", "data", "program", "companions", "optimizers", "rng", "rng_cuda"}
# Before the names of the weights of a moving average, among the companions.
AVERAGE = "average.module."

# What the command writes into the folder of a run, but for config.json.
PRODUCTS = (
    "metrics.jsonl",
    "checkpoint.pt",
    evaluation.FILE,
    "samples.png",
    "reconstructions.png",
    "translations.png",
    "training.png",
    "evidence.png",
    "sandwich.png",
    "gaps.png",
    "collapse.png",
    "moments.png",
    "two_sample.png",
    "confusion.png",
    "confusion_a_to_b.png",
    "confusion_b_to_a.png",
    "moments_a_to_b.png",
    "moments_b_to_a.png",
)


@dataclass(frozen=True)
class Run:
    """The folder of a run and what it was asked for.

    Attributes:
        folder: Where everything of the run is written.
        config: What config.json says.
    """

    folder: Path
    config: Config

    @classmethod
    def create(cls, folder: Path, config: Config, overwrite: bool) -> Run:
        """Makes the folder of a new run, or empties that of an old one.

        Args:
            folder: Where the run is to be.
            config: What it is asked for.
            overwrite: Whether a run that is there may be deleted.

        Raises:
            ValueError: If the folder exists and may not be overwritten, or is not that of a run.
        """
        expect_new_run(folder, overwrite)
        folder.mkdir(parents=True, exist_ok=True)
        for product in PRODUCTS:
            path = folder / product
            path.unlink(missing_ok=True)
            for of_older_weights in folder.glob(f"{path.stem}-epoch-[0-9]*.png"):
                of_older_weights.unlink()
        run = cls(folder, config)
        run.save_config()  # over the old one: at no moment is the folder not that of a run
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """An existing run.

        Raises:
            ValueError: If the folder is not that of a run.
        """
        path = folder / "config.json"
        if not path.is_file():
            raise ValueError(
                f"{folder} is not the folder of a run: it has no config.json; `ppl-gen fit` makes "
                "one"
            )
        try:
            return cls(folder, configuration(json.loads(path.read_text())))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is not the configuration of a run ({error}); the run has to be fitted anew"
            ) from error

    def save_config(self) -> None:
        """Writes config.json."""
        write_json(self.folder / "config.json", self.config.asked())

    def log(self, record: Record) -> None:
        """Appends one line to metrics.jsonl."""
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(_line(record))

    def records(self, last_epoch: int | None = None) -> list[Record]:
        """The records so far, up to a line that was cut short.

        Args:
            last_epoch: Later epochs are left out; None for all.
        """
        path = self.folder / "metrics.jsonl"
        if not path.is_file():
            return []
        records = []
        for line in path.read_text().splitlines():
            try:
                record = _read_record(line)
            except (TypeError, ValueError, AttributeError):
                break
            if last_epoch is None or record.epoch <= last_epoch:
                records.append(record)
        return records

    def checkpoint(self, epoch: int, fitting: Fitting, device: torch.device, data: str) -> None:
        """Writes all that the run needs to go on as checkpoint.pt, whole or not at all.

        What evaluation.json says of former weights is marked as such.

        Args:
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
        write_atomically(self.folder / "checkpoint.pt", lambda file: file.write(held.getbuffer()))
        found = Evaluation.read(self.folder)
        if found.mark(epoch):
            found.write()

    def load(self, device: torch.device) -> dict[str, Any]:
        """The checkpoint as it was written.

        Raises:
            ValueError: If it is missing, damaged, or not one of this command's.
        """
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            raise ValueError(
                f"{self.folder} has no checkpoint.pt: the run stopped before its first one; go on "
                "with --resume"
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

    def restore(self, program: Any, device: torch.device, data: str | None = None) -> int:
        """Loads the weights that are sampled and judged, a moving average's where there is one.

        Args:
            program: The program that the run's configuration builds.
            device: Where it lies.
            data: The fingerprint of the data that the program is to be used on; None if any.

        Returns:
            The number of epochs that the weights have been fitted for.

        Raises:
            ValueError: If the checkpoint is missing, damaged, of another program, or of other data.
        """
        state = self._load_for(device, data)
        with self._errors_of_another_program():
            averaged = {}
            for name, weights in state["companions"].items():
                if name.startswith(AVERAGE):
                    averaged[name.removeprefix(AVERAGE)] = weights
            program.load_state_dict(averaged or state["program"])
            return int(state["epoch"])

    def resume(self, fitting: Fitting, device: torch.device, data: str) -> int:
        """Loads all that a run needs to go on as if it had not stopped.

        Args:
            fitting: What is to move, new.
            device: Where the model is fitted.
            data: The fingerprint of the data.

        Returns:
            The number of epochs that are done.

        Raises:
            ValueError: If the checkpoint is missing, damaged, of another program, or of other data.
        """
        state = self._load_for(device, data)
        with self._errors_of_another_program():
            fitting.program.load_state_dict(state["program"])
            fitting.companions.load_state_dict(state["companions"])
            for optimizer, held in zip(fitting.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(held)
            torch.set_rng_state(state["rng"].cpu())
            if state["rng_cuda"] is not None and device.type == "cuda":
                torch.cuda.set_rng_state(state["rng_cuda"].cpu(), device)
            return int(state["epoch"])

    def _load_for(self, device: torch.device, data: str | None) -> dict[str, Any]:
        """The checkpoint, if it was written with data of this fingerprint; None for any data."""
        state = self.load(device)
        if data is not None and state["data"] != data:
            raise ValueError(
                f"the data of the run {self.folder} have changed since it was begun; fit them "
                "into another --out"
            )
        return state

    @contextmanager
    def _errors_of_another_program(self) -> Iterator[None]:
        """Makes what torch raises when a checkpoint does not fit a program a ValueError."""
        try:
            yield
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            path = self.folder / "checkpoint.pt"
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{path} is of another program than config.json says: {reason}"
            ) from error

    def rewind(self, epoch: int) -> None:
        """Forgets the metrics of later epochs.

        Args:
            epoch: That of the checkpoint.

        Raises:
            ValueError: If evaluation.json, which the next checkpoint marks, is damaged.
        """
        Evaluation.read(self.folder)
        lines = "".join(map(_line, self.records(epoch)))
        write_atomically(self.folder / "metrics.jsonl", lambda file: file.write(lines.encode()))


def expect_new_run(folder: Path, overwrite: bool) -> None:
    """Raises ValueError if a new run may not be put into a folder.

    Args:
        folder: Where the run is to be: a new or empty folder, or that of another run.
        overwrite: Whether another run may be deleted.
    """
    expect_vacant(folder, True, ())
    if not folder.exists() or not any(folder.iterdir()):
        return
    try:
        Run.open(folder)
    except ValueError as error:
        raise ValueError(
            f"{folder} exists and is not the folder of a run; say another place with --out"
        ) from error
    if not overwrite:
        raise ValueError(
            f"the run {folder} exists; go on with --resume, begin anew with --overwrite, or say "
            "another --out"
        )


def expect_vacant(
    folder: Path, overwrite: bool, products: Iterable[str] | None = None, option: str = "--out"
) -> None:
    """Raises ValueError if results would be written over, or the folder is a file.

    Args:
        folder: Where they are to go.
        overwrite: Whether they may be written over.
        products: The names that will be written; None for any.
        option: What says another place.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; say another place with {option}")
    if overwrite or not folder.exists():
        return
    held = sorted(path.name for path in folder.iterdir())
    if products is None:
        there, what = held, "is not empty"
    else:
        there = [name for name in products if name in held]
        what = f"has results ({', '.join(there)})"
    if there:
        raise ValueError(f"{folder} {what}; say --overwrite, or another place with {option}")


def _line(record: Record) -> str:
    return json.dumps(plain(asdict(record)), allow_nan=False) + "\n"


def _read_record(line: str) -> Record:
    """The record that `_line` has written, null being nan."""
    record = Record(**json.loads(line))
    metrics = dict(record.metrics)
    for name, value in metrics.items():
        if value is None:
            metrics[name] = math.nan
    return replace(record, metrics=metrics)
