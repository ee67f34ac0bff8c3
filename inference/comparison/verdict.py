"""What a comparison means, in plain words with the numbers: where a guide is good enough and where
it is not.
"""

from __future__ import annotations

__all__ = ["Finding", "judged"]

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ppl_gen.inference.comparison.compare import Comparison

R_HAT = 1.01
CLEAR = 4.0  # standard errors
NARROW, WIDE = 0.9, 1.1  # ratios of standard deviations
SHIFTED = 0.2  # standard deviations
UNCORRELATED = 0.2
AGAINST_MCMC = ("divergences", "not-converged", "stuck-chains", "off-reference")


class Finding(NamedTuple):
    """One thing to know: a short tag and a sentence."""

    tag: str
    sentence: str


class _Split(NamedTuple):
    """Two modes of one coordinate: where they part, the share of draws in the one that is missed,
    and of the other's there.
    """

    coordinate: int
    at: float
    above: bool
    share: float
    other: float


def judged(comparison: Comparison, guide: Tensor, chains: Tensor) -> tuple[Finding, ...]:
    """The findings, those on MCMC first.

    Args:
        comparison: All numbers.
        guide: Draws of the unconstrained latents from the guide, (M, K).
        chains: From MCMC, (C, S, K).
    """
    about_mcmc = _about_mcmc(comparison, chains)
    missed = _missed(chains.flatten(0, 1), guide)
    about_guide = [
        *_modes(comparison, missed, guide, chains),
        *_moments(comparison, {split.coordinate for split in missed}),
        *_correlations(comparison),
        *_tails(comparison),
    ]
    if not about_guide:
        about_guide = [_good(comparison, trusted=not about_mcmc)]
    elif [f.tag for f in about_guide] == ["heavy-tails"] and not about_mcmc:
        about_guide.append(
            Finding("good-moments", f"Its moments are good all the same: {_numbers(comparison)}.")
        )
    return (*about_mcmc, *about_guide)


def _about_mcmc(comparison: Comparison, chains: Tensor) -> list[Finding]:
    """Whether what the guide is held against can be trusted itself."""
    draws, found = comparison.draws, []
    if count := draws.divergences:
        share = count / draws.divergent.numel()
        sentence = (
            f"MCMC had {count} divergent transition{'s' * (count > 1)} among "
            f"{draws.divergent.numel()} draws ({share:.2%}): do not trust MCMC here either; "
            "reparametrise (non-centred), or raise target_accept."
        )
        found.append(Finding("divergences", sentence))
    stuck = (chains == chains[:, :1]).all(1).all(-1)
    if bool(stuck.any()):
        which = ", ".join(map(str, stuck.nonzero()[:, 0].tolist()[:10]))
        sentence = f"{int(stuck.sum())} of {len(stuck)} chains never moved ({which}): drop them, or start elsewhere."
        found.append(Finding("stuck-chains", sentence))
    if draws.max_r_hat > R_HAT or (math.isnan(draws.max_r_hat) and chains.shape[0] > 1):
        sentence = (
            f"MCMC has not converged: R̂ is up to {draws.max_r_hat:.4g} (above {R_HAT}), the "
            f"smallest ESS {draws.min_ess:.0f}; run longer, or look whether chains sit in "
            "different modes."
        )
        found.append(Finding("not-converged", sentence))
    return found + _off_reference(comparison)


def _off_reference(comparison: Comparison) -> list[Finding]:
    """Whether MCMC misses the exact means. References may be known to a hundredth of a standard
    deviation only.
    """
    m = comparison.marginals
    gap = (m.mcmc_mean - m.exact_mean).abs()
    errors = torch.where(gap > 0.03 * m.exact_sd, gap / m.mcse, 0.0).nan_to_num(0.0)
    if not errors.numel() or float(errors.max()) <= 5:
        return []
    i = int(errors.argmax())
    sentence = (
        f"MCMC misses the exact mean of {m.names[i]} by {float(errors[i]):.0f} standard errors "
        f"({float(m.mcmc_mean[i]):.3g} against {float(m.exact_mean[i]):.3g}): believe the exact "
        "answer."
    )
    return [Finding("off-reference", sentence)]


def _missed(wanted: Tensor, other: Tensor) -> list[_Split]:
    """Coordinates along which draws (n, K) have two modes, one of which hardly any of the other
    draws (m, K) are in.
    """
    wanted, other = (d[:: max(1, len(d) // 2000)].double() for d in (wanted, other))
    n = len(wanted)
    ordered = wanted.sort(0).values
    sums = ordered.cumsum(0)
    below = torch.arange(1, n, dtype=torch.float64, device=wanted.device)[:, None]
    means = sums[:-1] / below, (sums[-1] - sums[:-1]) / (n - below)
    # Otsu's split: the share of the variance that lies between the two sides; 0.64 for a normal, 1
    # for two points.
    between = below / n * (1 - below / n) * (means[1] - means[0]).square()
    explained, at = (between / ordered.var(0, correction=0)).nan_to_num(0.0).max(0)
    splits = []
    for k in (explained > 0.7).nonzero()[:, 0].tolist():
        i = int(at[k])
        cut = float(ordered[i, k] + ordered[i + 1, k]) / 2
        low, high = float(means[0][i, k]), float(means[1][i, k])
        near = [
            int(((wanted[:, k] - c).abs() < 0.1 * (high - low)).sum()) for c in (low, cut, high)
        ]
        if near[1] >= 0.5 * min(near[0], near[2]):
            continue
        for above in (False, True):
            share, theirs = (
                float(((d[:, k] > cut) == above).double().mean()) for d in (wanted, other)
            )
            if share > 0.02 and theirs < 0.1 * share:
                splits.append(_Split(k, cut, above, share, theirs))
    return splits


def _modes(
    comparison: Comparison, missed: list[_Split], guide: Tensor, chains: Tensor
) -> list[Finding]:
    names, found = comparison.unconstrained.names, []
    if missed:
        worst = max(missed, key=lambda s: s.share)
        k, side = worst.coordinate, "above" if worst.above else "below"
        coverage = float(comparison.unconstrained.coverage[-1, k])
        sentence = (
            f"{names[k]} has two modes: {worst.share:.0%} of the MCMC draws lie {side} "
            f"{worst.at:.3g}, where the guide has {worst.other:.1%} of its own. It is "
            f"mode-seeking: its 95 % interval holds {coverage:.0%} of the MCMC draws"
        )
        forward, backward = (comparison.divergence.get(name) for name in ("KL(p‖q)", "KL(q‖p)"))
        if forward is not None and backward is not None:
            sentence += f", KL(p‖q) is {forward} nats against {backward} for KL(q‖p)"
            if "exact" not in comparison.evidence:
                sentence += "; the latter and k̂ cannot see the mode that is missed, since weights are drawn from the guide"
        found.append(Finding("mode-seeking", sentence + "."))
    for extra in sorted(_missed(guide, chains.flatten(0, 1)), key=lambda s: -s.share)[:1]:
        side = "above" if extra.above else "below"
        sentence = (
            f"{extra.share:.0%} of the guide's draws of {names[extra.coordinate]} lie {side} "
            f"{extra.at:.3g}, where MCMC has {extra.other:.1%}: either the guide invents a mode "
            "or MCMC has missed one."
        )
        found.append(Finding("extra-mode", sentence))
    return found


def _moments(comparison: Comparison, without: set[int]) -> list[Finding]:
    """Standard deviations and means that are clearly off, coordinates with a missed mode left out."""
    m = comparison.unconstrained
    keep = torch.ones(len(m.names), dtype=torch.bool)
    keep[list(without)] = False
    gap = (m.sd_ratio - 1) / m.sd_ratio_error
    narrow = keep & (m.sd_ratio < NARROW) & ((gap < -CLEAR) | (m.sd_ratio == 0))
    wide = keep & (m.sd_ratio > WIDE) & (gap > CLEAR)
    biased = keep & (m.shift.abs() > SHIFTED) & (m.shift.abs() > CLEAR * m.shift_error)
    found = []
    for tag, which, word in (
        ("under-dispersed", narrow, "too sure"),
        ("over-dispersed", wide, "too unsure"),
    ):
        if bool(which.any()):
            i = _worst(which, m.sd_ratio.log().abs())
            coverage = float(m.coverage[-1, i])
            sentence = (
                f"The guide is {word} of {_count(which)}: worst {m.names[i]}, whose sd is "
                f"{float(m.sd_ratio[i]):.2f} ± {float(m.sd_ratio_error[i]):.2f} times that of "
                f"MCMC and whose 95 % interval holds {coverage:.0%} of the MCMC draws."
            )
            found.append(Finding(tag, sentence))
    if bool(biased.any()):
        i = _worst(biased, m.shift.abs())
        sentence = (
            f"The guide's mean is off for {_count(biased)}: worst {m.names[i]}, by "
            f"{float(m.shift[i]):+.2f} ± {float(m.shift_error[i]):.2f} sd of MCMC."
        )
        found.append(Finding("biased", sentence))
    return found


def _correlations(comparison: Comparison) -> list[Finding]:
    """The strongest correlation that the guide is without."""
    if not comparison.correlations or comparison.correlations["mcmc"].shape[-1] < 2:
        return []
    guide, mcmc = (comparison.correlations[name].nan_to_num(0.0) for name in ("guide", "mcmc"))
    lost = mcmc.abs() - guide.abs()
    lost = torch.where(guide * mcmc < -0.01, (mcmc - guide).abs(), lost)
    size = mcmc.shape[-1]
    at = int(lost.argmax())
    block, i, j = at // size**2, at // size % size, at % size
    m = comparison.unconstrained
    ess = float(torch.minimum(m.ess[block * size + i], m.ess[block * size + j]).nan_to_num(1.0))
    if float(lost[block, i, j]) < UNCORRELATED + CLEAR / math.sqrt(max(ess, 1.0)):
        return []
    names = [m.names[block * size + k] for k in sorted((i, j))]
    sentence = (
        f"The guide lacks correlations: that of {names[0]} and {names[1]} is "
        f"{float(guide[block, i, j]):.2f} against {float(mcmc[block, i, j]):.2f} under MCMC; a "
        "full covariance or a flow, trained to the end, could follow."
    )
    return [Finding("correlations", sentence)]


def _tails(comparison: Comparison) -> list[Finding]:
    k_hat = comparison.k_hat
    if "importance" not in comparison.evidence:
        return [Finding("no-density", f"Neither k̂ nor KL: {comparison.unavailable['importance']}.")]
    if k_hat is None:
        return []
    limit = min(1 - 1 / math.log10(comparison.particles), 0.7)
    bad = k_hat > limit
    if not bool(bad.any()):
        return []
    where = "" if k_hat.numel() == 1 else f" for {int(bad.sum())} of {k_hat.numel()} data"
    sentence = (
        f"The posterior has heavier tails than the guide{where}: k̂ is up to "
        f"{float(k_hat.max()):.2f} (above {limit:.2f}), so that importance weights can neither "
        "mend the guide nor give the evidence."
    )
    return [Finding("heavy-tails", sentence)]


def _numbers(comparison: Comparison) -> str:
    m = comparison.unconstrained
    numbers = (
        f"its sds are {float(m.sd_ratio.min()):.2f} to {float(m.sd_ratio.max()):.2f} times those "
        f"of MCMC, its means within {float(m.shift.abs().max()):.2f} sd"
    )
    if "KL(q‖p)" in comparison.divergence:
        numbers += f", KL(q‖p) is {comparison.divergence['KL(q‖p)']} nats"
    return (
        numbers
        if comparison.k_hat is None
        else f"{numbers}, k̂ at most {float(comparison.k_hat.max()):.2f}"
    )


def _good(comparison: Comparison, trusted: bool) -> Finding:
    if trusted:
        return Finding("good", f"The guide is good enough: {_numbers(comparison)}.")
    return Finding(
        "undecided",
        f"Nothing speaks against the guide ({_numbers(comparison)}), but MCMC is no judge here.",
    )


def _worst(which: Tensor, badness: Tensor) -> int:
    return int(torch.where(which, badness, -1.0).nan_to_num(math.inf).argmax())


def _count(which: Tensor) -> str:
    return (
        f"{int(which.sum())} of {which.numel()} coordinates"
        if which.numel() > 1
        else "the only coordinate"
    )
