"""Options of the command: those that several commands share, and those that are the fields of a
configuration.
"""

from __future__ import annotations

__all__ = ["Count", "Device", "Engine", "Overwrite", "RunFolder", "Seed", "configured", "given"]

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from ppl_gen.app.config import ADVERSARIAL, EXPLICIT, MODELS, Config

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Engine = Annotated[
    str,
    typer.Option(help="inductor, fx or eager; auto compiles where what is to come pays for it."),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda; auto is CUDA where there is one.")]
Seed = Annotated[int, typer.Option(help="Seed of all that is drawn.")]
Count = Annotated[int, typer.Option(help="How many, at most 1000.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over earlier results.")]


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command whose last parameter is `**options` an option for each field of `Config`, its
    default and help.
    """
    own = inspect.signature(command, eval_str=True).parameters.values()
    hints = get_type_hints(Config)
    made = []
    for each in Config.options():
        meta = each.metadata
        flags = (f"--{each.name}",) if hints[each.name] is bool else meta["names"]
        declared = typer.Option(*flags, help=meta["help"], rich_help_panel=_panel(meta["models"]))
        kind: Any = Annotated[hints[each.name], declared]
        made.append(
            inspect.Parameter(
                each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=kind
            )
        )
    kept: list[inspect.Parameter] = [p for p in own if p.kind is not p.VAR_KEYWORD]
    signature = inspect.Signature([*(p for p in kept if p.kind is not p.KEYWORD_ONLY), *made])
    rest = [p for p in kept if p.kind is p.KEYWORD_ONLY]
    command.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *rest])  # type: ignore[attr-defined]
    command.__annotations__ = {}
    return command


def _panel(models: tuple[str, ...]) -> str | None:
    """The heading that an option stands under."""
    if len(models) > len(EXPLICIT) + len(ADVERSARIAL):
        return None
    return f"Of {', '.join(m for m in MODELS if m in models)}"


def given(context: Any) -> set[str]:
    """The names of the options that were given on the command line."""
    return {
        name
        for name in context.params
        if str(context.get_parameter_source(name)).endswith("COMMANDLINE")
    }
