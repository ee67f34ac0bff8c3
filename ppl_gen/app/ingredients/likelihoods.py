"""Likelihoods by name, and whether data lie in the support of one."""

from __future__ import annotations

__all__ = ["LIKELIHOODS", "check_support", "likelihood"]

from collections.abc import Callable
from typing import Any

from torch import nn

from ppl_gen import likelihoods
from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.conditioning import Conditioning
from ppl_gen.data import Dataset, Split, StreamedSplit
from ppl_gen.inference.checks import check

_CHECKED = 256  # data of a split whose values change from one reading to the next

# By name, from the number of grey levels of the data.
LIKELIHOODS: dict[str, Callable[[int], nn.Module]] = {
    "bernoulli": lambda levels: likelihoods.Bernoulli(),
    "continuous-bernoulli": lambda levels: likelihoods.ContinuousBernoulli(),
    "gaussian": lambda levels: likelihoods.Gaussian(),
    "heteroscedastic-gaussian": lambda levels: likelihoods.HeteroscedasticGaussian(),
    "laplace": lambda levels: likelihoods.Laplace(),
    "discretized-logistic": lambda levels: likelihoods.DiscretizedLogistic(levels=levels),
    "categorical": lambda levels: likelihoods.Categorical(levels),
}


def likelihood(config: Config, data: Dataset) -> nn.Module:
    """The likelihood of a configuration, for the grey levels of its data."""
    make = LIKELIHOODS[config.likelihood]
    return make(data.train.levels)


def check_support(program: Any, data: Dataset, condition: Conditioning | None) -> None:
    """Raises ValueError if training or test data do not suit a program with a likelihood.

    All data are looked at where they are the same at every reading; the first of them if they are
    streamed, or binarised anew each time.

    Args:
        program: With a likelihood and a guide.
        data: What it is to be fitted to.
        condition: What it is conditioned on, None if nothing.
    """
    for split in (data.train, data.test):
        shown = _to_check(split)
        if condition is None:
            check(program, program.guide, shown.x)
        else:
            check(program, program.guide, shown.x, *condition.context(shown))


def _to_check(split: Split | StreamedSplit) -> Split:
    if isinstance(split, Split) and split.binarize is None:
        return split
    return split.fixed(0, min(len(split), _CHECKED))
