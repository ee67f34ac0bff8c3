"""What `ppl-gen evaluate` runs for a model, in order."""

from __future__ import annotations

__all__ = [
    "ERROR",
    "EXACT",
    "EXPLICIT",
    "IMPLICIT",
    "INFORMATION",
    "LABELS",
    "TRANSLATING",
    "Judge",
    "judges_of",
]

from collections.abc import Callable
from typing import NamedTuple

from ppl_gen.app.evaluation import (
    by_likelihood,
    by_reconstruction,
    by_samples,
    by_translations,
)
from ppl_gen.app.evaluation.asked import Asked
from ppl_gen.app.evaluation.findings import Judged
from ppl_gen.app.evaluation.subject import Subject
from ppl_gen.app.ingredients.recipe import Recipe


class Judge(NamedTuple):
    """One part of an evaluation.

    Attributes:
        option: The option that asks for it, an attribute of `Asked`; None for a part that is always
            run.
        judge: Looks at the subject, and adds what it finds.
    """

    option: str | None
    judge: Callable[[Subject, Judged], None]

    def is_wanted(self, asked: Asked) -> bool:
        """Whether this part was asked for."""
        return self.option is None or asked.wants(self.option)


_NOISE = Judge("epsilon", by_likelihood.score_under_noise)
_MOMENTS = Judge("moments", by_samples.compare_moments)
_TWO_SAMPLE = Judge("two_sample", by_samples.compare_samples)

# Of a program with a likelihood and a guide.
EXPLICIT = (
    Judge(None, by_likelihood.score_by_weights),
    Judge("ais", by_likelihood.score_by_ais),
    Judge("bdmc", by_likelihood.bound_by_bdmc),
    Judge("gaps", by_likelihood.split_gap),
    Judge("collapse", by_likelihood.look_for_collapse),
    _NOISE,
    _MOMENTS,
    _TWO_SAMPLE,
)

# Of a program that knows log p(x).
EXACT = (Judge(None, by_likelihood.score_exactly), _MOMENTS, _TWO_SAMPLE)

# Of an autoencoder with a density of its codes; before the others.
ERROR = Judge(None, by_reconstruction.measure_error)

# Of such a program that infers labels; after the others.
LABELS = Judge(None, by_likelihood.score_labels)

# Of a program that draws data and has no likelihood.
IMPLICIT = (_NOISE, _MOMENTS, _TWO_SAMPLE)

# Of such a program with latent codes that a network reads from its draws; after the others.
INFORMATION = Judge("two_sample", by_samples.measure_information)

# Of a program that translates between two domains.
TRANSLATING = (Judge(None, by_translations.judge_translations),)


def judges_of(recipe: Recipe) -> tuple[Judge, ...]:
    """The judges for a model, in the order in which they are run."""
    if recipe.infers_labels:
        return (*EXPLICIT, LABELS)
    if recipe.exact:
        return EXACT
    if recipe.autoencodes:
        return (ERROR, *EXPLICIT)
    if recipe.explicit:
        return EXPLICIT
    if recipe.translates:
        return TRANSLATING
    if recipe.code_site:
        return (*IMPLICIT, INFORMATION)
    return IMPLICIT
