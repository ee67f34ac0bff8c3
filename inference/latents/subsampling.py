"""Plates that take a subsample of their data, which a sampler has to see whole."""

from __future__ import annotations

__all__ = ["expect_whole_data", "subsampled_plates", "with_whole_plates"]

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro
from pyro import poutine
from pyro.poutine.util import site_is_subsample

from ppl_gen.inference.latents.prototype import prototype_of
from ppl_gen.pyro_patches import whole_plates


def subsampled_plates(trace: poutine.Trace) -> dict[str, tuple[int, int]]:
    """By the name of each plate that takes fewer indices than it has: how many it takes, and has.

    Args:
        trace: A trace of a model.
    """
    found = {}
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and site_is_subsample(site):
            taken = len(site["value"])
            if taken < site["fn"].size:
                found[name] = (taken, site["fn"].size)
    return found


def with_whole_plates(model: Callable[..., Any]) -> Callable[..., Any]:
    """The model with all indices in every plate, none of them scaled.

    Args:
        model: Any Pyro program.
    """

    @functools.wraps(model)
    def whole(*args: Any) -> Any:
        with whole_plates():
            return model(*args)

    return whole


def expect_whole_data(
    whole: Callable[..., Any], args: Sequence[Any], subsampled: Mapping[str, tuple[int, int]]
) -> None:
    """Raises ValueError unless a model can be run with all indices of its plates.

    It can where it looks its data up by the indices of the plate. Where the data are themselves a
    mini-batch, or the indices are given to the plate, the others are not to be had.

    Args:
        whole: The model, as `with_whole_plates` makes it.
        args: What it is called with.
        subsampled: By the name of each plate, how many indices it takes by itself, and has.
    """
    try:
        with pyro.validation_enabled(True):
            trace = prototype_of(whole, args)
            trace.compute_log_prob()
    except (ValueError, RuntimeError, IndexError) as error:
        raise ValueError(_message(subsampled)) from error
    if left := subsampled_plates(trace):
        raise ValueError(_message(left))


def _message(subsampled: Mapping[str, tuple[int, int]]) -> str:
    parts = []
    for name, (taken, size) in subsampled.items():
        parts.append(f"{taken} of {size} in the plate {name!r}")
    return (
        "expected a model that can be given all its data, got one of a subsample, "
        f"{', '.join(parts)}: MCMC needs the posterior of all; pass all data, and look them up by "
        "the plate's indices (`with pyro.plate(name, N, subsample_size=B) as i: ... obs=x[i]`), "
        "or leave subsample and subsample_size out"
    )
