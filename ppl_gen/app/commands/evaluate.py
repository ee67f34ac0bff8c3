"""`ppl-gen evaluate RUN`: a run judged in nats, by its draws, or by its translations."""

from __future__ import annotations

__all__ = ["check", "evaluate", "evaluate_along"]

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rich.console import Console

from ppl_gen.app.evaluation.asked import Asked, flags
from ppl_gen.app.evaluation.features import MOST, expect_features
from ppl_gen.app.evaluation.findings import Judged
from ppl_gen.app.evaluation.judges import judges_of
from ppl_gen.app.evaluation.statistics import LEAST
from ppl_gen.app.evaluation.subject import Subject
from ppl_gen.app.launched import Told
from ppl_gen.app.recipes import estimated_models
from ppl_gen.app.run.evaluation import Entry
from ppl_gen.app.run.opened import Fitted
from ppl_gen.app.signals import STOPS, stopped
from ppl_gen.inference.evidence.ais import expect_room_for_annealing
from ppl_gen.inference.samples.vectors import expect_permutations
from ppl_gen.ranks import ALONE, ProcessLost, Ranks

_ESTIMATES = ("ais", "bdmc", "gaps", "collapse", "epsilon")
_FEWEST_PERMUTATIONS = 19  # with which p can be as low as 0.05


def evaluate(
    fitted: Fitted, asked: Asked, console: Console, ranks: Ranks = ALONE
) -> dict[str, Entry]:
    """Scores a run on its test data, adds to evaluation.json, draws, and prints the tables.

    A program without a likelihood is judged by its draws or its translations, unless what is asked
    for says otherwise; under a noise that is asked for, it has a likelihood.

    Args:
        fitted: The run.
        asked: The options of the command.
        console: Where tables and sentences are printed.
        ranks: The processes that estimate evidence, of which this is the first.

    Returns:
        What was added to evaluation.json, by quantity.

    Raises:
        ValueError: Before work starts, if something is asked for that the run does not have, or an
            option has no effect; if the evidence is not finite.
    """
    recipe = fitted.recipe
    asked = check(fitted, asked)
    ranks.from_first(None)  # the others open the run
    subject = Subject(fitted, asked, ranks)
    count = len(subject.x)
    judged = Judged(fitted, asked)
    try:
        for part in judges_of(recipe):
            if part.is_wanted(asked):
                part.judge(subject, judged)
    except STOPS as stop:
        raise stopped(stop, f": {judged.saved()}; the rest is lost") from None
    if not (recipe.explicit or recipe.translates or asked.wants("epsilon")):
        judged.say(
            f"{recipe.name} has draws and no likelihood, and so no score in nats; under a "
            "little noise it has one: --epsilon 0.1"
        )
    subject.end()
    judged.show(f"{fitted.name}, {count} test data", console)
    return judged.found


def evaluate_along(asked: Asked, opened: Callable[[], Fitted], ranks: Ranks) -> None:
    """Estimates what process 0 asks for, on this process's share of the test data.

    Args:
        asked: The options of the command.
        opened: Opens the run, once process 0 has done so.
        ranks: The processes, of which this is not the first.

    Raises:
        Told: If another process has ended.
    """
    try:
        ranks.from_first(None)
        Subject(opened(), asked, ranks).estimate_along()
    except ProcessLost:
        raise Told from None


def check(fitted: Fitted, asked: Asked) -> Asked:
    """What a run is evaluated for, with what is taken where nothing is asked for.

    Args:
        fitted: The run.
        asked: The options of the command.

    Raises:
        ValueError: If something is asked for that the run does not have, or an option has no
            effect.
    """
    asked = _with_defaults(fitted, asked)
    _expect_heeded(fitted, asked)
    _expect_possible(fitted, asked)
    _expect_enough(fitted, asked)
    _expect_room(fitted, asked)
    return asked


def _with_defaults(fitted: Fitted, asked: Asked) -> Asked:
    """What a run without a likelihood is judged by where nothing is asked for."""
    asks = asked.wants("moments") or asked.wants("two_sample") or asked.wants("epsilon")
    if fitted.recipe.explicit or asks:
        return asked
    return replace(asked, moments=not fitted.recipe.translates, two_sample=True)


def _expect_possible(fitted: Fitted, asked: Asked) -> None:
    """Raises ValueError if something is asked for that the run does not have."""
    recipe = fitted.recipe
    anneals = asked.ais or asked.bdmc
    _expect_not_exact(fitted, asked)
    if recipe.translates and (anneals or asked.wants("epsilon")):
        raise ValueError(
            f"expected a run that draws data for --ais, --bdmc or --epsilon, got {recipe.name}; "
            "its translations are judged by --moments and --two-sample"
        )
    for option in ("epsilon", "moments", "two_sample"):
        if asked.wants(option):
            fitted.expect_numbers("--" + option.replace("_", "-"))
    for option in ("moments", "two_sample"):
        if asked.wants(option):
            fitted.expect_complete("--" + option.replace("_", "-"))
    for option in ("gaps", "collapse"):
        if asked.wants(option):
            fitted.expect_guide(f"--{option}")
            fitted.expect_continuous(f"--{option}")
    if anneals and not recipe.explicit and not asked.wants("epsilon"):
        raise ValueError(
            f"{recipe.name} has no likelihood for --ais or --bdmc; say --epsilon 0.1, and it has "
            "one"
        )
    for dataset in _datasets(fitted):
        expect_features(asked.features, dataset)


def _expect_not_exact(fitted: Fitted, asked: Asked) -> None:
    """Raises ValueError if an estimate is asked for of what is known."""
    if not fitted.recipe.exact:
        return
    estimates = [name for name in _ESTIMATES if asked.wants(name)]
    if "particles" in asked.given:
        estimates.append("particles")
    if estimates:
        raise ValueError(
            f"expected --moments or --two-sample for a {fitted.recipe.name}, whose log p(x) is "
            f"exact, got {flags(estimates)}; leave it out"
        )


def _expect_heeded(fitted: Fitted, asked: Asked) -> None:
    """Raises ValueError if an option was given that nothing of what is asked for depends on."""
    if "particles" in asked.given and not fitted.recipe.explicit:
        raise ValueError(
            f"--particles is an option of {', '.join(estimated_models())}, got it for "
            f"{fitted.recipe.name}; leave it out"
        )
    asked.expect_heeded()


def _expect_enough(fitted: Fitted, asked: Asked) -> None:
    """Raises ValueError if there are too few data, or too few permutations, for what is asked."""
    if asked.moments or asked.two_sample:
        count = min(len(dataset.test) for dataset in _datasets(fitted))
        if asked.limit is not None:
            count = min(count, asked.limit)
        if count < LEAST:
            raise ValueError(
                f"expected at least {LEAST} test data for --moments and --two-sample, got {count}; "
                "raise --limit, or give more data"
            )
    is_tested = asked.moments or asked.two_sample
    if is_tested and asked.permutations < _FEWEST_PERMUTATIONS:
        raise ValueError(
            f"expected at least {_FEWEST_PERMUTATIONS} permutations, for a p-value of 0.05, got "
            f"{asked.permutations}"
        )


def _expect_room(fitted: Fitted, asked: Asked) -> None:
    """Raises ValueError if chains, temperatures or permutations do not fit into memory."""
    values = math.prod(_datasets(fitted)[0].shape)
    if asked.ais or asked.bdmc or asked.gaps or asked.wants("epsilon"):
        expect_room_for_annealing(asked.chains, asked.temperatures, values, fitted.device)
    if asked.moments or asked.two_sample:
        test = min(len(dataset.test) for dataset in _datasets(fitted))
        expect_permutations(asked.permutations, 2 * min(test, asked.limit or MOST))


def _datasets(fitted: Fitted) -> list[Any]:
    """The data set of a run, or both of one between two domains."""
    if fitted.recipe.translates:
        return [fitted.data.a, fitted.data.b]
    return [fitted.data]
