"""A run between two domains judged: what is lost on the way and back, and what translations are
taken for.
"""

from __future__ import annotations

__all__ = ["translations"]

from typing import Any, NamedTuple

import torch
from rich.table import Table
from torch import Tensor

from ppl_gen import plots
from ppl_gen.app.evaluation.by_samples import confusions
from ppl_gen.app.evaluation.findings import Judged, Subject, pair
from ppl_gen.app.evaluation.statistics import MOST, choose, rows, table
from ppl_gen.contexts import evaluating
from ppl_gen.data import Dataset, Split
from ppl_gen.inference import cycle_errors
from ppl_gen.inference.samples.features import Classifier
from ppl_gen.inference.samples.moments import moments


class _Way(NamedTuple):
    """One direction: its name, the images that are translated, the domain they come to, and the
    translator.
    """

    name: str
    source: Split
    target: Dataset
    reached: Split
    translator: Any


def translations(subject: Subject, judged: Judged) -> None:
    """Cycle errors beside the mean image's, and both directions against the other domain's test
    data.
    """
    data, program, limit = subject.fitted.data, subject.fitted.program, subject.asked.limit or MOST
    a, b = (domain.test.fixed(0, limit) for domain in (data.a, data.b))
    errors = cycle_errors(program, a.x, b.x)
    shown = Table(
        "mean absolute difference per value", "there and back", "mean image", title="cycle"
    )
    for side, error, base in (("a", errors.a, errors.mean_a), ("b", errors.b, errors.mean_b)):
        shown.add_row(f"domain {side}", f"{pair(error)[0]:.4f}", f"{pair(base)[0]:.4f}")
    judged.tables.append(shown)
    judged.words.append(
        f"the cycle loses {errors.ratio:.2f} of what the mean image would, in the worse direction"
    )
    judged.result["cycle"] = {name: pair(error)[0] for name, error in errors._asdict().items()}
    judged.result["cycle"]["ratio"] = errors.ratio
    ways = (_Way("a_to_b", a, data.b, b, program.to_b), _Way("b_to_a", b, data.a, a, program.to_a))
    for way in ways:
        _judge(subject, judged, way)


def _judge(subject: Subject, judged: Judged, way: _Way) -> None:
    """Translations against the test data of the domain they come to, and how they are read there."""
    asked = subject.asked
    with evaluating(way.translator):
        there = torch.cat([way.translator(part) for part in way.source.x.split(500)])
    chosen, said = choose(asked.features, way.target, asked.seed), way.name.replace("_", " ")
    judged.words.append(f"{said}: features {chosen.words}")
    result: dict[str, Any] = {"features": chosen.words}
    judged.result[way.name] = result
    if asked.moments:
        compared = moments(there, way.reached.x, chosen.features)
        judged.words.append(f"{said}: {compared.verdict}")
        result["moments"] = {
            "compared": compared.count,
            "worst": compared.worst._asdict(),
            "matched": compared.matched,
            "verdict": compared.verdict,
        }
        figure = plots.samples.moments(compared, title=f"{said}: {way.target.name}")
        subject.save(judged, f"moments_{way.name}.png", figure)
    if asked.two_sample:
        found = rows(there, way.reached.x, chosen, asked.permutations, asked.seed, subject.progress)
        judged.tables.append(
            table(found, f"{said}: translations and test data of {way.target.name}")
        )
        result |= {row.name: row.asdict() for row in found}
    if isinstance(chosen.features, Classifier) and way.source.y is not None:
        _read(subject, judged, way, there, chosen.features, way.source.y, result)


def _read(
    subject: Subject,
    judged: Judged,
    way: _Way,
    there: Tensor,
    classifier: Classifier,
    labels: Tensor,
    result: dict[str, Any],
) -> None:
    """How often the target domain's classifier reads the label, before and after translation."""
    known, classes = labels >= 0, way.target.classes or 0
    y = labels[known]
    if not len(y) or int(y.max()) >= classes:
        return  # other classes than the target domain's
    with evaluating(classifier):
        before, after = (classifier.accuracy(x[known], y) for x in (way.source.x, there))
        counts = {
            name: confusions(y, classifier.predict(x[known]), classes)
            for name, x in (("untranslated", way.source.x), ("translated", there))
        }
    judged.words.append(
        f"{way.name.replace('_', ' ')}: {way.target.name}'s classifier reads {before} of the "
        f"images rightly as they are, and {after} of them translated"
    )
    result["read_untranslated"], result["read_translated"] = float(before.value), float(after.value)
    result["confusion"] = {name: matrix.tolist() for name, matrix in counts.items()}
    title = f"{way.name.replace('_', ' ')}, translated: {float(after.value):.2f} right"
    figure = plots.games.confusion(counts["translated"], title=title)
    subject.save(judged, f"confusion_{way.name}.png", figure)
