"""Likelihoods by name, and whether data lie in the support of one."""

from __future__ import annotations

__all__ = ["LIKELIHOODS", "check_support", "likelihood"]

import inspect
from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config

# Torch is imported when a likelihood is made: the help of the command lists their names.
if TYPE_CHECKING:
    from torch import nn

    from ppl_gen.app.ingredients.conditioning import Conditioning
    from ppl_gen.data import Dataset, Split, StreamedSplit

_CHECKED = 256  # data of a split whose values change from one reading to the next

# By name, the class in `ppl_gen.likelihoods`.
LIKELIHOODS = {
    "bernoulli": "Bernoulli",
    "continuous-bernoulli": "ContinuousBernoulli",
    "gaussian": "Gaussian",
    "heteroscedastic-gaussian": "HeteroscedasticGaussian",
    "laplace": "Laplace",
    "discretized-logistic": "DiscretizedLogistic",
    "categorical": "Categorical",
}


def likelihood(config: Config, data: Dataset) -> nn.Module:
    """The likelihood of a configuration; one that takes `levels` is given the data's grey levels.

    Args:
        config: What was asked for.
        data: What the program is to be fitted to.
    """
    from ppl_gen import likelihoods

    kind = getattr(likelihoods, LIKELIHOODS[config.likelihood])
    if "levels" in inspect.signature(kind).parameters:
        return kind(levels=data.train.levels)
    return kind()


def check_support(program: Any, data: Dataset, condition: Conditioning | None) -> None:
    """Raises ValueError if training or test data do not suit a program with a likelihood.

    All data are looked at where they are the same at every reading; the first of them if they are
    streamed, or binarised anew each time.

    Args:
        program: With a likelihood and a guide.
        data: What it is to be fitted to.
        condition: What it is conditioned on, None if nothing.
    """
    from ppl_gen.inference.checks import check

    for split in (data.train, data.test):
        shown = _to_check(split)
        if condition is None:
            check(program, program.guide, shown.x)
        else:
            check(program, program.guide, shown.x, *condition.context(shown))


def _to_check(split: Split | StreamedSplit) -> Split:
    from ppl_gen.data import Split

    if isinstance(split, Split) and split.binarize is None:
        return split
    return split.fixed(0, min(len(split), _CHECKED))
