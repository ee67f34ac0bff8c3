"""A warning where the draws of a sampler are no sample of the posterior."""

from __future__ import annotations

__all__ = ["ConvergenceWarning", "warn_unless_converged"]

import math
import warnings

import torch

from ppl_gen.inference.diagnostics import r_hat, split_r_hat
from ppl_gen.inference.mcmc.draws import Draws

# R̂ above which draws are no sample: half a chain is then worth fewer than five independent draws.
# `Draws.verdict`, which judges them, is stricter.
_R_HAT = 1.1
# The same of the share of divergent transitions.
_DIVERGENT = 1e-3
# Coordinates of the largest split R̂, whose rank-normalised R̂ is computed.
_WORST = 8
_LISTED = 5


class ConvergenceWarning(UserWarning):
    """R̂, divergences or chains that never moved say that draws are no sample of the posterior."""


def warn_unless_converged(draws: Draws, stacklevel: int) -> None:
    """Warns, once and with the remedy, of draws that are no sample of the posterior.

    That is so where R̂ is above 1.1, more than a thousandth of the transitions diverged, or a chain
    (of a datum, where local) never moved. Fewer than four draws have no R̂.

    Args:
        draws: What the sampler returns.
        stacklevel: As that of `warnings.warn`, from the caller.
    """
    faults = []
    largest = _largest_r_hat(draws)
    if largest > _R_HAT:
        faults.append(f"R̂ is up to {largest:.4g} (1.01 is fine)")
    stuck = _stuck_chains(draws)
    if stuck:
        which = ", ".join(map(str, stuck[:_LISTED]))
        if len(stuck) > _LISTED:
            which += ", …"
        faults.append(f"{len(stuck)} of {draws.chains} chains never moved ({which})")
    share = draws.divergences / draws.divergent.numel()
    if share > _DIVERGENT:
        faults.append(f"{share:.2%} of the transitions diverged")
    if not faults:
        return
    warnings.warn(
        f"the draws of {draws.sampler or 'the sampler'} are no sample of the posterior: "
        f"{'; '.join(faults)}. Warm up longer (warmup=), begin elsewhere (init=), reparametrise "
        "(non-centred), or raise target_accept; R̂ is also large where chains sit in modes of "
        "their own",
        ConvergenceWarning,
        stacklevel=stacklevel + 1,
    )


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
