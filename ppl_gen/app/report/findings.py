"""The verdict of a report: what the results of a run say in words, and what speaks against them."""

from __future__ import annotations

__all__ = ["headlines", "verdict_of", "warnings"]

import math
from collections.abc import Iterable, Mapping
from operator import le
from typing import Any

from ppl_gen.app.report import commands
from ppl_gen.app.report.numbers import number, number_of, spelled
from ppl_gen.app.report.subject import Subject
from ppl_gen.inference.findings import Finding, Verdict

_WIDE = 1.0  # nats of a datum, from which on bounds from both sides leave the evidence open
_LEVEL = 0.05  # of all p-values together, below which draws are told from data
_LARGEST_R_HAT = 1.01
_ERRORS = 4  # by which bounds may be crossed by chance


def verdict_of(subject: Subject) -> Verdict:
    """What a run comes to: its numbers in sentences, then what speaks against them.

    Args:
        subject: The run.

    Returns:
        It passes where nothing speaks against what was judged; None where nothing was judged.
    """
    against = warnings(subject)
    passes: bool | None = not against
    if not against and not _is_judged(subject):
        passes = None
    return Verdict((*headlines(subject), *against), passes=passes)


def headlines(subject: Subject) -> list[Finding]:
    """What was fitted and what was found of it, each in a sentence.

    Args:
        subject: The run.
    """
    return [
        *_fit(subject),
        *_evidence(subject),
        *_latents(subject),
        *_draws(subject),
        *_cycle(subject),
        *_guide(subject),
        *_nothing(subject),
    ]


def warnings(subject: Subject) -> list[Finding]:
    """What speaks against the results of a run, each with a remedy.

    Args:
        subject: The run.
    """
    return [
        *_unfinished(subject),
        *_not_finite(subject),
        *_stale(subject),
        *_other_data(subject),
        *_heavy_tails(subject),
        *_sandwich(subject),
        *_collapse(subject),
        *_moments_off(subject),
        *_told_apart(subject),
        *_chains(subject),
    ]


def _is_judged(subject: Subject) -> bool:
    has_comparison = subject.comparison is not None
    return has_comparison or any(subject.is_current(e) for e in subject.entries.values())


def _fit(subject: Subject) -> list[Finding]:
    if subject.done is None:
        return []
    count = f"{subject.numbers:,} numbers in its weights"
    if not subject.run.config.passes:
        said = f"{subject.words}: computed from the data in one go; {count}."
    elif subject.stopped_early:
        said = (
            f"{subject.words}: stopped after epoch {subject.done}, since data held out had not "
            f"gained for a while; the weights are those of epoch {subject.epoch}; {count}."
        )
    else:
        epochs = "1 epoch"
        if subject.done != 1:
            epochs = f"{subject.done} epochs"
        said = f"{subject.words}: fitted for {epochs}; {count}."
    return [Finding("fitted", said)]


def _evidence(subject: Subject) -> list[Finding]:
    entry = subject.current("log_evidence")
    if entry is None:
        return []
    value = number_of(entry, "value")
    if value is None:
        return []
    said = (
        f"log p(x) of a test datum is {spelled(value, number_of(entry, 'standard_error'))} nats on "
        f"average, over {entry.get('data')} data"
    )
    bound = subject.current("elbo")
    if bound is not None and number_of(bound, "value") is not None:
        gap = value - (number_of(bound, "value") or 0.0)
        said += f"; the ELBO is {gap:.3g} nats below"
    spread = number_of(entry, "sampling_error")
    if spread is not None:
        said += f"; another test set of this size would move it by about {spread:.2g}"
    return [Finding("evidence", f"{said}.")]


def _latents(subject: Subject) -> list[Finding]:
    entry = subject.current("collapse")
    if entry is None or entry.get("collapsed") is True:
        return []
    return _found("latents", entry)


def _draws(subject: Subject) -> list[Finding]:
    entry = subject.current("moments")
    if entry is None or entry.get("matched") is False:
        return []
    return _found("moments", entry)


def _cycle(subject: Subject) -> list[Finding]:
    entry = subject.current("cycle")
    if entry is None or number_of(entry, "ratio") is None:
        return []
    return [
        Finding(
            "cycle",
            f"There and back an image loses {number_of(entry, 'ratio'):.2f} of what the mean image "
            "would, in the worse direction.",
        )
    ]


def _guide(subject: Subject) -> list[Finding]:
    said = []
    gaps = subject.current("gaps")
    if gaps is not None:
        said += _found("gaps", gaps)
    bounds = subject.current("bdmc")
    if bounds is not None and isinstance(bounds.get("verdict"), str):
        said += _found("bounds", bounds, "On data drawn from the model ")
    found = subject.comparison
    if found is not None and found.get("passes") is True and subject.is_current(found):
        for _, sentence in found["findings"]:
            said.append(Finding("mcmc", _ended(f"Against MCMC: {sentence}")))
    return said


def _nothing(subject: Subject) -> list[Finding]:
    """What the run has no number of, and what would give it."""
    said = []
    if not subject.recipe.explicit and not subject.recipe.translates:
        said.append(
            Finding(
                "no-likelihood",
                f"A {subject.run.config.model} draws data and has no likelihood, and so no score "
                "in nats: it is judged by its draws.",
            )
        )
    if not _is_judged(subject) and subject.done is not None:
        command = commands.evaluating(subject.folder)
        said.append(Finding("not-judged", f"Nothing has been judged yet; that is `{command}`."))
    return said


def _unfinished(subject: Subject) -> list[Finding]:
    if subject.is_finished:
        return []
    command = commands.resuming(subject.run)
    if subject.done is None:
        said = (
            f"The fit stopped before its first checkpoint, without weights; go on with `{command}`."
        )
        return [Finding("unfinished", said)]
    return [
        Finding(
            "unfinished",
            f"The fit stopped after epoch {subject.done} of {subject.run.config.passes}, or is "
            f"still running; go on with `{command}`.",
        )
    ]


def _not_finite(subject: Subject) -> list[Finding]:
    if not subject.records:
        return []
    last = subject.records[-1]
    odd = [name for name, value in last.metrics.items() if math.isinf(value)]
    if not odd:
        return []
    return [
        Finding(
            "not-finite",
            f"Not finite in epoch {last.epoch}: {', '.join(odd)}; fit anew with a lower --lr.",
        )
    ]


def _stale(subject: Subject) -> list[Finding]:
    """Results of other weights than the present ones."""
    old = {}
    for name, entry in {**subject.entries, **subject.looks}.items():
        if not subject.is_current(entry):
            old[name] = entry["epoch"]
    found = subject.comparison
    if found is not None and "epoch" in found and not subject.is_current(found):
        old["compare"] = found["epoch"]
    if not old:
        return []
    names = ", ".join([f"{name} (epoch {epoch})" for name, epoch in old.items()])
    return [
        Finding(
            "stale",
            f"Found of other weights than those of now, epoch {subject.epoch}: {names}. Find them "
            f"anew, beginning with `{commands.evaluating(subject.folder)}`.",
        )
    ]


def _other_data(subject: Subject) -> list[Finding]:
    if not subject.changed:
        return []
    return [Finding("other-data", f"The numbers are of former data: {subject.changed}.")]


def _heavy_tails(subject: Subject) -> list[Finding]:
    entry = subject.current("log_evidence")
    share = entry and number_of(entry, "k_hat_above_limit")
    if entry is None or not share:
        return []
    limit = number_of(entry, "k_hat_limit") or math.nan
    annealing = commands.evaluating(subject.folder, "ais")
    return [
        Finding(
            "heavy-tails",
            f"Pareto k̂ is above {limit:.2f} for {share:.1%} of the data: their weights have heavy "
            "tails, and their evidence is likely higher; raise --particles, or take "
            f"`{annealing}`.",
        )
    ]


def _sandwich(subject: Subject) -> list[Finding]:
    entry = subject.current("bdmc")
    if entry is None:
        return []
    gap = _part(entry, "gap")
    value = number_of(gap, "value")
    if value is None:
        return []
    error = number_of(gap, "standard_error") or 0.0
    more = commands.evaluating(subject.folder, "bdmc", {"temperatures": 10_000})
    if value < -_ERRORS * error:
        said = (
            f"The bounds of BDMC are crossed by {spelled(-value, error)} nats, more than chance "
            "explains: the program scores data otherwise than it draws them."
        )
        return [Finding("crossed", said)]
    if value <= _WIDE:
        return []
    return [
        Finding(
            "wide-sandwich",
            f"The bounds of BDMC are {spelled(value, error)} nats apart, more than {_WIDE:g}: AIS "
            f"may be too low by as much; take more temperatures: `{more}`.",
        )
    ]


def _collapse(subject: Subject) -> list[Finding]:
    entry = subject.current("collapse")
    if entry is None or entry.get("collapsed") is not True:
        return []
    return _found("collapsed", entry, "Posterior collapse: ")


def _moments_off(subject: Subject) -> list[Finding]:
    said = []
    for name, entry in _moments_of(subject).items():
        if entry.get("matched") is False:
            said += _found("moments-off", entry, name)
    return said


def _moments_of(subject: Subject) -> dict[str, Mapping[str, Any]]:
    """What was found of moments, by the words that begin a sentence on them."""
    found: dict[str, Mapping[str, Any]] = {}
    own = subject.current("moments")
    if own is not None:
        found["Draws: "] = own
    for direction in ("a_to_b", "b_to_a"):
        entry = subject.current(direction)
        if entry is not None and isinstance(entry.get("moments"), dict):
            found[f"Translations {direction.replace('_', ' ')}: "] = entry["moments"]
    return found


def _told_apart(subject: Subject) -> list[Finding]:
    said = []
    for quantity in ("two_sample", "a_to_b", "b_to_a"):
        entry = subject.current(quantity)
        if entry is None:
            continue
        tested = {}
        for name, part in entry.items():
            if isinstance(part, dict) and number_of(part, "p_value") is not None:
                tested[name] = number_of(part, "p_value") or 0.0
        if not tested:
            continue
        if not _rejects(tested.values()):
            continue
        name = min(tested, key=tested.__getitem__)
        words = "Draws"
        if quantity != "two_sample":
            words = f"Translations {quantity.replace('_', ' ')}"
        said.append(
            Finding(
                "told-apart",
                f"{words} are told from test data: p = {tested[name]:.2g} by the {name}, the "
                f"smallest of {len(tested)} tests.",
            )
        )
    return said


def _rejects(p_values: Iterable[float]) -> bool:
    """Whether p-values together are smaller than chance makes them, by the test of Simes.

    It holds for statistics that are large together, as distances of the same samples are.
    """
    ordered = sorted(p_values)
    limits = [_LEVEL * rank / len(ordered) for rank in range(1, len(ordered) + 1)]
    return any(map(le, ordered, limits))


def _chains(subject: Subject) -> list[Finding]:
    """What speaks against the guide, or against the chains that it was held against."""
    found = subject.comparison
    if found is None or not subject.is_current({"epoch": subject.epoch, **found}):
        return []
    said = []
    for tag, sentence in found["findings"]:
        if found.get("passes") is not True:
            said.append(Finding(tag, _ended(f"Against MCMC: {sentence}")))
    r_hat = number_of(found, "r_hat_largest")
    if r_hat is not None and r_hat > _LARGEST_R_HAT:
        longer = commands.comparing(subject.folder, {**found.get("options", {}), "warmup": 2000})
        said.append(
            Finding(
                "not-converged",
                f"R̂ of the chains is up to {r_hat:.4g}, above {_LARGEST_R_HAT}: warm up longer, "
                f"`{longer} --overwrite`.",
            )
        )
    return said


def _part(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = entry.get(name)
    if isinstance(part, dict):
        return part
    return {"value": number(part)}


def _found(tag: str, entry: Mapping[str, Any], begin: str = "") -> list[Finding]:
    """The verdict of an entry, which is a sentence or a list of them, each a finding.

    Args:
        tag: Of all of them.
        entry: What was found.
        begin: Stands before the first sentence.
    """
    verdict = entry.get("verdict")
    sentences = [verdict]
    if isinstance(verdict, list):
        sentences = verdict
    said = []
    for sentence in sentences:
        said.append(Finding(tag, _ended(f"{begin}{sentence or 'see the numbers'}")))
        begin = ""
    return said


def _ended(sentence: str) -> str:
    """A sentence with a capital letter and a full stop."""
    words = sentence.strip()
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."
