"""Arguments and options as typer declares them, for several commands or from the recipes."""

from __future__ import annotations

__all__ = [
    "Count",
    "DataNow",
    "Device",
    "Engine",
    "OtherDataNow",
    "Overwrite",
    "RootNow",
    "RunFolder",
    "Seed",
    "Trust",
    "names_given",
    "with_options_of_models",
]

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ppl_gen.app.options import Option
from ppl_gen.app.recipes import RECIPES, all_options, models_with

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Engine = Annotated[
    str,
    typer.Option(
        help=(
            "cuda-graph (on CUDA), inductor, fx or eager; auto compiles where there is enough to "
            "do to gain from it."
        )
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda; auto is CUDA where there is one.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of everything that is drawn.")]
Count = Annotated[int, typer.Option(help="How many, at most 1000.")]
DataNow = Annotated[
    str | None,
    typer.Option("--data", "--data-a", help="Where the run's data lie now, if they have moved."),
]
OtherDataNow = Annotated[str | None, typer.Option(help="Where those of its other domain lie now.")]
RootNow = Annotated[
    str | None, typer.Option(help="Where data sets that torchvision downloads lie now.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over earlier results.")]

Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run the code that the run's folder names (file.py:object): look at it before.",
    ),
]


def with_options_of_models(command: Callable[..., None]) -> Callable[..., None]:
    """Declares the options of all recipes on a command whose last parameter is `**options`.

    They come after the command's own arguments and before its own options.
    """
    arguments: list[inspect.Parameter] = []
    own_options: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            own_options.append(parameter)
        elif parameter.kind is not parameter.VAR_KEYWORD:
            arguments.append(parameter)
    of_models = [_parameter(option) for option in all_options()]
    signature = inspect.Signature([*arguments, *of_models, *own_options])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {}
    return command


def _parameter(option: Option) -> inspect.Parameter:
    flags = option.flags
    if option.kind is bool:
        flags = (option.flag,)  # without which typer adds a --no-... to it
    declared = typer.Option(*flags, help=option.help, rich_help_panel=_heading(option))
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=option.default,
        annotation=Annotated[option.annotation, declared],
    )


def _heading(option: Option) -> str | None:
    """The heading of an option in the help: its models; None if all have it, or all but one."""
    models = models_with(option.name)
    if len(models) >= len(RECIPES) - 1:
        return None
    return f"Of {', '.join(models)}"


def names_given(context: typer.Context) -> set[str]:
    """The names of the parameters that were given on the command line."""
    names = set()
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            names.add(name)
    return names
