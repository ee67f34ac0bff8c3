"""A run between two domains: what the way there and back loses, and what translations look like."""

from __future__ import annotations

__all__ = ["judge_translations"]

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

from ppl_gen import plots
from ppl_gen.app.evaluation.by_samples import confusion_counts, moments_entry
from ppl_gen.app.evaluation.features import MOST, choose
from ppl_gen.app.evaluation.findings import Judged, value_and_error
from ppl_gen.app.evaluation.statistics import rows, table
from ppl_gen.app.evaluation.subject import Subject
from ppl_gen.contexts import evaluating
from ppl_gen.data import Dataset, Split
from ppl_gen.inference import cycle_errors
from ppl_gen.inference.games.cycle import CycleErrors
from ppl_gen.inference.samples.features import Classifier
from ppl_gen.inference.samples.moments import moments
from ppl_gen.plots.style import literal

_AT_ONCE = 500  # images that are translated in one call


@dataclass(frozen=True, kw_only=True)
class _Direction:
    """One of the two directions of translation.

    Attributes:
        name: "a_to_b" or "b_to_a", in files.
        source: The test images that are translated.
        target: The domain that they are translated into.
        there: Test images of that domain.
        translator: From images of the one domain to images of the other.
    """

    name: str
    source: Split
    target: Dataset
    there: Split
    translator: Any

    @property
    def words(self) -> str:
        """The name for people: "a to b"."""
        return self.name.replace("_", " ")


def judge_translations(subject: Subject, judged: Judged) -> None:
    """The error of the cycle beside that of the mean image, then both directions."""
    data = subject.fitted.data
    program = subject.fitted.program
    limit = subject.asked.limit or MOST
    a = data.a.test.fixed(0, limit)
    b = data.b.test.fixed(0, limit)
    _judge_cycle(cycle_errors(program, a.x, b.x), judged)
    a_to_b = _Direction(name="a_to_b", source=a, target=data.b, there=b, translator=program.to_b)
    b_to_a = _Direction(name="b_to_a", source=b, target=data.a, there=a, translator=program.to_a)
    for direction in (a_to_b, b_to_a):
        _judge_direction(direction, subject, judged)


def _judge_cycle(errors: CycleErrors, judged: Judged) -> None:
    means = {name: value_and_error(error)[0] for name, error in errors.parts.items()}
    heading = "mean absolute difference per value"
    shown = Table(heading, "there and back", "mean image", title="cycle")
    for side in ("a", "b"):
        shown.add_row(f"domain {side}", f"{means[side]:.4f}", f"{means[f'mean_{side}']:.4f}")
    judged.table(shown)
    judged.say(
        f"the cycle loses {errors.ratio:.2f} of what the mean image would, in the worse direction"
    )
    judged.record("cycle", {**means, "ratio": errors.ratio})


def _judge_direction(direction: _Direction, subject: Subject, judged: Judged) -> None:
    """Translations beside the test data of the domain that they come to."""
    asked = subject.asked
    chosen = choose(asked.features, direction.target, asked.seed)
    judged.say(f"{direction.words}: features {chosen.words}")
    with evaluating(direction.translator):
        parts = [direction.translator(part) for part in direction.source.x.split(_AT_ONCE)]
    translated = torch.cat(parts)
    result: dict[str, Any] = {"compared_in": chosen.words}
    pictures: dict[str, Figure] = {}
    if asked.moments:
        compared = moments(
            translated,
            direction.there.x,
            chosen.features,
            permutations=asked.given_permutations,
            seed=asked.seed,
        )
        title = literal(f"{direction.words}: {direction.target.name}")
        pictures[f"moments_{direction.name}.png"] = plots.samples.moments(compared, title=title)
        result["moments"] = moments_entry(compared)
        judged.say(f"{direction.words}: {result['moments']['verdict']}")
    if asked.two_sample:
        x = direction.there.x
        found = rows(translated, x, chosen, asked.permutations, asked.seed, progress=True)
        title = f"{direction.words}: translations and test data of {direction.target.name}"
        judged.table(table(found, title))
        result |= {row.name: row.asdict() for row in found}
    if isinstance(chosen.features, Classifier):
        read = _read_labels(direction, translated, chosen.features, judged)
        if read is not None:
            result |= read.numbers
            pictures[f"confusion_{direction.name}.png"] = read.confusion
    judged.record(direction.name, result, options=["features", "permutations"], pictures=pictures)


class _Read(NamedTuple):
    """How a classifier reads the labels of images, before and after translation.

    Attributes:
        numbers: For evaluation.json.
        confusion: A picture of the counts after translation.
    """

    numbers: dict[str, Any]
    confusion: Figure


def _read_labels(
    direction: _Direction, translated: Tensor, classifier: Classifier, judged: Judged
) -> _Read | None:
    """How often the target domain's classifier reads the label, before and after translation.

    None where there are no labels, or labels that the target domain does not have.
    """
    if direction.source.y is None:
        return None
    known = direction.source.y >= 0
    labels = direction.source.y[known]
    classes = direction.target.classes or 0
    if not len(labels) or int(labels.max()) >= classes:
        return None
    as_they_are = direction.source.x[known]
    translated = translated[known]
    with evaluating(classifier):
        before = classifier.accuracy(as_they_are, labels)
        after = classifier.accuracy(translated, labels)
        counts_before = confusion_counts(labels, classifier.predict(as_they_are), classes)
        counts_after = confusion_counts(labels, classifier.predict(translated), classes)
    judged.say(
        f"{direction.words}: {direction.target.name}'s classifier reads {before} of the "
        f"images rightly as they are, and {after} of them translated"
    )
    title = literal(f"{direction.words}, translated: {float(after.value):.2f} right")
    found = {
        "read_untranslated": float(before.value),
        "read_translated": float(after.value),
        "confusion": {
            "untranslated": counts_before.tolist(),
            "translated": counts_after.tolist(),
        },
    }
    return _Read(found, plots.games.confusion(counts_after, title=title))
