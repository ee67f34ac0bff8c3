"""The numbers of a run as rows of tables: value, error, data, and the command that made it."""

from __future__ import annotations

__all__ = [
    "DISTANCES",
    "EVIDENCE",
    "Number",
    "distances",
    "evidence",
    "number",
    "number_of",
    "spelled",
]

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ppl_gen.app.report import commands
from ppl_gen.app.report.subject import Subject

# The quantities of evaluation.json, and what a page calls them.
EVIDENCE = {
    "log_evidence": "log p(x)",
    "elbo": "ELBO",
    "nats_per_token": "nats per token",
    "ais": "log p(x), AIS",
    "bdmc": "BDMC",
    "noise": "log p(x) under noise",
    "gaps": "gap",
    "collapse": "latents",
    "information": "information of code",
    "accuracy": "accuracy of labels",
    "reconstruction": "squared error",
}
DISTANCES = {
    "two_sample": "",
    "cycle": "cycle",
    "a_to_b": "a to b",
    "b_to_a": "b to a",
}
# The names of parts of a quantity, where those of the file are not for people.
_PARTS = {
    "importance_weighted": "importance weights on the same data",
    "lower": "lower bound",
    "upper": "upper bound",
    "gap": "upper − lower bound",
    "bdmc_gap": "upper − lower bound of BDMC",
    "rate": "KL of guide from prior",
    "mutual_information": "mutual information with x",
    "rows": "",
    "per_value": "per value",
    "layers": "layer",
    "a": "domain a, there and back",
    "b": "domain b, there and back",
    "mean_a": "domain a, mean image",
    "mean_b": "domain b, mean image",
    "ratio": "lost, of what the mean image would lose",
    "read_untranslated": "labels read rightly, untranslated",
    "read_translated": "labels read rightly, translated",
}
_DEEPEST = 4
# Numbers without an error that are found, not settings.
_ALONE = ("a", "b", "mean_a", "mean_b", "ratio", "read_untranslated", "read_translated")


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number of a run.

    Attributes:
        name: What it is.
        value: The number.
        error: Its standard error; None where none is known.
        interval: Its 95 % interval; None where none is known.
        p_value: How often chance alone gives as much; None where nothing is tested.
        data: How many data it is of, in words; empty where that is not known.
        epoch: The number of epochs that the weights had been fitted for.
        is_current: Whether these are the weights of the run at present.
        command: What made it.
    """

    name: str
    value: float
    error: float | None
    interval: tuple[float, float] | None
    p_value: float | None
    data: str
    epoch: int
    is_current: bool
    command: str


def evidence(subject: Subject) -> list[Number]:
    """What is known of a run by its likelihood and its guide.

    Args:
        subject: The run.
    """
    return list(_numbers(subject, EVIDENCE))


def distances(subject: Subject) -> list[Number]:
    """How far the draws or translations of a run are from test data.

    Args:
        subject: The run.
    """
    return list(_numbers(subject, DISTANCES))


def number(value: Any) -> float | None:
    """A value as a number; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def number_of(entry: Mapping[str, Any], name: str) -> float | None:
    """A number of an entry; None where it has none of this name.

    Args:
        entry: What was found.
        name: Of the number.
    """
    return number(entry.get(name))


def spelled(value: float, error: float | None = None) -> str:
    """A number with as many digits as its error allows: "−22.541 ± 0.005".

    Args:
        value: The number.
        error: Its standard error; None where none is known.
    """
    if error is None or not error > 0:
        return f"{value:.5g}".replace("-", "−")
    decimals = min(8, max(0, 1 - math.floor(math.log10(error))))
    return f"{value:.{decimals}f} ± {error:.{decimals}f}".replace("-", "−")


def _numbers(subject: Subject, titles: Mapping[str, str]) -> Iterator[Number]:
    for quantity, title in titles.items():
        entry = subject.entries.get(quantity)
        if entry is None:
            continue
        for name, part in _parts(entry, title):
            yield Number(
                name=name,
                value=part["value"],
                error=number_of(part, "standard_error"),
                interval=_interval(part),
                p_value=number_of(part, "p_value"),
                data=_data(entry),
                epoch=entry["epoch"],
                is_current=subject.is_current(entry),
                command=commands.evaluating(subject.folder, quantity, _options(entry)),
            )


def _parts(
    entry: Mapping[str, Any], title: str, depth: int = 0
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number of an entry that has a value, by what it is called."""
    if number_of(entry, "value") is not None:
        yield title, dict(entry)
    for name, part in entry.items():
        if name == "layers" and len(part) < 2:
            continue  # which is the rate once more
        words = _PARTS.get(name, name.replace("_", " "))
        inner = ": ".join(filter(None, (title, words)))
        if isinstance(part, dict) and depth < _DEEPEST and name != "options":
            yield from _parts(part, inner, depth + 1)
        elif name in _ALONE and number(part) is not None:
            yield inner, {"value": number(part)}


def _options(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    options = entry.get("options")
    if isinstance(options, dict):
        return options
    return {}


def _interval(part: Mapping[str, Any]) -> tuple[float, float] | None:
    ends = part.get("interval")
    if not isinstance(ends, list) or len(ends) != 2:
        return None
    low = number(ends[0])
    high = number(ends[1])
    if low is None or high is None:
        return None
    return low, high


def _data(entry: Mapping[str, Any]) -> str:
    """How many data an entry is of."""
    count = number_of(entry, "data")
    if count is None:
        return ""
    return f"{count:.0f}"
