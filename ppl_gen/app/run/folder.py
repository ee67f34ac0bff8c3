"""The folder of a run: configuration, metrics, checkpoint, pictures and evaluation."""

from __future__ import annotations

__all__ = ["Run", "expect_new_run", "expect_vacant"]

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.fitting import Fitting
from ppl_gen.app.recipes import configuration
from ppl_gen.app.run import checkpoint, evaluation, metrics
from ppl_gen.app.run.evaluation import Evaluation
from ppl_gen.inference import Record
from ppl_gen.writing import write_json

# What the command writes into the folder of a run, but for config.json.
PRODUCTS = (
    metrics.FILE,
    checkpoint.FILE,
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
        metrics.append(self.folder, record)

    def records(self, last_epoch: int | None = None) -> list[Record]:
        """The records so far, up to a line that was cut short.

        Args:
            last_epoch: Later epochs are left out; None for all.
        """
        return metrics.read(self.folder, last_epoch)

    def checkpoint(self, epoch: int, fitting: Fitting, device: torch.device, data: str) -> None:
        """Writes all that the run needs to go on as checkpoint.pt, whole or not at all.

        What evaluation.json says of former weights is marked as such.

        Args:
            epoch: The number of epochs that are done.
            fitting: What has moved.
            device: Where the model is fitted.
            data: The fingerprint of the data.
        """
        checkpoint.write(self.folder, epoch, fitting, device, data)
        found = Evaluation.read(self.folder)
        if found.mark(epoch):
            found.write()

    def rewind(self, epoch: int) -> None:
        """Forgets the metrics of later epochs.

        Args:
            epoch: That of the checkpoint.

        Raises:
            ValueError: If evaluation.json, which the next checkpoint marks, is damaged.
        """
        Evaluation.read(self.folder)
        metrics.forget(self.folder, epoch)


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
