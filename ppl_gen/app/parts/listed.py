"""All tables of parts that can be named on the command line."""

from __future__ import annotations

__all__ = ["LISTED", "Table"]

from collections.abc import Mapping
from dataclasses import dataclass

from ppl_gen.app.parts.conditions import CONDITIONS
from ppl_gen.app.parts.guides import GUIDES
from ppl_gen.app.parts.likelihoods import LIKELIHOODS
from ppl_gen.app.parts.networks import ACTIVATIONS
from ppl_gen.app.parts.optimizers import OPTIMIZERS, SCHEDULES
from ppl_gen.app.parts.part import Part
from ppl_gen.app.parts.priors import PRIORS


@dataclass(frozen=True, kw_only=True)
class Table:
    """Parts of one kind.

    Attributes:
        option: The name of the option that they are named by.
        parts: The parts by name.
        own: An example with an object of the user's own; empty where there can be none.
    """

    option: str
    parts: Mapping[str, Part]
    own: str = ""


# By what the command calls them.
LISTED = {
    "priors": Table(
        option="prior",
        parts=PRIORS,
        own="vae --prior my_parts.py:MyPrior",
    ),
    "likelihoods": Table(
        option="likelihood",
        parts=LIKELIHOODS,
        own="vae --likelihood my_parts.py:my_likelihood",
    ),
    "guides": Table(
        option="guide",
        parts=GUIDES,
        own="vae --guide my_parts.py:my_guide",
    ),
    "optimizers": Table(option="optimizer", parts=OPTIMIZERS),
    "schedules": Table(option="schedule", parts=SCHEDULES),
    "activations": Table(option="activation", parts=ACTIVATIONS),
    "conditions": Table(option="condition", parts=CONDITIONS),
}
