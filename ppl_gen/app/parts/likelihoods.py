"""Likelihoods by name, which of them suits data, and whether data lie in the support of one."""

from __future__ import annotations

__all__ = [
    "LIKELIHOODS",
    "MASKED",
    "check_likelihood",
    "check_support",
    "in_colour",
    "is_masked",
    "likelihood_named",
    "suited",
]

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ppl_gen.app.parts.own import check_form, is_own
from ppl_gen.app.parts.part import Part, Setting, known_arguments, table_of
from ppl_gen.names import resolve

# Torch is imported when a likelihood is made: the help of the command lists their names.
if TYPE_CHECKING:
    from ppl_gen.app.parts.conditioning import Conditioning
    from ppl_gen.data import Dataset, Split, StreamedSplit

MASKED = "masked"
_CHECKED = 256  # data of a split whose values change from one reading to the next
_CHANNELS = 3  # of images in colour
_BINARY = ("threshold", "static", "dynamic")


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


def _masked_suited(setting: Setting) -> Any:
    """The likelihood that suits the data, of what is observed."""
    binarize = getattr(setting.config, "binarize", None)
    return likelihood_named(suited(MASKED, setting.data, binarize)).make(setting)


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
    Part(
        name=MASKED,
        text="data with NaN: bernoulli or gaussian of the rest; masked-beta, ...",
        example="vae --likelihood masked",
        make=_masked_suited,
    ),
)


def is_masked(word: str | None) -> bool:
    """Whether a likelihood is of what is observed: "masked", or "masked-" before another name.

    Args:
        word: What was typed.
    """
    return word is not None and (word == MASKED or word.startswith(f"{MASKED}-"))


def check_likelihood(flag: str, word: str) -> None:
    """Raises ValueError unless a word names a likelihood of the table, masked or not, or of a user.

    Args:
        flag: Of the option, for the message.
        word: What was typed.
    """
    if is_own(word):
        check_form(flag, word)
        return
    name = word.removeprefix(f"{MASKED}-")
    known = list(LIKELIHOODS)
    if name != word:
        known.remove(MASKED)
    resolve("likelihood", name, known)


def likelihood_named(word: str) -> Part:
    """The likelihood of a name; of "masked-gaussian" and the like, Masked(...) of the other.

    Args:
        word: A name that is known.
    """
    if word in LIKELIHOODS:
        return LIKELIHOODS[word]
    whole = LIKELIHOODS[word.removeprefix(f"{MASKED}-")]

    def make(setting: Setting) -> Any:
        from ppl_gen.likelihoods import Masked

        return Masked(whole.make(setting))

    return replace(whole, name=word, example=f"vae --likelihood {word}", make=make)


def suited(word: str | None, data: Dataset, binarize: str | None) -> str:
    """The name of the likelihood that suits data, where none was named, or no more than "masked".

    Images in colour have a Gaussian: drawn pixel by pixel and channel by channel, binary ones are
    coloured noise. So have the standardised columns of a table. Other data, and colours that are to
    be made binary, have a Bernoulli; so has what is observed of data, where it is from 0 to 1.

    Args:
        word: What was named: None or "masked".
        data: Not binarised.
        binarize: What is to be done to them.
    """
    is_continuous = in_colour(data) or data.columns is not None
    is_continuous = is_continuous or (word == MASKED and not _within_one(data.train))
    name = "bernoulli"
    if is_continuous and binarize not in _BINARY:
        name = "gaussian"
    if word == MASKED:
        return f"{MASKED}-{name}"
    return name


def in_colour(data: Dataset) -> bool:
    """Whether data are images of three channels."""
    return len(data.shape) == 3 and data.shape[0] == _CHANNELS


def _within_one(split: Split | StreamedSplit) -> bool:
    """Whether all that is observed of data is from 0 to 1."""
    from ppl_gen.data import StreamedSplit

    if isinstance(split, StreamedSplit):
        least, most = split.extremes
        return least >= 0 and most <= 1
    x = split.x
    is_outside = (x < 0) | (x > 1)
    return not bool(is_outside.any())


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
