"""evaluation.json: what has been found of a run, an entry for each quantity.

A quantity that is found again replaces its entry, which moves into `earlier`; what was found of
other weights than the present ones is marked, in its entry and in the names of its pictures.
"""

from __future__ import annotations

__all__ = ["FILE", "Entry", "Evaluation", "is_of"]

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppl_gen.app.run import documents
from ppl_gen.app.run.documents import is_count
from ppl_gen.writing import write_json

FILE = "evaluation.json"

# What was found of one quantity: its numbers and, beside them,
#   epoch: the number of epochs that the weights had been fitted for;
#   weights: a checksum of them;
#   current: whether they are the weights of the run at present;
#   options: what `evaluate` was asked for that the numbers depend on;
#   time: when it was found, by ISO 8601;
#   pictures: the names of its pictures, if it has some;
#   earlier: the entries that it has replaced, the latest first, if there are some.
Entry = dict[str, Any]

# In files written before each quantity had an entry of its own: the former name of a number beside
# its name now, in the entries of evidence and bound, which stood at the top of the file.
_FORMER_EVIDENCE = {
    "log_evidence": "value",
    "standard_error": "standard_error",
    "sampling_error": "sampling_error",
    "unit": "unit",
    "conditional": "conditional",
    "binarize": "binarize",
    "ess_smallest": "ess_smallest",
    "k_hat_limit": "k_hat_limit",
    "k_hat_above_limit": "k_hat_above_limit",
}
_FORMER_BOUND = {"elbo": "value", "elbo_standard_error": "standard_error"}


@dataclass(frozen=True)
class Evaluation:
    """What has been found of a run.

    Attributes:
        folder: Of the run.
        entries: By quantity: "log_evidence", "elbo", "ais", "moments", ...
    """

    folder: Path
    entries: dict[str, Entry]

    @classmethod
    def read(cls, folder: Path) -> Evaluation:
        """What the file of a run says; no entries where there is none.

        Args:
            folder: Of the run.

        Raises:
            ValueError: If the file cannot be read, or is damaged.
        """
        path = folder / FILE
        text = documents.read(path)
        if text is None:
            return cls(folder, {})
        try:
            held = documents.parse(text)
            if not isinstance(held, dict):
                raise ValueError(f"a {type(held).__name__}")
            if is_count(held.get("epoch")):
                held = _from_former(held)
            for name, entry in held.items():
                _expect_entry(name, entry)
        except ValueError as error:
            raise ValueError(
                f"{path} is damaged, or not what `ppl-gen evaluate` writes ({error}); move it "
                "away, so that nothing in it is lost"
            ) from error
        return cls(folder, held)

    def add(self, name: str, entry: Entry) -> None:
        """Puts an entry in the place of an earlier one, which is kept inside it.

        An earlier one of the same weights and options is dropped.

        Args:
            name: Of the quantity.
            entry: What was found.
        """
        earlier: list[Entry] = []
        if name in self.entries:
            replaced = dict(self.entries[name])
            earlier = [*[replaced], *replaced.pop("earlier", [])]
        kept = []
        for old in earlier:
            if is_of(old, entry["epoch"], entry["weights"]):
                if old.get("options") == entry["options"]:
                    continue
                old.pop("pictures", None)  # which those of the new entry are written over
            kept.append(old)
        self.entries[name] = entry
        if kept:
            entry["earlier"] = kept

    def mark(self, epoch: int, weights: str | None = None) -> bool:
        """Marks each entry as one of the present weights or of others, whose pictures it renames.

        Args:
            epoch: The number of epochs that the present weights have been fitted for.
            weights: A checksum of them; None compares the epochs alone.

        Returns:
            Whether anything has changed.
        """
        before = json.dumps(self.entries)
        for entry in self.entries.values():
            entry["current"] = is_of(entry, epoch, weights)
            if not entry["current"]:
                self._rename_pictures(entry)
            for old in entry.get("earlier", []):
                old["current"] = is_of(old, epoch, weights)
        return json.dumps(self.entries) != before

    def write(self) -> None:
        """Writes the file, whole or not at all."""
        write_json(self.folder / FILE, self.entries)

    def _rename_pictures(self, entry: Entry) -> None:
        """Puts the epoch into the names of an entry's pictures: evidence-epoch-2.png."""
        mark = f"-epoch-{entry['epoch']}"
        names = []
        for name in entry.get("pictures", []):
            path = self.folder / name
            if not path.stem.endswith(mark):
                marked = path.with_stem(path.stem + mark)
                if path.exists():
                    path.replace(marked)
                name = marked.name
            names.append(name)
        if names:
            entry["pictures"] = names


def _expect_entry(name: str, entry: Any, has_earlier: bool = True) -> None:
    """Raises ValueError unless a value is an entry.

    Args:
        name: Of the quantity.
        entry: What a file says of it.
        has_earlier: Whether it may hold earlier entries, which may not hold others.
    """
    if not isinstance(entry, dict) or not is_count(entry.get("epoch")):
        raise ValueError(f"{name} has no epoch")
    if not isinstance(entry.get("weights"), str | None):
        raise ValueError(f"{name} has no checksum of weights")
    pictures = entry.get("pictures", [])
    earlier = entry.get("earlier", [])
    if not isinstance(pictures, list) or not isinstance(earlier, list):
        raise ValueError(f"{name} has no list of pictures, or of earlier entries")
    for picture in pictures:
        if not _is_name(picture):
            raise ValueError(f"{name} has a picture {picture!r}")
    if earlier and not has_earlier:
        raise ValueError(f"{name} has earlier entries in an earlier one")
    for old in earlier:
        _expect_entry(name, old, has_earlier=False)


def is_of(entry: Entry, epoch: int, weights: str | None) -> bool:
    """Whether an entry is of these weights; files of former versions know the epoch alone.

    Args:
        entry: What was found.
        epoch: The number of epochs that the weights have been fitted for.
        weights: A checksum of them; None compares the epochs alone.
    """
    known = entry.get("weights")
    is_same = known is None or weights is None or known == weights
    return entry.get("epoch") == epoch and is_same


def _is_name(name: Any) -> bool:
    """Whether something is the name of a picture in the folder of the run itself.

    Pictures are renamed, so that no name may lead out of the folder.
    """
    return isinstance(name, str) and name.endswith(".png") and Path(name).name == name


def _from_former(held: dict[str, Any]) -> dict[str, Entry]:
    """Entries from a file whose numbers stood at its top, all of one evaluation."""
    epoch = held.pop("epoch")
    data = held.pop("data", None)
    options = {"seed": held.pop("seed", None)}
    particles = held.pop("particles", None)
    bound_particles = held.pop("elbo_particles", None)
    entries: dict[str, Entry] = {}
    if "log_evidence" in held:
        evidence = {now: held.pop(former, None) for former, now in _FORMER_EVIDENCE.items()}
        evidence |= {"data": data, "options": {**options, "particles": particles}}
        bound = {now: held.pop(former, None) for former, now in _FORMER_BOUND.items()}
        bound |= {"data": data, "options": {**options, "particles": bound_particles}}
        entries |= {"log_evidence": evidence, "elbo": bound}
    for name, found in held.items():
        if not isinstance(found, dict):
            found = {"counts": found}
        if "log_evidence" in found:
            found["value"] = found.pop("log_evidence")
        entries[name] = {**found, "options": dict(options)}
    for entry in entries.values():
        entry |= {"epoch": epoch, "time": None}
    return entries
