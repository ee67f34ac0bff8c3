"""Programs made with the parts that a configuration names."""

from __future__ import annotations

__all__ = [
    "TABLES",
    "absolute_words",
    "check_sources",
    "expect_no_code",
    "program_with_parts",
    "sources",
]

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from ppl_gen.app.config import Config
from ppl_gen.app.parts import own
from ppl_gen.app.parts.guides import GUIDES
from ppl_gen.app.parts.likelihoods import LIKELIHOODS, likelihood_named
from ppl_gen.app.parts.networks import network_arguments
from ppl_gen.app.parts.part import Part, Setting, known_arguments
from ppl_gen.app.parts.priors import PRIORS
from ppl_gen.contexts import reason

# By option, the parts that it can name.
TABLES = {"prior": PRIORS, "likelihood": LIKELIHOODS, "guide": GUIDES}
# By option, the slot of a program that the part stands in.
_SLOTS = {"prior": "prior", "likelihood": "likelihood", "guide": "encoder"}


def program_with_parts(
    builder: Callable[..., Any], config: Config, data: Any, condition: Any, **more: Any
) -> Any:
    """A program of a builder with the parts that a configuration names.

    The builder is called with the shape of a datum, the latent dimension, and `prior`,
    `likelihood`, `guide`, `hidden` and `activation` as far as the configuration has them. What was
    left out there is left out here, so that the builder's own defaults hold.

    Args:
        builder: A builder of `ppl_gen.models`: `builder(shape, latent_dim, *, prior=..., ...)`.
        config: What was asked for.
        data: What the program is to be fitted to.
        condition: What it is conditioned on, None if nothing.
        **more: Further arguments of the builder, instead of those of the configuration.

    Raises:
        ValueError: If a part cannot be made, or an option was given that no chosen part heeds.
    """
    chosen = _chosen(config)
    _expect_heeded(config, chosen)
    setting = Setting(config=config, data=data, condition=condition)
    arguments = network_arguments(config)
    last = {}
    for option, part in chosen.items():
        if part.needs_program:
            last[option] = part
        else:
            arguments[option] = part.make(setting)
    program = builder(data.shape, config.latent_dim, **{**arguments, **more})
    if "prior" in last:
        program = _with_part("prior", last.pop("prior"), program, setting)
    if getattr(config, "prior_after", None) is not None:
        _delay_prior(program, config)
    for option, part in last.items():  # some of which hold the prior
        program = _with_part(option, part, program, setting)
    return program


def _with_part(option: str, part: Part, program: Any, setting: Setting) -> Any:
    """A program with a part in its slot that is made of the program's other parts."""
    made = part.make(replace(setting, program=program))
    if part.makes_program:
        return made
    setattr(program, _SLOTS[option], made)
    return program


def _delay_prior(program: Any, config: Config) -> None:
    """Has the prior of a program begin later.

    Raises:
        ValueError: If it has nothing to learn.
    """
    from ppl_gen.priors import Delayed

    prior = Delayed(program.prior, config.latent_dim)
    program.prior = prior
    if not prior.own(program):
        raise ValueError(
            f"expected a prior that is learned for --prior-after {config.prior_after}, got "
            f"{_named_prior(config)}, whose p(z) has no parameters; say --prior mixture, vamp or "
            "flow, or leave it out"
        )


def _named_prior(config: Config) -> str:
    """The prior of a configuration, in words."""
    if config.prior is None:
        return f"none, and the usual one of a {config.model}"
    return f"--prior {config.prior}"


def absolute_words(values: Mapping[str, Any]) -> dict[str, str]:
    """The words that name objects of the user's own, with absolute paths, by their options.

    Args:
        values: By the names of options, as they were typed.

    Raises:
        ValueError: If a file or a module is not there.
    """
    words = {}
    for option in TABLES:
        word = values.get(option)
        if word and own.is_own(word):
            words[option] = own.absolute(f"--{option}", word)
    return words


def sources(config: Config) -> dict[str, str]:
    """A checksum of the file of each part of the user's own, by its option."""
    found = {}
    for option, word in _own_words(config).items():
        found[option] = own.checksum(f"--{option}", word)
    return found


def expect_no_code(config: Config, folder: Path, named: Collection[str] = ()) -> None:
    """Raises ValueError if a run names code to be run which the user has not named.

    Whoever wrote the run's folder chose the code, and its checksum. Nothing of it is looked at
    here: even to look for a module runs the packages that it is in.

    Args:
        config: Of the run.
        folder: Of the run, for the message.
        named: The options that the user has given themselves, with the words of the run.
    """
    words = []
    for option, word in _own_words(config).items():
        if option not in named:
            words.append(f"--{option} {word}")
    if words:
        raise ValueError(
            f"expected trust=True for a run that names code to be run, got {folder} with "
            f"{', '.join(words)}; look at that code, and say trust=True if you would run it"
        )


def check_sources(config: Config) -> None:
    """Raises ValueError if a part of the user's own has changed since a run was begun.

    Args:
        config: Of the run.
    """
    now = sources(config)
    for option, checksum in config.sources.items():
        if now.get(option) != checksum:
            raise ValueError(
                f"the file of --{option} {getattr(config, option, None)} has changed since the run "
                "was begun, and its weights may be of another program: put the file back as it "
                "was, or fit anew into another --out"
            )


def _own_words(config: Config) -> dict[str, str]:
    """The words of a configuration that name objects of the user's own, by their options."""
    words = {}
    for option in TABLES:
        word = getattr(config, option, None)
        if word and own.is_own(word):
            words[option] = word
    return words


def _chosen(config: Config) -> dict[str, Part]:
    """The parts that a configuration names, by their options."""
    chosen = {}
    for option, table in TABLES.items():
        word = getattr(config, option, None)
        if word is None:
            continue
        if own.is_own(word):
            chosen[option] = _own_part(option, word)
        elif option == "likelihood":
            chosen[option] = likelihood_named(word)
        else:
            chosen[option] = table[word]
    return chosen


def _own_part(option: str, word: str) -> Part:
    """A part that is an object of the user's own.

    A class is instantiated, and a function of the latent dimension, `dim`, is called; each is given
    what it names of `dim`, `levels` and `scale`. Any other function is the conditional itself.
    """
    flag = f"--{option}"
    found = own.load_object(flag, word)

    def make(setting: Setting) -> Any:
        if option == "guide":
            return _family(word, found)
        known = {
            "dim": setting.latent_dim,
            "levels": getattr(setting.data.train, "levels", None),
            "scale": getattr(setting.config, "scale", None),
        }
        arguments = known_arguments(found, known)
        if not isinstance(found, type) and "dim" not in arguments:
            return copy.deepcopy(found)  # two programs have weights of their own
        return _made(f"{flag} {word}", arguments, lambda: found(**arguments))

    heeds: tuple[str, ...] = ()
    if isinstance(found, type):
        heeds = tuple(known_arguments(found, {"scale": True}))
    return Part(name=word, text="", example="", make=make, heeds=heeds)


def _family(word: str, found: Any) -> Callable[..., Any]:
    """A family of guides of the user's own, whose errors say where they come from."""

    def family(net: Callable[[int], Any], dim: int) -> Any:
        return _made(f"--guide {word}", ("net", "dim"), lambda: found(net, dim))

    return family


def _made(what: str, arguments: Iterable[str], call: Callable[[], Any]) -> Any:
    """The conditional that an object of the user's own makes.

    Args:
        what: The option and what was typed, for the message.
        arguments: The names of what it is called with.
        call: Calls it.

    Raises:
        ValueError: If it stops, or makes nothing that can be called.
    """
    said = ", ".join(arguments)
    try:
        made = call()
    except Exception as error:  # what a user's code may raise
        raise ValueError(
            f"expected {what} to be called with ({said}), got {type(error).__name__}: "
            f"{reason(error)}; mend it there"
        ) from error
    if not callable(made):
        raise ValueError(
            f"expected {what}, called with ({said}), to return a callable that returns a "
            f"distribution, got a {type(made).__name__}; return a function or a module"
        )
    return made


def _expect_heeded(config: Config, chosen: Mapping[str, Part]) -> None:
    """Raises ValueError if an option was given that says more of a part which was not chosen."""
    heeded = set(chain.from_iterable(part.heeds for part in chosen.values()))
    for option, table in TABLES.items():
        for part in table.values():
            for name in part.heeds:
                if name in heeded or name not in config or getattr(config, name) is None:
                    continue
                others = [other.name for other in table.values() if name in other.heeds]
                flag = "--" + name.replace("_", "-")
                got = f"without --{option}"
                if getattr(config, option) is not None:
                    got = f"with --{option} {getattr(config, option)}"
                raise ValueError(
                    f"{flag} is an option of --{option} {', '.join(others)}, got it {got}; leave "
                    "it out"
                )
