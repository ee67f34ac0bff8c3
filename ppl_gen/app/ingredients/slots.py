"""Programs made with the parts that a configuration names."""

from __future__ import annotations

__all__ = ["TABLES", "program_with_parts"]

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.guides import GUIDES
from ppl_gen.app.ingredients.likelihoods import LIKELIHOODS
from ppl_gen.app.ingredients.networks import network_arguments
from ppl_gen.app.ingredients.parts import Part, Setting
from ppl_gen.app.ingredients.priors import PRIORS

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
    for option, part in last.items():
        setattr(program, _SLOTS[option], part.make(replace(setting, program=program)))
    return program


def _chosen(config: Config) -> dict[str, Part]:
    """The parts that a configuration names, by their options."""
    chosen = {}
    for option, table in TABLES.items():
        if option in config and getattr(config, option) is not None:
            chosen[option] = table[getattr(config, option)]
    return chosen


def _expect_heeded(config: Config, chosen: Mapping[str, Part]) -> None:
    """Raises ValueError if an option was given that says more of a part which was not chosen."""
    heeded = {name for part in chosen.values() for name in part.heeds}
    for option, table in TABLES.items():
        for part in table.values():
            for name in part.heeds:
                if name in heeded or name not in config or getattr(config, name) is None:
                    continue
                others = [other.name for other in table.values() if name in other.heeds]
                flag = "--" + name.replace("_", "-")
                raise ValueError(
                    f"{flag} is an option of --{option} {', '.join(others)}, got it with "
                    f"--{option} {getattr(config, option)}; leave it out"
                )
