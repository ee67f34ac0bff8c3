"""What is typed for a fit, a number or a picture: the command that made it, or would make it."""

from __future__ import annotations

__all__ = [
    "comparing",
    "evaluating",
    "exploring",
    "fitting",
    "reconstructing",
    "resuming",
    "sampling",
]

import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ppl_gen.app.evaluation.asked import Asked
from ppl_gen.app.exploration.asked import Asked as AskedLooks
from ppl_gen.app.recipes import recipe_of
from ppl_gen.app.run.folder import Run

# What asks for a quantity, of those that are not found without being asked for.
_ASKS = {
    "ais": ("ais",),
    "bdmc": ("bdmc",),
    "gaps": ("gaps",),
    "collapse": ("collapse",),
    "moments": ("moments",),
    "two_sample": ("two_sample",),
    "information": ("two_sample",),
    "codes_read_as": ("two_sample",),
}
_USUAL = {field.name: field.default for field in fields(Asked)}
_USUAL_LOOKS = {field.name: field.default for field in fields(AskedLooks)}
_USUAL_COMPARISON = {
    "sampler": "hmc",
    "chains": 16,
    "draws": 500,
    "warmup": 500,
    "limit": 20,
    "seed": 0,
}
# By a look that is given something: what its options call that.
_GIVEN = {
    "interpolate": "data",
    "overlap": "data",
    "neighbours": "datum",
    "attributes": "attributes",
}


def fitting(run: Run) -> str:
    """What fits a run from its beginning.

    Args:
        run: The run.
    """
    config = run.config
    words = ["ppl-gen", "fit", config.model]
    for option in recipe_of(config).options:
        value = config.values.get(option.name)
        is_usual = value == option.default and not option.names_data
        if is_usual or value is None:
            continue
        words.append(option.flag)
        if option.kind is not bool:
            words.append(_shown(value))
    return _line(*words, "--out", str(run.folder))


def resuming(run: Run) -> str:
    """What goes on with a run that was stopped.

    Args:
        run: The run.
    """
    return _line("ppl-gen", "fit", run.config.model, "--out", str(run.folder), "--resume")


def evaluating(folder: Path, quantity: str = "", options: Mapping[str, Any] | None = None) -> str:
    """What finds a quantity of a run.

    Args:
        folder: Of the run.
        quantity: As evaluation.json calls it; empty for what is found without being asked for.
        options: What the numbers depend on; None for what is usual.
    """
    asked = [_flag(option) for option in _ASKS.get(quantity, ())]
    unusual = _options(options, _USUAL)
    return _line("ppl-gen", "evaluate", str(folder), *asked, *unusual)


def exploring(folder: Path, look: str, options: Mapping[str, Any] | None = None) -> str:
    """What takes a look at the codes of a run.

    Args:
        folder: Of the run.
        look: Its name.
        options: What its numbers depend on; None for what is usual.
    """
    options = dict(options or {})
    given = options.pop(_GIVEN.get(look, ""), None)
    words = [_flag(look)]
    if isinstance(given, list | tuple):
        words += [_shown(value) for value in given]
    elif given is not None:
        words.append(_shown(given))
    return _line("ppl-gen", "explore", str(folder), *words, *_options(options, _USUAL_LOOKS))


def comparing(folder: Path, options: Mapping[str, Any] | None = None) -> str:
    """What holds the guide of a run against MCMC.

    Args:
        folder: Of the run.
        options: What the numbers depend on; None for what is usual.
    """
    return _line("ppl-gen", "compare", str(folder), *_options(options, _USUAL_COMPARISON))


def sampling(folder: Path) -> str:
    """What draws samples.png of a run."""
    return _line("ppl-gen", "sample", str(folder))


def reconstructing(folder: Path) -> str:
    """What draws reconstructions.png of a run."""
    return _line("ppl-gen", "reconstruct", str(folder))


def _options(options: Mapping[str, Any] | None, usual: Mapping[str, Any]) -> list[str]:
    """Those options that are known and not as usual, as they are typed."""
    words = []
    for name, value in (options or {}).items():
        if name not in usual or value is None or value == usual[name]:
            continue
        words.append(_flag(name))
        if not isinstance(value, bool):
            words.append(_shown(value))
    return words


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _line(*words: str) -> str:
    return shlex.join(words)
