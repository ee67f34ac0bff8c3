"""`ppl-gen posterior`: the posterior of a user's own Pyro program, graded, and its draws."""

from __future__ import annotations

__all__ = ["PosteriorOptions", "arguments_of", "run"]

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ppl_gen.app.parts.own import check_form, load_object
from ppl_gen.app.run.folder import expect_free
from ppl_gen.app.terminal import widened
from ppl_gen.app.wording import in_options
from ppl_gen.data.formats.arrays import named_arrays
from ppl_gen.inference import GradedPosterior, posterior, to_arviz
from ppl_gen.inference.engine.replay import expect_engine
from ppl_gen.inference.expect import expect_counts
from ppl_gen.inference.posteriors.graded import Stage
from ppl_gen.inference.prediction.arviz_export import save_netcdf
from ppl_gen.reading import expect_file

SHOWN = 24  # rows of the printed table
_WIDTH = 90
_MOST_BYTES = 2**31  # of a file that is read
_FORMS = ".json, .npz, .csv or .npy"


@dataclass(frozen=True, kw_only=True)
class PosteriorOptions:
    """What `ppl-gen posterior` was asked for.

    Attributes:
        model: `file.py:object` or `module:object`.
        data: The file of its arguments; None for a model without any.
        ess: The effective sample size that is wanted.
        chains: Of HMC.
        engine: How log densities are computed.
        seed: Of everything that is drawn.
        out: A .nc file for the draws; None for none.
        overwrite: Whether one that is there may be written over.
    """

    model: str
    data: Path | None
    ess: int
    chains: int
    engine: str
    seed: int
    out: Path | None
    overwrite: bool


def run(asked: PosteriorOptions, console: Console) -> GradedPosterior:
    """Works the posterior out, prints table, grade and stages, and writes the draws.

    Args:
        asked: The options of the command.
        console: Where all is printed.

    Raises:
        ValueError: Before work starts, if an option is out of range, the model or the data cannot
            be read or do not fit together, or a file would be written over.
    """
    expect_engine(asked.engine)
    expect_counts(ess=asked.ess, chains=asked.chains)
    if asked.out is not None:
        expect_free(asked.out, asked.overwrite, ".nc")
    if ":" not in asked.model:
        raise ValueError(f"expected FILE.py:MODEL, got {asked.model!r}; name the model in the file")
    check_form("FILE.py:MODEL", asked.model)
    if asked.data is not None:
        _expect_readable(asked.data)
    model = load_object("FILE.py:MODEL", asked.model)
    if inspect.isclass(model):
        raise ValueError(
            f"expected FILE.py:MODEL to name a Pyro program, got the class {model.__name__}; make "
            "one of it in the file, and name its method: file.py:made.model"
        )
    held: dict[str, Any] = {}
    if asked.data is not None:
        held = _read(asked.data, model)
    args = arguments_of(model, held)

    def tell(stage: Stage) -> None:
        console.print(f"{stage.name}: {stage.said}, {stage.seconds:.1f} s", soft_wrap=True)

    found = posterior(
        model,
        *args,
        ess=asked.ess,
        chains=asked.chains,
        engine=asked.engine,  # type: ignore[arg-type]
        seed=asked.seed,
        on_stage=tell,
    )
    _print(found, asked.model, console)
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        save_netcdf(to_arviz(found.draws), asked.out)
        console.print(f"draws written to {asked.out}", soft_wrap=True)
    return found


def arguments_of(model: Callable[..., Any], held: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments of a model in their order.

    Args:
        model: A Pyro program.
        held: Numbers and tensors by name.

    Raises:
        ValueError: If one is missing that has no default, or there is one that it does not take.
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    wanted = [p for p in inspect.signature(model).parameters.values() if p.kind in kinds]
    names = [p.name for p in wanted]
    missing = []
    for parameter in wanted:
        if parameter.default is parameter.empty and parameter.name not in held:
            missing.append(parameter.name)
    surplus = sorted(held.keys() - set(names))
    if missing or surplus:
        raise ValueError(
            f"expected --data with {names or 'nothing'}, the arguments of the model, got "
            f"{sorted(held) or 'nothing'}; give each of them an array of its name"
        )
    return tuple([held.get(p.name, p.default) for p in wanted])


def _expect_readable(path: Path) -> None:
    """Raises ValueError unless there is a file of a known form."""
    expect_file(path)
    if not path.exists():
        raise ValueError(f"--data: no file at {path}; name a {_FORMS} file")
    if path.suffix.lower() not in (".json", ".npz", ".csv", ".npy"):
        raise ValueError(f"expected --data as {_FORMS}, got {path}")
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"expected --data of at most 2 GiB, got {path}; give the model fewer data")


def _read(path: Path, model: Callable[..., Any]) -> dict[str, Any]:
    """Numbers and tensors of a file, by name."""
    ending = path.suffix.lower()
    try:
        if ending == ".json":
            arrays = _of_json(path)
        elif ending == ".csv":
            arrays = _of_table(path)
        elif ending == ".npz":
            arrays = named_arrays(path)
        else:
            arrays = {_only_name(model): array for array in named_arrays(path).values()}
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"--data: {path} cannot be read: {error}") from error
    return {name: _value(name, array) for name, array in arrays.items()}


def _of_json(path: Path) -> dict[str, Any]:
    """Numbers and lists of numbers, as posteriordb has data."""
    held = json.loads(path.read_text(encoding="utf8"))
    if not isinstance(held, dict):
        raise ValueError(f"expected an object of names and arrays, got a {type(held).__name__}")
    return {name: np.asarray(value) for name, value in held.items()}


def _of_table(path: Path) -> dict[str, Any]:
    """The columns of a table."""
    import pandas

    table = pandas.read_csv(path)
    return {str(name): table[name].to_numpy() for name in table.columns}


def _only_name(model: Callable[..., Any]) -> str:
    """The name of a model's single argument, for a file that has no names."""
    names = list(inspect.signature(model).parameters)
    if len(names) != 1:
        raise ValueError(
            f"expected arrays by the names {names or 'of nothing'}, got one array; give a .npz or "
            ".json file"
        )
    return names[0]


def _value(name: str, array: Any) -> Any:
    """A number as Python's, an array as a tensor: integers of 64 bits, all else single precision.

    Raises:
        ValueError: If it is of no numbers, or some are not finite.
    """
    array = np.asarray(array)
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"expected numbers in {name!r} of --data, got {array.dtype}; code words as numbers"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"expected finite numbers in {name!r} of --data, got NaN or infinite ones; leave "
            "these data out, or give the model a mask"
        )
    if array.ndim == 0:
        return array.item()
    if array.dtype.kind == "f":
        return torch.as_tensor(array.astype(np.float32))
    return torch.as_tensor(array.astype(np.int64))


def _print(found: GradedPosterior, name: str, console: Console) -> None:
    """The table of coordinates, and the grade."""
    rows = found.table()
    title = f"{name}: {found.draws.chains} × {found.draws.draws} draws"
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for heading in ("mean", "sd", "5 %", "95 %", "± MCSE", "ESS", "R̂"):
        table.add_column(heading, justify="right", no_wrap=True)
    for coordinate, row in rows.head(SHOWN).iterrows():
        table.add_row(
            str(coordinate),
            f"{row['mean']:.4g}",
            f"{row['sd']:.4g}",
            f"{row['eti_5%']:.4g}",
            f"{row['eti_95%']:.4g}",
            f"{row['mcse_mean']:.2g}",
            f"{row['ess_bulk']:.0f}",
            f"{row['r_hat']:.3f}",
        )
    widened(console, _WIDTH).print(table)
    if len(rows) > SHOWN:
        console.print(f"… and {len(rows) - SHOWN} coordinates more", soft_wrap=True)
    for remark in found.draws.remarks:
        console.print(in_options(remark), soft_wrap=True)
    console.print(in_options(str(found.verdict)), soft_wrap=True)
    how = ", ".join(dict.fromkeys(found.how.values()))
    console.print(
        f"by {how}: {found.gradients:,} gradients in {found.seconds:.1f} s", soft_wrap=True
    )
