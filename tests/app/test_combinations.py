"""Parts combine freely: every prior, likelihood, guide and objective with every other."""

from __future__ import annotations

import itertools
import random

import pytest
from combinations import ALL, GUIDES, LIKELIHOODS, OBJECTIVES, PRIORS, Combination, train_one_epoch

from ppl_gen.testing import check_program

# Latents that lie in a part of space: what prior has them, and what guide. All others are numbers.
HOME_OF_PRIOR = {"uniform": "cube", "hypersphere": "sphere"}
HOME_OF_GUIDE = {"bounded": "cube", "on-sphere": "sphere"}


def complaint(combination: Combination) -> str:
    """What is wrong with a combination; empty if it trains and the laws hold.

    Parts whose latents lie in different places are to be refused by their supports, or, where the
    guide merely leaves out a part of the prior's, warned of.
    """
    prior, _, guide, _ = combination
    home = HOME_OF_PRIOR.get(prior)
    if prior == "vamp":  # made of the guide
        home = HOME_OF_GUIDE.get(guide)
    makes_sense = home == HOME_OF_GUIDE.get(guide)
    try:
        program, x = train_one_epoch(*combination)
        check_program(program, x)
    except AssertionError as broken:
        return f"{combination} breaks a law: {broken}"
    except (ValueError, RuntimeWarning) as refusal:
        if makes_sense or "support" not in str(refusal):
            return f"{combination} is refused: {refusal}"
        return ""
    if not makes_sense:
        return f"{combination} is not refused"
    return ""


def sample(count: int) -> list[Combination]:
    """Combinations at random, then those of each part that is in none of them yet."""
    shuffled = ALL.copy()
    random.Random(0).shuffle(shuffled)
    chosen = shuffled[:count]
    for combination in shuffled[count:]:
        seen = set(itertools.chain(*map(enumerate, chosen)))
        if not set(enumerate(combination)) <= seen:
            chosen.append(combination)
    return chosen


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("combination", sample(25), ids="-".join)
def test_some_combinations(combination: Combination) -> None:
    assert not complaint(combination)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("prior", PRIORS)
def test_all_combinations(prior: str, likelihood: str, guide: str) -> None:
    complaints = [complaint((prior, likelihood, guide, objective)) for objective in OBJECTIVES]
    assert not any(complaints), "\n".join(complaints)
