"""The data of a configuration: one data set, or the two domains of a translator."""

from __future__ import annotations

__all__ = [
    "Data",
    "check_classes",
    "fingerprint",
    "former_fingerprint",
    "grey",
    "lines_of_text",
    "one_data_set",
    "two_domains",
]

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ppl_gen.app.config import Config
from ppl_gen.app.parts.likelihoods import is_masked
from ppl_gen.app.parts.own import is_own

# Torch is imported when data are read: recipes import this module.
if TYPE_CHECKING:
    from ppl_gen.data import Dataset, Domains

Data: TypeAlias = "Dataset | Domains"


def one_data_set(config: Config, *, download: bool = False) -> Dataset:
    """The data set that a configuration names.

    Args:
        config: What was asked for.
        download: Whether torchvision may fetch what is missing.

    Raises:
        ValueError: If it cannot be read.
    """
    from ppl_gen import data
    from ppl_gen.data.formats.text import TEXTS

    if config.data.lower().endswith(TEXTS):
        raise ValueError(
            f"expected images or numbers for a {config.model}, got lines of text in {config.data}; "
            "fit a model of text to them"
        )
    given = _given(config)
    options = _reading(config, download)
    read = data.load(
        config.data,
        binarize=config.binarize,
        given=given,
        missing=_may_lack(config),
        label_column=config.label_column,
        leave_out=_names(config.leave_out),
        **options,
    )
    return _divided(config, read)


def _divided(config: Config, read: Dataset) -> Dataset:
    """With the training data that a configuration holds out, the same rows for one seed."""
    held_out = getattr(config, "validation", None)
    if held_out is None:
        return read
    return read.divided(held_out, config.seed)


def _names(word: str | None) -> tuple[str, ...]:
    """The names of columns in a word, between commas."""
    if word is None:
        return ()
    return tuple(name.strip() for name in word.split(","))


def _may_lack(config: Config) -> bool:
    """Whether entries of the data may be missing; a likelihood of the user's own says so itself."""
    likelihood = getattr(config, "likelihood", None)
    return likelihood is not None and (is_masked(likelihood) or is_own(likelihood))


def _given(config: Config) -> str | None:
    """What is read beside images: pairs, or captions where a folder has them; None for labels."""
    from ppl_gen.data import parse
    from ppl_gen.data.formats.beside import CAPTIONS

    condition = getattr(config, "condition", None)
    if condition == "pair":
        return "pairs"
    folder = Path(parse(config.data)[0])
    has_captions = any((folder / part / CAPTIONS).exists() for part in ("", "train"))
    if condition == "caption" and has_captions:
        return "captions"
    return None


def lines_of_text(config: Config, *, download: bool = False) -> Dataset:
    """The lines of the text file that a configuration names, as numbers of tokens.

    Args:
        config: What was asked for.
        download: Of no effect.

    Raises:
        ValueError: If it names anything else, or the file cannot be read.
    """
    from ppl_gen import data
    from ppl_gen.data.formats.text import TEXTS

    if not config.data.lower().endswith(TEXTS):
        raise ValueError(
            f"expected a text file with a line for each datum for a {config.model}, such as --data "
            f"lines.txt, got {config.data}"
        )
    read = data.load(config.data, level=config.level, length=config.length)
    return _divided(config, read)


def two_domains(config: Config, *, download: bool = False) -> Domains:
    """The two domains that a configuration names, without binarisation.

    Args:
        config: What was asked for.
        download: Whether torchvision may fetch what is missing.

    Raises:
        ValueError: If one cannot be read, the second is missing, or their shapes differ.
    """
    from ppl_gen import data
    from ppl_gen.data.formats.files import domains_in

    place, _ = data.parse(config.data)
    if config.data_b is None and not domains_in(Path(place)):
        raise ValueError(
            f"expected two domains for a {config.model}, got one; name the other with --data-b, or "
            "a folder that holds trainA and trainB with --data"
        )
    return data.load_domains(config.data, config.data_b, **_reading(config, download))


def _reading(config: Config, download: bool) -> dict[str, Any]:
    return {"root": config.root, "download": download, "image_size": config.image_size}


def grey(config: Config) -> Dataset:
    """The data set of a configuration, not binarised, with nothing held out of it."""
    values = {"binarize": None}
    if "validation" in config:
        values["validation"] = None
    return one_data_set(config.changed(**values))


def check_classes(config: Config, data: Data) -> None:
    """Raises ValueError if data have other classes than those that a run was begun with.

    Args:
        config: Of the run.
        data: What is read now.
    """
    if not config.class_names:
        return
    names = getattr(data, "class_names", ())
    if names != config.class_names:
        raise ValueError(
            f"the classes of the data have changed since the run was begun: expected "
            f"{', '.join(config.class_names)}, got {', '.join(names)}; name their folders as "
            "before, or fit them into another --out"
        )


def fingerprint(data: Data) -> dict[str, str]:
    """A checksum of each part of data, by its name: "training data", "test labels", ...

    A run goes on, and is judged, only with data of the same fingerprint.

    Args:
        data: A data set, or the two domains of a translator.
    """
    from ppl_gen.data import Domains
    from ppl_gen.data.checksums import of_columns, of_labels, of_numbers

    if isinstance(data, Domains):
        found = {}
        for side, domain in (("a", data.a), ("b", data.b)):
            for name, checksum in fingerprint(domain).items():
                found[f"{name} of domain {side}"] = checksum
        return found
    found = {}
    parts = {"training": data.train, "test": data.test}
    if data.validation is not None:
        parts["validation"] = data.validation
    for name, split in parts.items():
        found[f"{name} data"] = of_numbers(split)
        labels = of_labels(split)
        if labels is not None:
            found[f"{name} labels"] = labels
    if data.columns is not None:
        found["units of columns"] = of_columns(data.columns)
    return found


def former_fingerprint(data: Data) -> str:
    """The number of training data and, if they are in memory, a checksum of them.

    This is what checkpoints of version 2 hold.

    Args:
        data: A data set, or the two domains of a translator.
    """
    from ppl_gen.data import Domains, Split

    if isinstance(data, Domains):
        return f"{former_fingerprint(data.a)} and {former_fingerprint(data.b)}"
    train = data.train
    if not isinstance(train, Split):
        return f"{len(train)}"
    numbers = train.x.cpu().numpy()
    checksum = zlib.crc32(numbers.tobytes())
    return f"{len(train)} {checksum:08x}"
