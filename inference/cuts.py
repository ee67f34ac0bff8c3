"""Whether a program scores a datum alike, however the data are cut into pieces."""

from __future__ import annotations

__all__ = ["check_by_datum", "expect_same_when_cut"]

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ppl_gen.arguments import expect_data
from ppl_gen.contexts import evaluating, expect_program, forked
from ppl_gen.inference.checks import Checked, check, few_data, needs_all_data
from ppl_gen.inference.particles import expect_leading_axes
from ppl_gen.program import log_density
from ppl_gen.protocols import Guide, Program
from ppl_gen.sites import data_axis, data_plate, latent_sites, stochastic_sites

# The first data, as many as this at most, are scored at once and in two halves.
_ROWS = 64
# Two scores of a datum are the same up to this share of their size: batches of another length are
# multiplied in another order.
_ROUNDING = 1e-3
# Nor do they differ where rounding the data, by up to 4 ε, moves a score a tenth as far: a guide
# that takes gradient steps of its own may be so sensitive.
_EPSILONS = 4
_AS_FAR = 10

_REMEDY = (
    "it closes over a tensor with a row for each datum, or computes something of the whole batch; "
    "pass that tensor as context, which is cut as the data are: model(x, tensor)"
)


def check_by_datum(program: Program, guide: Guide, x: Tensor, *context: Tensor) -> Checked:
    """Checks program, guide and data together, and that they can be scored in any pieces.

    For evaluators that cut data into pieces, and score many draws of the latents at once. A guide
    that can only see all data at once is never cut.

    Args:
        program: Any program with a density.
        guide: q(z | x, c).
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, c, each of length N.

    Raises:
        ValueError: If `ppl_gen.inference.checks.check` finds a fault, or if log p(x, z) or
            log q(z | x) of the first data changes with how many are scored at once, or several
            draws of the latents cannot be scored at once.
    """
    data = (x, *context)
    expect_program(program)
    expect_data(program, data)
    cut = not needs_all_data(guide)
    try:
        found = check(program, guide, *data)
    except (ValueError, RuntimeError) as error:
        if cut and _runs_only_whole(program.model, guide, data):
            raise ValueError(_message("cannot be run on some of them")) from error
        raise
    expect_leading_axes(program, guide, found.nesting, few_data(guide, data))
    if cut:
        expect_same_when_cut(program.model, guide, data)
    return found


def expect_same_when_cut(
    model: Callable[..., Any], guide: Callable[..., Any] | None, data: Sequence[Any]
) -> None:
    """Raises ValueError if log p(x, z) or log q(z | x) depends on how many data are scored at once.

    Neither the random state nor any buffer is changed.

    Args:
        model: The model.
        guide: The guide, if there is one.
        data: What they are called with; the tensors among it have a row for each datum.
    """
    parts = [part for part in (model, guide) if part is not None]
    whole = _rows(data, slice(_ROWS))
    n = len(whole[0])
    if n < 2:
        return
    halves = [_rows(whole, slice(n // 2)), _rows(whole, slice(n // 2, n))]
    with forked(whole[0].device, 0), evaluating(*parts):
        for part in parts:
            _expect_same_scores(part, whole, halves)


def _expect_same_scores(
    part: Callable[..., Any], whole: Sequence[Any], halves: Sequence[Sequence[Any]]
) -> None:
    """Raises ValueError unless a model or guide gives each datum one score in both cuts."""
    n = len(whole[0])
    try:
        latents, axes = _drawn(part, whole)
        together = _scored(part, latents, whole)
    except (ValueError, RuntimeError, KeyError) as error:
        if _runs(part, _rows(whole, slice(1))):
            raise ValueError(_message(f"can be run on one of them, not on {n}")) from error
        return  # whoever runs it says what is wrong
    apart = []
    start = 0
    for half in halves:
        stop = start + len(half[0])
        some = {z: v.narrow(axes[z], start, stop - start) for z, v in latents.items()}
        try:
            apart.append(_scored(part, some, half))
        except (ValueError, RuntimeError) as error:
            message = _message(f"can be run on {n} of them, not on {stop - start}")
            raise ValueError(message) from error
        start = stop
    differs = ~_close(together, torch.cat(apart))
    if bool(differs.any()):
        moved = _moved_by_rounding(part, latents, whole, together)
        differs &= (together - torch.cat(apart)).abs() > _AS_FAR * moved
    again = _scored(part, latents, whole)
    if not bool(differs.any()) or not bool(_close(together, again).all()):
        return  # the latter of a density that is random, which has no score at all
    i = int(differs.nonzero()[0, 0])
    numbers = (
        f"gives datum {i} the log density {float(together[i]):.4g} among {n} data and "
        f"{float(torch.cat(apart)[i]):.4g} among half of them"
    )
    raise ValueError(_message(numbers))


def _moved_by_rounding(
    part: Callable[..., Any], latents: dict[str, Tensor], data: Sequence[Any], scores: Tensor
) -> Tensor:
    """How far the scores of data move where their fractions are rounded otherwise, (n,)."""
    moved = torch.zeros_like(scores)
    for sign in (-1, 1):
        rounded = [_rounded(entry, sign * _EPSILONS) for entry in data]
        moves = (_scored(part, latents, rounded) - scores).abs()
        moved = torch.maximum(moved, moves.nan_to_num(0.0, posinf=0.0))
    return moved


def _rounded(entry: Any, epsilons: int) -> Any:
    """A tensor with all that is no whole number moved by so many ε of its size."""
    if not torch.is_tensor(entry) or not entry.is_floating_point():
        return entry
    moved = entry * (1 + epsilons * torch.finfo(entry.dtype).eps)
    return torch.where(entry == entry.round(), entry, moved)


def _close(scores: Tensor, others: Tensor) -> Tensor:
    """Whether scores (n,) are the same but for rounding, which is a share of their usual size.

    Where one is not a number, a program has run away, which is said elsewhere.
    """
    finite = scores.isfinite()
    size = torch.where(finite, scores, 0.0).abs().sum() / finite.sum().clamp(min=1)
    tolerance = _ROUNDING * (1 + float(size))
    unknown = scores.isnan() | others.isnan()
    return torch.isclose(scores, others, rtol=0.0, atol=tolerance) | unknown


def _runs_only_whole(
    model: Callable[..., Any], guide: Callable[..., Any], data: Sequence[Tensor]
) -> bool:
    """Whether model and guide run on all data, and one of them does not on a single one."""
    parts = (model, guide)
    with forked(data[0].device, 0), evaluating(*parts):
        whole = all(_runs(part, data) for part in parts)
        return whole and not all(_runs(part, _rows(data, slice(1))) for part in parts)


def _runs(part: Callable[..., Any], data: Sequence[Any]) -> bool:
    """Whether a model or guide can be run on some data."""
    try:
        latents, _ = _drawn(part, data)
        _scored(part, latents, data)
    except Exception:  # whatever a user's program raises
        return False
    return True


def _drawn(
    part: Callable[..., Any], data: Sequence[Any]
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """One draw of each latent site of a model or guide, and the axis of the data in it.

    They are copies: some flows have a density at their own draws alone, which they keep.
    """
    trace = poutine.trace(part).get_trace(*data)
    plate = data_plate(stochastic_sites(trace))
    sites = latent_sites(trace)
    latents = {name: site["value"].clone() for name, site in sites.items()}
    return latents, {name: data_axis(site, plate) for name, site in sites.items()}


def _scored(part: Callable[..., Any], latents: dict[str, Tensor], data: Sequence[Any]) -> Tensor:
    """The log density of a model or guide at these latents, datum by datum, (n,)."""
    x, *context = data
    return log_density(part, latents, x, *context).joint.flatten()


def _rows(data: Sequence[Any], rows: slice) -> list[Any]:
    """The same rows of each tensor."""
    taken = []
    for values in data:
        if torch.is_tensor(values):
            values = values[rows]
        taken.append(values)
    return taken


def _message(what: str) -> str:
    return (
        "expected a program that scores each datum by itself, got one that depends on how data "
        f"are cut: it {what}; {_REMEDY}"
    )
