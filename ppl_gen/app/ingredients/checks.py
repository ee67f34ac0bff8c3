"""Checks of a whole configuration, made before data are read: options that do not go together."""

from __future__ import annotations

__all__ = [
    "check_loss",
    "check_objective",
    "check_parts_stand_alone",
    "check_prior_after",
    "check_stopping",
]

import math

from ppl_gen.app.config import Config


def check_objective(config: Config) -> None:
    """Raises ValueError if options of SVI are out of range, or belong to another objective."""
    if not 0 <= config.beta < math.inf or config.anneal < 0:
        raise ValueError(
            f"expected --beta and --anneal of at least 0, got {config.beta} and {config.anneal}"
        )
    if config.beta == 0 and config.anneal:
        raise ValueError(
            f"expected --beta above 0 for --anneal {config.anneal} to rise to, got 0; leave one out"
        )
    if config.free_bits != 0 and config.objective != "elbo":
        raise ValueError(
            f"expected --free-bits with the objective elbo, got {config.objective}; leave one out"
        )


def check_stopping(config: Config) -> None:
    """Raises ValueError if rules that stop a fit do not go together, or lack what they look at."""
    patience = getattr(config, "patience", None)
    if patience is not None and config.validation is None:
        raise ValueError(
            f"expected data to stop on for --patience {patience}, got none held out; say "
            "--validation 0.1 (test data stop no fit: their score is to be one of data not seen)"
        )
    until = getattr(config, "until", None)
    if until is None:
        return
    if patience is not None:
        raise ValueError(
            f"expected one rule that stops a fit, got --patience {patience} and --until {until}; "
            "leave one out (--validation may stay: what it measures is in metrics.jsonl)"
        )
    if config.schedule != "constant":
        raise ValueError(
            f"expected no --schedule beside --until {until}, which halves the learning rate where "
            f"that helps, got {config.schedule}; leave one out"
        )


def check_prior_after(config: Config) -> None:
    """Raises ValueError if no epoch is left for a prior that is to begin later."""
    after = getattr(config, "prior_after", None)
    if after is None or config.epochs is None:
        return
    if after >= config.epochs:
        raise ValueError(
            f"expected --prior-after below --epochs, got {after} and {config.epochs}: the prior is "
            "learned in the epochs that are left; lower it, to half of --epochs say"
        )


def check_parts_stand_alone(config: Config) -> None:
    """Raises ValueError if a part holds other slots of a program, as a VAE has them, in another."""
    from ppl_gen.app.parts.slots import TABLES

    for option, table in TABLES.items():
        if option not in config or getattr(config, option) is None:
            continue
        part = table.get(getattr(config, option))  # None for one of the user's own
        if part is not None and part.needs_program:
            others = [other.name for other in table.values() if not other.needs_program]
            raise ValueError(
                f"expected --{option} of {', '.join(others)} for a {config.model}, got {part.name},"
                " which is made of the encoder of a VAE"
            )


def check_loss(config: Config) -> None:
    """Raises ValueError if the critic of a Wasserstein loss has nothing that bounds its slope."""
    if config.loss != "wasserstein" or config.spectral:
        return
    if "penalty" not in config:
        remedy = "--spectral"
    elif config.penalty:
        return
    else:
        remedy = "--penalty 10 (and --r1 0), or --spectral"
    raise ValueError(
        "expected a critic of bounded slope for --loss wasserstein, which else has no end, got a "
        f"free one; say {remedy}"
    )
