"""What a comparison means, in words with the numbers: where a guide is good enough, where not."""

from __future__ import annotations

__all__ = ["judge"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_gen.inference.comparison.comparison import Comparison
from ppl_gen.inference.comparison.marginals import Marginals
from ppl_gen.inference.evidence.weights import k_hat_limit
from ppl_gen.inference.findings import Finding

# From where on something is worth a sentence. What is clear differs by so many standard errors;
# ratios and shifts are those of standard deviations.
CLEAR = 4.0
NARROW = 0.9
WIDE = 1.1
SHIFTED = 0.2
UNCORRELATED = 0.2

# MCMC against exact means, which may themselves be known to a hundredth of a standard deviation.
OFF_REFERENCE = 5.0
NEAR_REFERENCE = 0.03

# Two modes: the share of the variance that lies between the two sides of Otsu's split is 0.64 for a
# normal and 1 for two points. A mode is missed where it holds a share of the draws and less than a
# tenth of that share of the other's.
BIMODAL = 0.7
MODE_SHARE = 0.02
MISSED_SHARE = 0.1
_MODE_DRAWS = 2000  # draws among which modes are looked for


@dataclass(frozen=True)
class _MissedMode:
    """One of two modes of a coordinate, in which hardly any of the other draws lie.

    Attributes:
        coordinate: Its number.
        cut: Where the two modes part.
        above: Whether the one that is missed lies above the cut.
        share: The share of draws that are in it.
        other_share: The share of the other's draws there.
    """

    coordinate: int
    cut: float
    above: bool
    share: float
    other_share: float

    @property
    def side(self) -> str:
        """ "above" or "below" the cut."""
        if self.above:
            return "above"
        return "below"


def judge(comparison: Comparison, guide: Tensor, chains: Tensor) -> tuple[Finding, ...]:
    """The findings of a comparison, those on MCMC first.

    Args:
        comparison: All numbers.
        guide: Draws of the unconstrained latents from the guide, (M, K).
        chains: Draws of the same from MCMC, (C, S, K).
    """
    about_mcmc = comparison.draws.complaints
    about_mcmc += _check_against_reference(comparison.marginals)
    pooled = chains.flatten(0, 1)
    missed = missed_modes(pooled, guide)
    extra = missed_modes(guide, pooled)
    without = {mode.coordinate for mode in missed}
    about_guide = [
        *_check_support(comparison),
        *_describe_missed_mode(comparison, missed),
        *_describe_extra_mode(comparison.unconstrained, extra),
        *_check_moments(comparison.unconstrained, without),
        *_check_correlations(comparison),
        *_check_weights(comparison),
    ]
    return (*about_mcmc, *about_guide, *_conclude(comparison, about_guide, about_mcmc))


def _conclude(
    comparison: Comparison, about_guide: list[Finding], about_mcmc: list[Finding]
) -> list[Finding]:
    """What is good about the guide, where little or nothing speaks against it."""
    numbers = _summary(comparison)
    if not about_guide and not about_mcmc:
        return [Finding("good", f"The guide is good enough: {numbers}.")]
    if not about_guide:
        sentence = f"Nothing speaks against the guide ({numbers}), but MCMC is no judge here."
        return [Finding("undecided", sentence)]
    only_tails = [finding.tag for finding in about_guide] == ["heavy-tails"]
    if only_tails and not about_mcmc:
        return [Finding("good-moments", f"Its moments are good all the same: {numbers}.")]
    return []


def _check_against_reference(m: Marginals) -> list[Finding]:
    """Whether MCMC misses the exact means."""
    gap = (m.mcmc_mean - m.exact_mean).abs()
    errors = torch.where(gap > NEAR_REFERENCE * m.exact_sd, gap / m.mcse, 0.0).nan_to_num(0.0)
    if not errors.numel():
        return []
    i = int(errors.argmax())
    worst = float(errors[i])
    if worst <= OFF_REFERENCE:
        return []
    sentence = (
        f"MCMC misses the exact mean of {m.names[i]} by {worst:.0f} standard errors "
        f"({float(m.mcmc_mean[i]):.3g} against {float(m.exact_mean[i]):.3g}): believe the exact "
        "answer."
    )
    return [Finding("off-reference", sentence)]


def missed_modes(draws: Tensor, other: Tensor) -> list[_MissedMode]:
    """Modes of draws in which hardly any of the other draws lie, coordinate by coordinate.

    Args:
        draws: Draws (n, K), which may have two modes in some coordinates.
        other: Draws (m, K), which may miss one of them.
    """
    draws = _thinned(draws)
    other = _thinned(other)
    n = len(draws)
    if n < 2:
        return []
    ordered = draws.sort(0).values
    sums = ordered.cumsum(0)
    below = torch.arange(1, n, dtype=torch.float64, device=draws.device)[:, None]
    mean_below = sums[:-1] / below
    mean_above = (sums[-1] - sums[:-1]) / (n - below)
    # Otsu's split: the variance between the two sides is largest.
    between = below / n * (1 - below / n) * (mean_above - mean_below).square()
    explained, at = (between / ordered.var(0, correction=0)).nan_to_num(0.0).max(0)
    found = []
    for k in (explained > BIMODAL).nonzero()[:, 0].tolist():
        i = int(at[k])
        cut = float(ordered[i, k] + ordered[i + 1, k]) / 2
        low = float(mean_below[i, k])
        high = float(mean_above[i, k])
        if not _has_valley(draws[:, k], low, cut, high):
            continue
        for above in (False, True):
            share = _share(draws[:, k], cut, above)
            other_share = _share(other[:, k], cut, above)
            if share > MODE_SHARE and other_share < MISSED_SHARE * share:
                mode = _MissedMode(
                    coordinate=k, cut=cut, above=above, share=share, other_share=other_share
                )
                found.append(mode)
    return found


def _thinned(draws: Tensor) -> Tensor:
    """A bounded number of draws, evenly spaced, in float64."""
    step = max(1, len(draws) // _MODE_DRAWS)
    return draws[::step].double()


def _has_valley(draws: Tensor, low: float, cut: float, high: float) -> bool:
    """Whether fewer than half as many draws (n,) lie near the cut as near either of two centres."""
    reach = 0.1 * (high - low)
    at_low = _count_near(draws, low, reach)
    at_cut = _count_near(draws, cut, reach)
    at_high = _count_near(draws, high, reach)
    return at_cut < 0.5 * min(at_low, at_high)


def _count_near(draws: Tensor, centre: float, reach: float) -> int:
    """How many draws (n,) lie nearer to a centre than `reach`."""
    near = (draws - centre).abs() < reach
    return int(near.sum())


def _share(draws: Tensor, cut: float, above: bool) -> float:
    """The share of draws (n,) above a cut, or not above it."""
    return float(((draws > cut) == above).double().mean())


def _describe_missed_mode(comparison: Comparison, missed: list[_MissedMode]) -> list[Finding]:
    """A mode of MCMC that the guide is without: the one that most draws are in."""
    if not missed:
        return []
    mode = max(missed, key=lambda m: m.share)
    m = comparison.unconstrained
    coverage = float(m.coverage[-1, mode.coordinate])
    sentence = (
        f"{m.names[mode.coordinate]} has two modes: {mode.share:.0%} of the MCMC draws lie "
        f"{mode.side} {mode.cut:.3g}, where the guide has {mode.other_share:.1%} of its own. It is "
        f"mode-seeking: its 95 % interval holds {coverage:.0%} of the MCMC draws"
    )
    forward = comparison.divergence.get("KL(p‖q)")
    backward = comparison.divergence.get("KL(q‖p)")
    if forward is not None and backward is not None:
        sentence += f", KL(p‖q) is {forward} nats against {backward} for KL(q‖p)"
        if "exact" not in comparison.evidence:
            sentence += (
                "; the latter and k̂ cannot see the mode that is missed, since weights are drawn "
                "from the guide"
            )
    return [Finding("mode-seeking", sentence + ".")]


def _describe_extra_mode(m: Marginals, extra: list[_MissedMode]) -> list[Finding]:
    """A mode of the guide that MCMC is without: the one that most draws are in."""
    if not extra:
        return []
    mode = max(extra, key=lambda m: m.share)
    sentence = (
        f"{mode.share:.0%} of the guide's draws of {m.names[mode.coordinate]} lie {mode.side} "
        f"{mode.cut:.3g}, where MCMC has {mode.other_share:.1%}: either the guide invents a mode "
        "or MCMC has missed one."
    )
    return [Finding("extra-mode", sentence)]


def _check_moments(m: Marginals, without: set[int]) -> list[Finding]:
    """Standard deviations and means that are clearly off, some coordinates left out."""
    counted = torch.ones(len(m.names), dtype=torch.bool)
    counted[list(without)] = False
    errors_off = (m.sd_ratio - 1) / m.sd_ratio_error
    clearly_below = (errors_off < -CLEAR) | (m.sd_ratio == 0)
    narrow = counted & (m.sd_ratio < NARROW) & clearly_below
    wide = counted & (m.sd_ratio > WIDE) & (errors_off > CLEAR)
    shift = m.shift.abs()
    biased = counted & (shift > SHIFTED) & (shift > CLEAR * m.shift_error)
    return [
        *_describe_sd("under-dispersed", "too sure", m, narrow),
        *_describe_sd("over-dispersed", "too unsure", m, wide),
        *_describe_bias(m, biased),
    ]


def _describe_sd(tag: str, word: str, m: Marginals, which: Tensor) -> list[Finding]:
    """Coordinates (K,) whose standard deviation is off, and the worst of them."""
    if not bool(which.any()):
        return []
    i = _worst(which, m.sd_ratio.log().abs())
    sentence = (
        f"The guide is {word} of {_count(which)}: worst {m.names[i]}, whose sd is "
        f"{float(m.sd_ratio[i]):.2f} ± {float(m.sd_ratio_error[i]):.2f} times that of MCMC and "
        f"whose 95 % interval holds {float(m.coverage[-1, i]):.0%} of the MCMC draws."
    )
    return [Finding(tag, sentence)]


def _describe_bias(m: Marginals, which: Tensor) -> list[Finding]:
    """Coordinates (K,) whose mean is off, and the worst of them."""
    if not bool(which.any()):
        return []
    i = _worst(which, m.shift.abs())
    sentence = (
        f"The guide's mean is off for {_count(which)}: worst {m.names[i]}, by "
        f"{float(m.shift[i]):+.2f} ± {float(m.shift_error[i]):.2f} sd of MCMC."
    )
    return [Finding("biased", sentence)]


def _check_correlations(comparison: Comparison) -> list[Finding]:
    """The strongest correlation that the guide is without."""
    if not comparison.correlations or comparison.correlations["mcmc"].shape[-1] < 2:
        return []
    guide = comparison.correlations["guide"].nan_to_num(0.0)
    mcmc = comparison.correlations["mcmc"].nan_to_num(0.0)
    opposite = guide * mcmc < -0.01
    lost = torch.where(opposite, (mcmc - guide).abs(), mcmc.abs() - guide.abs())
    size = mcmc.shape[-1]
    block, entry = divmod(int(lost.argmax()), size**2)
    row, column = divmod(entry, size)
    first = block * size + min(row, column)
    second = block * size + max(row, column)
    m = comparison.unconstrained
    ess = max(float(torch.minimum(m.ess[first], m.ess[second]).nan_to_num(1.0)), 1.0)
    if float(lost[block, row, column]) < UNCORRELATED + CLEAR / math.sqrt(ess):
        return []
    sentence = (
        f"The guide lacks correlations: that of {m.names[first]} and {m.names[second]} is "
        f"{float(guide[block, row, column]):.2f} against {float(mcmc[block, row, column]):.2f} "
        "under MCMC; a full covariance or a flow, trained to the end, could follow."
    )
    return [Finding("correlations", sentence)]


def _check_support(comparison: Comparison) -> list[Finding]:
    """Whether MCMC goes where the guide cannot."""
    left_out = comparison.left_out
    if left_out is None or not bool(left_out.any()):
        return []
    where = ""
    if left_out.numel() > 1:
        where = f" for {int((left_out > 0).sum())} of {left_out.numel()} data"
    sentence = (
        f"The guide's support leaves out up to {float(left_out.max()):.2%} of the MCMC draws"
        f"{where}: KL(p‖q) is infinite, and k̂ and the weights of its draws cannot see what is "
        "left out; take a distribution on all of the prior's support. The evidence by importance "
        "and KL(q‖p) are corrected here, by the share of MCMC that is left out."
    )
    return [Finding("left-out", sentence)]


def _check_weights(comparison: Comparison) -> list[Finding]:
    """Whether the guide's importance weights exist, and their averages can be trusted."""
    if "importance" not in comparison.evidence:
        reason = comparison.unavailable["importance"]
        return [Finding("no-density", f"Neither k̂ nor KL: {reason}.")]
    k_hat = comparison.k_hat
    if k_hat is None:
        return []
    limit = k_hat_limit(comparison.particles)
    bad = k_hat > limit
    if not bool(bad.any()):
        return []
    where = ""
    if k_hat.numel() > 1:
        where = f" for {int(bad.sum())} of {k_hat.numel()} data"
    sentence = (
        f"The posterior has heavier tails than the guide{where}: k̂ is up to "
        f"{float(k_hat.max()):.2f} (above {limit:.2f}), so that importance weights can neither "
        "mend the guide nor give the evidence."
    )
    return [Finding("heavy-tails", sentence)]


def _summary(comparison: Comparison) -> str:
    """The numbers that speak for a guide, as part of a sentence."""
    m = comparison.unconstrained
    smallest = float(m.sd_ratio.min())
    largest = float(m.sd_ratio.max())
    shift = float(m.shift.abs().max())
    numbers = (
        f"its sds are {smallest:.2f} to {largest:.2f} times those of MCMC, its means within "
        f"{shift:.2f} sd"
    )
    if "KL(q‖p)" in comparison.divergence:
        numbers += f", KL(q‖p) is {comparison.divergence['KL(q‖p)']} nats"
    if comparison.k_hat is not None:
        numbers += f", k̂ at most {float(comparison.k_hat.max()):.2f}"
    return numbers


def _worst(which: Tensor, badness: Tensor) -> int:
    """The number of the worst among these coordinates (K,)."""
    return int(torch.where(which, badness, -1.0).nan_to_num(math.inf).argmax())


def _count(which: Tensor) -> str:
    """How many coordinates (K,) these are, in words."""
    if which.numel() == 1:
        return "the only coordinate"
    return f"{int(which.sum())} of {which.numel()} coordinates"
