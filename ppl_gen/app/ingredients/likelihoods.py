"""Likelihoods by name, and whether data lie in the support of one."""

from __future__ import annotations

__all__ = ["LIKELIHOODS", "check_support"]

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ppl_gen.app.ingredients.parts import Part, Setting, known_arguments, table_of

# Torch is imported when a likelihood is made: the help of the command lists their names.
if TYPE_CHECKING:
    from ppl_gen.app.ingredients.conditioning import Conditioning
    from ppl_gen.data import Dataset, Split, StreamedSplit

_CHECKED = 256  # data of a split whose values change from one reading to the next


def _of_class(name: str) -> Callable[[Setting], Any]:
    """What makes a likelihood of a class of `ppl_gen.likelihoods`.

    The class is given `levels`, the number of the data's grey levels, `channels`, that of their
    channels, and `scale`, the option of this name, where it takes arguments of these names.

    Args:
        name: Of the class.
    """

    def make(setting: Setting) -> Any:
        from ppl_gen import likelihoods

        kind = getattr(likelihoods, name)
        known = {
            "levels": setting.data.train.levels,
            "channels": setting.data.shape[0],
            "scale": getattr(setting.config, "scale", None),
        }
        return kind(**known_arguments(kind, known))

    return make


def _zero_inflated(name: str) -> Callable[[Setting], Any]:
    """What makes a zero-inflated likelihood of a class of `ppl_gen.likelihoods`.

    Args:
        name: Of the class.
    """

    def make(setting: Setting) -> Any:
        from ppl_gen import likelihoods

        return likelihoods.ZeroInflated(_of_class(name)(setting))

    return make


# Imports of torch and Pyro belong into the functions above: the command's help reads this table.
LIKELIHOODS = table_of(
    Part(
        name="bernoulli",
        text="0 or 1 with probability sigmoid(f(z)), for binary pixels",
        example="vae --likelihood bernoulli",
        make=_of_class("Bernoulli"),
    ),
    Part(
        name="continuous-bernoulli",
        text="a density on [0, 1], for grey values",
        example="vae --likelihood continuous-bernoulli",
        make=_of_class("ContinuousBernoulli"),
    ),
    Part(
        name="gaussian",
        text="N(x; f(z), s²), s learned or --scale",
        example="vae --likelihood gaussian --scale 0.1",
        make=_of_class("Gaussian"),
        heeds=("scale",),
    ),
    Part(
        name="heteroscedastic-gaussian",
        text="N(x; f(z), s(z)²), mean and scale for every value",
        example="vae --likelihood heteroscedastic-gaussian",
        make=_of_class("HeteroscedasticGaussian"),
    ),
    Part(
        name="laplace",
        text="exp(-|x - f(z)| / s) / 2s, s learned or --scale",
        example="vae --likelihood laplace",
        make=_of_class("Laplace"),
        heeds=("scale",),
    ),
    Part(
        name="discretized-logistic",
        text="a logistic on the grid of grey levels, s learned or --scale",
        example="vae --likelihood discretized-logistic",
        make=_of_class("DiscretizedLogistic"),
        heeds=("scale",),
    ),
    Part(
        name="categorical",
        text="a probability for each of the grey levels",
        example="vae --likelihood categorical",
        make=_of_class("Categorical"),
    ),
    Part(
        name="isotropic-gaussian",
        text="N(x; f(z), s(z)² I), one scale for every datum",
        example="vae --likelihood isotropic-gaussian",
        make=_of_class("IsotropicGaussian"),
    ),
    Part(
        name="student-t",
        text="Student's t of 4 degrees of freedom around f(z), for outliers",
        example="vae --likelihood student-t --scale 0.1",
        make=_of_class("StudentT"),
        heeds=("scale",),
    ),
    Part(
        name="log-normal",
        text="log x ~ N(f(z), s²), for numbers above 0",
        example="vae --likelihood log-normal --binarize dequantize",
        make=_of_class("LogNormal"),
        heeds=("scale",),
    ),
    Part(
        name="beta",
        text="Beta by mean and precision, for values between 0 and 1 without ends",
        example="vae --likelihood beta --binarize dequantize",
        make=_of_class("Beta"),
    ),
    Part(
        name="poisson",
        text="counts of mean exp(f(z))",
        example="vae --likelihood poisson --binarize threshold",
        make=_of_class("Poisson"),
    ),
    Part(
        name="negative-binomial",
        text="counts of mean exp(f(z)) that vary more than Poisson's",
        example="vae --likelihood negative-binomial --binarize threshold",
        make=_of_class("NegativeBinomial"),
    ),
    Part(
        name="zero-inflated-poisson",
        text="Poisson's counts beside zeros of their own",
        example="vae --likelihood zero-inflated-poisson --binarize threshold",
        make=_zero_inflated("Poisson"),
    ),
    Part(
        name="zero-inflated",
        text="negative binomial counts beside zeros of their own",
        example="vae --likelihood zero-inflated --binarize threshold",
        make=_zero_inflated("NegativeBinomial"),
    ),
    Part(
        name="discretized-mixture",
        text="a mixture of 10 logistics on the grid of colours, as PixelCNN++'s",
        example="vae --likelihood discretized-mixture",
        make=_of_class("DiscretizedMixture"),
    ),
)


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
