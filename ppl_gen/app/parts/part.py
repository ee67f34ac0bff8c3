"""Parts of programs by name: the record of a row in the tables, and what its maker is given."""

from __future__ import annotations

__all__ = ["Part", "Setting", "known_arguments", "table_of"]

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config

# Torch is imported when a part is made: the help of the command lists their names.
if TYPE_CHECKING:
    from ppl_gen.app.parts.conditioning import Conditioning
    from ppl_gen.data import Dataset


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a part is made for.

    Attributes:
        config: What was asked for.
        data: What the program is to be fitted to.
        condition: What it is conditioned on, None if nothing.
        program: The program with all its other parts, for a part that `needs_program`; else None.
    """

    config: Config
    data: Dataset
    condition: Conditioning | None = None
    program: Any = None

    @property
    def latent_dim(self) -> int:
        """D, the dimension of the latent z."""
        dim: int = self.config.latent_dim
        return dim


@dataclass(frozen=True, kw_only=True)
class Part:
    """A row of a table: what can be named on the command line.

    Attributes:
        name: What the user types: "student-t".
        text: What it is, in one line of at most 70 characters, for `ppl-gen parts`.
        example: The words after `ppl-gen fit` that show it: "vae --likelihood student-t". Each is
            tried by the suite.
        make: Makes it from a `Setting`: of a prior or a likelihood the conditional, of a guide the
            family `guide(net, dim)` that builders take. With `needs_program` it makes the
            conditional that is put into the slot (`prior`, `likelihood` or `encoder`) of a program
            that was built with the builder's own.
        heeds: The names of options that say more of this part, and nothing of others: ("scale",).
        needs_program: Whether `make` wants `Setting.program`, since it holds another slot of it.
        makes_program: Whether `make` gives another program instead, made of `Setting.program`: one
            whose latents are more than a part of it can be.
    """

    name: str
    text: str
    example: str
    make: Callable[..., Any]
    heeds: tuple[str, ...] = ()
    needs_program: bool = False
    makes_program: bool = False


def table_of(*parts: Part) -> dict[str, Part]:
    """The parts by name, in their order."""
    return {part.name: part for part in parts}


def known_arguments(maker: Callable[..., Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some arguments that a class or a function takes by name, and that are not None.

    Args:
        maker: The class or function.
        known: Values by the names of arguments.
    """
    try:
        taken = inspect.signature(maker).parameters
    except ValueError:  # of some that are written in C
        return {}
    return {name: value for name, value in known.items() if name in taken and value is not None}
