"""A run is a folder: config.json, metrics.jsonl (one line per epoch), checkpoint.pt, pictures,
evaluation.json.
"""

from __future__ import annotations

__all__ = ["Run", "expect_vacant", "vacant", "write_atomically", "write_json"]

import io
import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch

from ppl_gen.app.config import Config
from ppl_gen.inference import Record

if TYPE_CHECKING:
    from ppl_gen.app.recipes.fitting import Fitting

FORMAT = "ppl-gen checkpoint 2"
KEYS = {"format", "epoch", "data", "program", "companions", "optimizers", "rng", "rng_cuda"}
AVERAGE = (
    "average.module."  # before the names of the weights of a moving average, among the companions
)

PRODUCTS = (  # but for config.json
    *("metrics.jsonl", "checkpoint.pt", "evaluation.json"),
    *("samples.png", "reconstructions.png", "translations.png", "training.png"),
    *("evidence.png", "sandwich.png", "gaps.png", "collapse.png"),
    *(
        "moments.png",
        "two_sample.png",
        "confusion.png",
        "confusion_a_to_b.png",
        "confusion_b_to_a.png",
    ),
    *("moments_a_to_b.png", "moments_b_to_a.png"),
)


@dataclass(frozen=True)
class Run:
    """The folder of a run and what it was asked for."""

    folder: Path
    config: Config

    @classmethod
    def create(cls, folder: Path, config: Config, overwrite: bool) -> Run:
        """Makes the folder of a new run, or empties that of an old one if told to.

        Raises:
            ValueError: As `vacant` does.
        """
        vacant(folder, overwrite)
        folder.mkdir(parents=True, exist_ok=True)
        for product in PRODUCTS:
            (folder / product).unlink(missing_ok=True)
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
            return cls(folder, Config(**json.loads(path.read_text())))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is not the configuration of a run ({error}); the run has to be fitted anew"
            ) from error

    def save_config(self) -> None:
        write_json(self.folder / "config.json", self.config.asked())

    def log(self, record: Record) -> None:
        """Appends one line to metrics.jsonl."""
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(_line(record))

    def records(self, last_epoch: int | None = None) -> list[Record]:
        """The records so far; later ones than `last_epoch`, and a line cut short, are left out."""
        path, records = self.folder / "metrics.jsonl", []
        for line in path.read_text().splitlines() if path.is_file() else []:
            try:
                record = Record(**json.loads(line))
                metrics = {
                    name: math.nan if value is None else value
                    for name, value in record.metrics.items()
                }
            except (TypeError, ValueError, AttributeError):
                break
            if last_epoch is None or record.epoch <= last_epoch:
                records.append(replace(record, metrics=metrics))
        return records

    def checkpoint(self, epoch: int, fitting: Fitting, device: torch.device, data: str) -> None:
        """Writes weights, companions, optimisers, random state, epoch and fingerprint of the data,
        whole or not at all.
        """
        state = {
            "format": FORMAT,
            "epoch": epoch,
            "data": data,
            "program": fitting.program.state_dict(),
            "companions": fitting.companions.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in fitting.optimizers],
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        # By way of memory: an interrupt inside torch.save's own file writer ends the process.
        held = io.BytesIO()
        torch.save(state, held)
        write_atomically(self.folder / "checkpoint.pt", lambda file: file.write(held.getbuffer()))

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
        except Exception as error:  # what a torn file makes the unpickler raise has no end
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
        """Loads the weights that are sampled and judged, a moving average's where there is one;
        returns their epoch.

        Args:
            program: The program that the run's configuration builds.
            device: Where it lies.
            data: The fingerprint of the data that the program is to be used on.

        Raises:
            ValueError: As `load` does; or if the checkpoint is of another program, or of other
                data.
        """
        state = self._of(device, data)
        with self._one_program():
            held = state["companions"]
            averaged = {
                name.removeprefix(AVERAGE): held[name] for name in held if name.startswith(AVERAGE)
            }
            program.load_state_dict(averaged or state["program"])
            return int(state["epoch"])

    def resume(self, fitting: Fitting, device: torch.device, data: str) -> int:
        """Loads all that a run needs to go on as if it had not stopped; returns the epoch that is
        done.

        Raises:
            ValueError: As `restore` does.
        """
        state = self._of(device, data)
        with self._one_program():
            fitting.program.load_state_dict(state["program"])
            fitting.companions.load_state_dict(state["companions"])
            for optimizer, held in zip(fitting.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(held)
            torch.set_rng_state(state["rng"].cpu())
            if state["rng_cuda"] is not None and device.type == "cuda":
                torch.cuda.set_rng_state(state["rng_cuda"].cpu(), device)
            return int(state["epoch"])

    def _of(self, device: torch.device, data: str | None) -> dict[str, Any]:
        state = self.load(device)
        if data is not None and state["data"] != data:
            raise ValueError(
                f"the data of the run {self.folder} have changed since it was begun; fit them "
                "into another --out"
            )
        return state

    @contextmanager
    def _one_program(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            path, reason = self.folder / "checkpoint.pt", str(error).splitlines()[0]
            raise ValueError(
                f"{path} is of another program than config.json says: {reason}"
            ) from error

    def rewind(self, epoch: int) -> None:
        """Forgets the metrics of epochs after the checkpoint's, and the score of weights that are
        about to change.
        """
        if epoch < self.config.passes:
            (self.folder / "evaluation.json").unlink(missing_ok=True)
        lines = "".join(map(_line, self.records(epoch)))
        write_atomically(self.folder / "metrics.jsonl", lambda file: file.write(lines.encode()))


def vacant(folder: Path, overwrite: bool) -> None:
    """Says at once whether a new run may be put here.

    Raises:
        ValueError: If the folder exists and may not be overwritten, or is not that of a run.
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
    """Says at once when results would be written over.

    Args:
        folder: Where they are to go.
        overwrite: Whether they may be.
        products: The names that will be written; None for any.
        option: What says another place.

    Raises:
        ValueError: If the folder is a file, or holds a product, or anything where any may come, and
            must not be written over.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; say another place with {option}")
    held = sorted(p.name for p in folder.iterdir()) if folder.exists() else []
    there = held if products is None else [name for name in products if name in held]
    if there and not overwrite:
        what = "is not empty" if products is None else f"has results ({', '.join(there)})"
        raise ValueError(f"{folder} {what}; say --overwrite, or another place with {option}")


def write_json(path: Path, value: Any) -> None:
    """Writes a file that any reader of JSON takes, whole or not at all: a number that is not finite
    is null.
    """
    text = json.dumps(_plain(value), indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def _line(record: Record) -> str:
    return json.dumps(_plain(asdict(record)), allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """With None for numbers that are not finite, which JSON has not."""
    if isinstance(value, dict):
        return {key: _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Writes beside the file, flushes to disk, then renames over it: a reader sees the old file or
    the new one.
    """
    beside = path.with_name(path.name + ".part")
    with open(beside, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
