"""A warning where the draws of a sampler are no sample of the posterior."""

from __future__ import annotations

__all__ = ["ConvergenceWarning", "warn_unless_converged"]

import math
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch

from ppl_gen.inference.diagnostics import r_hat, split_r_hat
from ppl_gen.inference.mcmc.draws import Draws

# R̂ above which draws are no sample: half a chain is then worth fewer than five independent draws.
_APART = 1.1
# R̂ above which chains have not mixed (Vehtari et al. 2021).
_MIXED = 1.01
# In short chains that mix, R̂ is about 1 + 1 / draws by chance; up to this many times that passes.
_BY_CHANCE = 6.0
# The same of the share of divergent transitions.
_DIVERGENT = 1e-3
# Coordinates of the largest split R̂, whose rank-normalised R̂ is computed.
_WORST = 8
_LISTED = 5


class ConvergenceWarning(UserWarning):
    """R̂, divergences or chains that never moved say that draws are no sample of the posterior.

    Examples:
        >>> import warnings
        >>> flip = toy.SignFlip(torch.tensor([2.0, -2.0, 2.1]))
        >>> with warnings.catch_warnings(record=True) as seen:
        ...     warnings.simplefilter("always")
        ...     draws = nuts(flip.model, *flip.data, draws=20, warmup=20, chains=2, seed=1)
        >>> [warning.category.__name__ for warning in seen]
        ['ConvergenceWarning']
    """


class _Fault(NamedTuple):
    """What is wrong, and whether the draws are of no use."""

    said: str
    is_grave: bool


def warn_unless_converged(draws: Draws, stacklevel: int) -> None:
    """Warns, once and with the remedy, of draws that are no sample of the posterior.

    That is so where R̂ is above 1.01 (in chains of n < 600 draws: above 1 + 6 / n, up to 1.1), more
    than a thousandth of the transitions diverged, or a chain (of a datum, where local) never moved.
    Fewer than four draws have no R̂.

    Args:
        draws: What the sampler returns.
        stacklevel: As that of `warnings.warn`, from the caller.
    """
    faults = [*_apart(draws), *_stuck(draws), *_diverged(draws)]
    if not faults:
        return
    state = "have not mixed"
    if any(fault.is_grave for fault in faults):
        state = "are no sample of the posterior"
    warnings.warn(
        f"the draws of {draws.sampler or 'the sampler'} {state}: "
        f"{'; '.join(fault.said for fault in faults)}. Warm up longer (warmup=), begin elsewhere "
        "(init=), reparametrise (non-centred), or raise target_accept; R̂ is also large where "
        "chains sit in modes of their own",
        ConvergenceWarning,
        stacklevel=stacklevel + 1,
    )


def _apart(draws: Draws) -> Iterator[_Fault]:
    largest = _largest_r_hat(draws)
    by_chance = min(1 + _BY_CHANCE / draws.draws, _APART)
    if largest > max(_MIXED, by_chance):
        yield _Fault(f"R̂ is up to {largest:.4g} (1.01 is fine)", largest > _APART)


def _stuck(draws: Draws) -> Iterator[_Fault]:
    stuck = _stuck_chains(draws)
    if not stuck:
        return
    which = ", ".join(map(str, stuck[:_LISTED]))
    if len(stuck) > _LISTED:
        which += ", …"
    yield _Fault(f"{len(stuck)} of {draws.chains} chains never moved ({which})", True)


def _diverged(draws: Draws) -> Iterator[_Fault]:
    share = draws.divergences / draws.divergent.numel()
    if share > _DIVERGENT:
        yield _Fault(f"{share:.2%} of the transitions diverged", True)


def _largest_r_hat(draws: Draws) -> float:
    """The largest R̂ of all coordinates that move; NaN where none is known.

    The quick R̂ of half chains finds the worst coordinates; theirs is then taken as `Draws` has it.
    """
    largest = math.nan
    for value in draws.samples.values():
        flat = value.detach().reshape(*value.shape[:2], -1)
        quick = split_r_hat(flat).nan_to_num(0.0)
        worst = quick.topk(min(_WORST, quick.numel())).indices
        exact = r_hat(flat[..., worst])
        known = torch.where(exact.isnan(), quick[worst].to(exact), exact)
        if known.numel():
            largest = max(float(known.max()), largest)
    return largest


def _stuck_chains(draws: Draws) -> list[int]:
    """The chains whose log density, of any datum, is that of their first draw ever after."""
    if draws.draws == 1:
        return []
    stays = (draws.log_density == draws.log_density[:, :1]).all(1)
    return stays.reshape(len(stays), -1).any(1).nonzero().flatten().tolist()
