"""The folder of a run: configuration, metrics, checkpoint, pictures and evaluation."""

from __future__ import annotations

__all__ = [
    "CONFIG",
    "PRODUCTS",
    "Run",
    "drop_start",
    "expect_free",
    "expect_new_run",
    "expect_vacant",
    "finish_start",
    "replace_run",
]

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.data import Data, check_classes
from ppl_gen.app.ingredients.fitting import Fitting
from ppl_gen.app.recipes import configuration, recipe_of
from ppl_gen.app.run import checkpoint, comparison, documents, evaluation, kept, lock, metrics
from ppl_gen.app.run.evaluation import Evaluation
from ppl_gen.app.run.lock import locked
from ppl_gen.inference import Record
from ppl_gen.writing import is_part, plain, uninterrupted, write_json

CONFIG = "config.json"
_CHECKSUM = "checksum"  # the name of its last entry
# Options that a user may leave out, and that a run has a value of.
_DECIDED = ("epochs", "lr", "schedule", "likelihood")
# Where a run is made before it takes the place of an old one, and where it lies when it is whole.
_NEW = ".ppl-gen-new"
_WHOLE = ".ppl-gen-whole"
# What the command writes into the folder of a run, but for config.json.
PRODUCTS = (
    metrics.FILE,
    checkpoint.FILE,
    evaluation.FILE,
    "samples.png",
    "samples.txt",
    "reconstructions.txt",
    "path.txt",
    "canvas.png",
    "explore.json",
    "manifold.png",
    "traverse.png",
    "interpolate.png",
    "walk.png",
    "neighbours.png",
    "overlap.png",
    "overlap_map.png",
    "attributes.png",
    "impute.png",
    "anomaly.png",
    "latents.png",
    "latents.gif",
    "aggregate.png",
    "aggregate_decoded.png",
    "reconstructions.png",
    "translations.png",
    "training.png",
    "trace.json",
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
    def create(cls, folder: Path, config: Config, begin: Callable[[Run], None]) -> Run:
        """A new run in a folder that is locked, in the place of an old one that may be there.

        It is made in a folder inside, and takes the place of the old one when its first checkpoint
        is whole: until then the old one stays as it is.

        Args:
            folder: Where the run is to be, by `expect_new_run`.
            config: What it is asked for.
            begin: Writes the first checkpoint of the run that it is given.
        """

        def fill(new: Path) -> None:
            run = cls(new, config)
            run.save_config()
            begin(run)

        replace_run(folder, fill)
        return cls(folder, config)

    @classmethod
    def open(cls, folder: Path) -> Run:
        """An existing run; where its config.json is missing, as its checkpoint remembers it.

        Raises:
            ValueError: If the folder is not that of a run, or config.json is damaged or was changed
                after it was written.
        """
        if _is_folder(folder / _WHOLE):
            with locked(folder):
                finish_start(folder)
        path = folder / CONFIG
        text = documents.read(path)
        if text is not None:
            return cls(folder, _configuration(text, path))
        if not (folder / checkpoint.FILE).is_file():
            raise ValueError(
                f"{folder} is not the folder of a run: it has no config.json; `ppl-gen fit` makes "
                "one"
            )
        asked = checkpoint.read(folder).asked
        if asked is None:
            raise ValueError(
                f"{folder} has no config.json, and its checkpoint, of a former version, does not "
                "remember it; put a copy back, or say another --out"
            )
        return cls(folder, configuration(asked))

    @classmethod
    @contextmanager
    def held(cls, folder: Path) -> Iterator[Run]:
        """An existing run that no other process fits or adds to meanwhile.

        Raises:
            ValueError: If the folder is not that of a run, or another process holds it.
        """
        cls.open(folder)  # before anything is written into it
        with locked(folder):
            finish_start(folder)
            yield cls.open(folder)

    def moved(self, places: Mapping[str, str]) -> Run:
        """The same run, its data being elsewhere.

        Args:
            places: Where they are now, by the names of options: data, data_b, root.

        Raises:
            ValueError: If the run has no such option.
        """
        for name in places:
            if name not in self.config:
                flag = "--" + name.replace("_", "-")
                raise ValueError(f"{flag} is no option of a {self.config.model}; leave it out")
        return replace(self, config=self.config.changed(**places))

    def data(self, *, download: bool = False) -> Data:
        """The data of the run.

        Args:
            download: Whether torchvision may fetch what is missing.

        Raises:
            ValueError: If they cannot be read, or their classes are not those of the run.
        """
        try:
            data = recipe_of(self.config).data(self.config, download=download)
        except ValueError as error:
            raise ValueError(
                f"the data of the run {self.folder} cannot be read: {error}. If they have moved, "
                f"say where to: ppl-gen fit {self.config.model} --out {self.folder} --resume "
                "--data PLACE"
            ) from error
        check_classes(self.config, data)
        return data

    def save_config(self) -> None:
        """Writes config.json, with a checksum of what it says."""
        asked = plain(self.config.asked())
        write_json(self.folder / CONFIG, {**asked, _CHECKSUM: _checksum(asked)})

    def log(self, record: Record) -> None:
        """Appends one line to metrics.jsonl."""
        metrics.append(self.folder, record)

    def records(self, last_epoch: int | None = None) -> list[Record]:
        """The records so far, without lines that are damaged.

        Args:
            last_epoch: Later epochs are left out; None for all.
        """
        return metrics.read(self.folder, last_epoch)

    def checkpoint(
        self, epoch: int, fitting: Fitting, device: torch.device, data: Mapping[str, str]
    ) -> None:
        """Writes all that the run needs to go on as checkpoint.pt, whole or not at all.

        What evaluation.json says of former weights is marked as such.

        Args:
            epoch: The number of epochs that are done.
            fitting: What has moved.
            device: Where the model is fitted.
            data: The fingerprint of each part of the data, by its name.
        """
        checkpoint.write(self.folder, epoch, fitting, device, data, self.config)
        found = Evaluation.read(self.folder)
        if found.mark(fitting.shown_epoch(epoch)):
            found.write()

    def rewind(self, epoch: int) -> list[int]:
        """Forgets the metrics of later epochs, and lines that are damaged.

        Args:
            epoch: That of the checkpoint.

        Returns:
            The epochs so far whose line is missing or was damaged.

        Raises:
            ValueError: If evaluation.json, which the next checkpoint marks, is damaged.
        """
        Evaluation.read(self.folder)
        return metrics.forget(self.folder, epoch)


def replace_run(folder: Path, fill: Callable[[Path], None]) -> None:
    """Puts a new run into a folder that is locked, in the place of an old one that may be there.

    It is made in a folder inside, and takes the place of the old one when all of it is there: until
    then the old one stays as it is.

    Args:
        folder: Where the run is to be, by `expect_new_run`.
        fill: Writes the files of the run into the folder that it is given.
    """
    new = folder / _NEW
    drop_start(folder)
    new.mkdir(parents=True)
    try:
        fill(new)
        with uninterrupted():
            os.rename(new, folder / _WHOLE)
            finish_start(folder)
    finally:
        drop_start(folder)


def drop_start(folder: Path) -> bool:
    """Deletes what is left of a run that was begun and did not come to its first checkpoint.

    Args:
        folder: Of the run, locked.

    Returns:
        Whether there was such a run.
    """
    new = folder / _NEW
    if new.is_symlink():
        new.unlink()
    if not new.exists():
        return False
    shutil.rmtree(new)
    return True


def finish_start(folder: Path) -> None:
    """Puts a new run whose first checkpoint is whole in the place of the old one, if there is one.

    Killed in between, it is begun again at the next call.

    Args:
        folder: Of the run, locked.
    """
    whole = folder / _WHOLE
    if not _is_folder(whole):
        return
    if (whole / checkpoint.FILE).exists():
        _delete_products(folder)
    # The checkpoint is the first to move: once it is gone, what lies in the folder is new.
    others = sorted(path.name for path in whole.iterdir())
    for name in (checkpoint.FILE, *others):
        if (whole / name).is_dir():
            shutil.rmtree(folder / name, ignore_errors=True)
        if name != CONFIG and (whole / name).exists():
            os.replace(whole / name, folder / name)
    if (whole / CONFIG).exists():
        os.replace(whole / CONFIG, folder / CONFIG)
    shutil.rmtree(whole)


def _delete_products(folder: Path) -> None:
    """Deletes all that commands have written into the folder of a run, but for its checkpoint."""
    for product in PRODUCTS:
        path = folder / product
        if product != checkpoint.FILE:
            path.unlink(missing_ok=True)
        for of_older_weights in folder.glob(f"{path.stem}-epoch-[0-9]*.png"):
            of_older_weights.unlink()
    for weights in folder.glob(kept.PATTERN):
        weights.unlink()
    for product in comparison.PRODUCTS:
        (folder / comparison.FOLDER / product).unlink(missing_ok=True)
    with suppress(OSError):  # which has other files as well, or is not there
        (folder / comparison.FOLDER).rmdir()


def _is_folder(path: Path) -> bool:
    """Whether a path is that of a folder, not of a link to one."""
    return path.is_dir() and not path.is_symlink()


def expect_new_run(
    folder: Path, overwrite: bool, remedy: str = "go on with --resume, begin anew with --overwrite"
) -> None:
    """Raises ValueError if a new run may not be put into a folder.

    Args:
        folder: Where the run is to be: a new or empty folder, or that of another run.
        overwrite: Whether another run may be deleted.
        remedy: What helps where there is another run, for the message.
    """
    expect_vacant(folder, True, ())
    if not folder.exists() or all(_is_left(path.name) for path in folder.iterdir()):
        return
    try:
        Run.open(folder)
    except ValueError as error:
        raise ValueError(
            f"{folder} exists and is not the folder of a run; say another place with --out"
        ) from error
    if not overwrite:
        raise ValueError(f"the run {folder} exists; {remedy}, or say another --out")


def _is_left(name: str) -> bool:
    """Whether a process that was killed before its run was one may have left something behind."""
    return name in (lock.FILE, _NEW) or name.endswith(".part")


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
    if os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(f"{folder} is a file; say another place with {option}")
    if overwrite or not folder.exists():
        return
    held = sorted(path.name for path in folder.iterdir() if not is_part(path.name))
    if products is None:
        there, what = held, "is not empty"
    else:
        there = [name for name in products if name in held]
        what = f"has results ({', '.join(there)})"
    if there:
        raise ValueError(f"{folder} {what}; say --overwrite, or another place with {option}")


def expect_free(place: Path, overwrite: bool, ending: str = "") -> None:
    """Raises ValueError if a file cannot be written at a place.

    Args:
        place: Where it is to be.
        overwrite: Whether a file that is there may be written over.
        ending: That its name has to have, such as ".npy"; any if empty.
    """
    if ending and place.suffix.lower() != ending:
        raise ValueError(
            f"expected a {ending} file to write to, got {place}; say {place.stem or 'x'}{ending}"
        )
    if place.is_dir():
        raise ValueError(f"expected a file to write to, got the folder {place}; name a file in it")
    for above in place.parents:
        if above.exists() and not above.is_dir():
            raise ValueError(f"{above} is a file, and no folder to write {place.name} to")
    if os.path.lexists(place) and not overwrite:
        raise ValueError(f"{place} exists; say --overwrite, or another place")


def _configuration(text: bytes, path: Path) -> Config:
    """What config.json says, if it says what was written."""
    try:
        asked = documents.parse(text)
        if not isinstance(asked, dict):
            raise ValueError(f"expected options by name, got a {type(asked).__name__}")
        written = asked.pop(_CHECKSUM, None)  # which files of former versions do not have
        config = configuration(asked)
        for name in _DECIDED:
            if name in config and getattr(config, name) is None:
                raise ValueError(f"expected a value of {name}, got none")
        if written not in (None, _checksum(asked)):
            raise ValueError(
                "it was changed after it was written; to keep the change, delete the line of its "
                "checksum"
            )
    except ValueError as error:
        raise ValueError(
            f"{path} is not the configuration of a run ({error}). Put it back as it was, or move "
            "it away, and the checkpoint gives it back"
        ) from error
    return config


def _checksum(asked: Mapping[str, Any]) -> str:
    """A checksum of the values that config.json holds."""
    text = json.dumps(asked, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
