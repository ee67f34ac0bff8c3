"""A run judged by its draws: moments, two-sample statistics, and what latent codes tell of them."""

from __future__ import annotations

__all__ = [
    "compare_moments",
    "compare_samples",
    "confusion_counts",
    "measure_information",
    "moments_entry",
]

from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from ppl_gen import plots
from ppl_gen.app.evaluation.findings import Judged, numbers
from ppl_gen.app.evaluation.statistics import rows, table
from ppl_gen.app.evaluation.subject import Subject
from ppl_gen.contexts import evaluating, forked
from ppl_gen.inference import code_information
from ppl_gen.inference.samples.features import Classifier
from ppl_gen.inference.samples.moments import Moments, moments
from ppl_gen.plots.style import literal
from ppl_gen.program import simulate_sites

_CODE_DRAWS = 5000


def compare_moments(subject: Subject, judged: Judged) -> None:
    """Which moment of the draws is off, and by how many of its errors."""
    samples = subject.samples
    found = moments(
        samples.drawn,
        samples.data,
        samples.chosen.features,
        permutations=subject.asked.given_permutations,
        seed=subject.asked.seed,
    )
    entry = moments_entry(found)
    judged.table(_moments_table(found))
    judged.say(f"{entry['verdict']} {_said_of_samples(subject)}")
    options = ["features"]
    if "permutations" in subject.asked.given:
        options.append("permutations")
    judged.record(
        "moments",
        {**entry, "compared_in": samples.chosen.words, "data": len(samples.data)},
        options=options,
        pictures={"moments.png": plots.samples.moments(found, title=literal(subject.fitted.name))},
    )


def compare_samples(subject: Subject, judged: Judged) -> None:
    """Distances between draws and test data with errors and p-values, fidelity and diversity."""
    asked = subject.asked
    drawn, data, chosen = subject.samples
    found = rows(drawn, data, chosen, asked.permutations, asked.seed, progress=True)
    judged.table(table(found, f"{len(drawn)} draws and {len(data)} test data"))
    if not asked.moments:  # which has said it
        judged.say(_said_of_samples(subject))
    entry: dict[str, Any] = {row.name: row.asdict() for row in found}
    entry |= {"compared_in": chosen.words, "data": len(data)}
    tests = {row.name: row.test for row in found if row.test is not None}
    judged.record(
        "two_sample",
        entry,
        options=["features", "permutations"],
        pictures={"two_sample.png": plots.samples.nulls(tests, title=literal(subject.fitted.name))},
    )


def measure_information(subject: Subject, judged: Judged) -> None:
    """How many nats the latent codes tell of the draws; with a classifier, as what each is read."""
    program = subject.fitted.program
    told = code_information(program, program.posterior, _CODE_DRAWS, seed=subject.asked.seed)
    result = {}
    for name, estimate in told.items():
        judged.row(f"information of code {name}, at least", estimate)
        result[name] = numbers(estimate)
    judged.record("information", result)
    features = subject.samples.chosen.features
    if isinstance(features, Classifier):
        _read_codes(subject, judged, features)


def moments_entry(found: Moments) -> dict[str, Any]:
    """What a comparison of moments puts into evaluation.json."""
    return {
        "compared": found.count,
        "permutations": len(found.null),
        "worst": found.worst._asdict(),
        "matched": found.matched,
        "kinds": found.table().to_dict("index"),
        "verdict": " ".join(found.verdict),
    }


def confusion_counts(labels: Tensor, read: Tensor, classes: int) -> Tensor:
    """How often each class is read as each other.

    Args:
        labels: What the data are, (N,), from 0 to classes − 1.
        read: What they are read as, (N,), in the same range.
        classes: The number of classes.

    Returns:
        Counts (classes, classes), what they are in rows and what they are read as in columns.
    """
    pairs = labels * classes + read
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _moments_table(found: Moments) -> Table:
    shown = Table(
        "moments",
        "compared",
        "off",
        "farthest",
        "draws",
        "data",
        "95 % interval",
        "z",
        "p",
        title="moments",
    )
    for kind, row in found.table().iterrows():
        shown.add_row(
            str(kind),
            str(row["compared"]),
            str(row["off"]),
            row["farthest"],
            f"{row['sample']:.4g}",
            f"{row['data']:.4g}",
            f"{row['low']:.3g} to {row['high']:.3g}",
            f"{row['z']:+.1f}",
            f"{row['p']:.3f}",
        )
    shown.caption = f"p of the largest of all moments, by {len(found.null)} permutations"
    shown.caption_justify = "left"
    return shown


def _read_codes(subject: Subject, judged: Judged, classifier: Classifier) -> None:
    """As which class a classifier reads the draws of each value of the code."""
    fitted = subject.fitted
    with forked(fitted.device, subject.asked.seed):
        sites = simulate_sites(fitted.program, _CODE_DRAWS)
    with evaluating(classifier):
        read = classifier.predict(sites["x"]["value"])
    values = fitted.recipe.codes(fitted.config) or 0
    codes = sites[fitted.recipe.code_site]["value"].argmax(-1)
    counts = confusion_counts(codes, read, max(values, fitted.data.classes))
    title = "code of the draw (row) and the class it is read as"
    judged.record(
        "codes_read_as",
        {"counts": counts.tolist()},
        options=["features"],
        pictures={"confusion.png": plots.games.confusion(counts, title=title)},
    )


def _said_of_samples(subject: Subject) -> str:
    drawn, _, chosen = subject.samples
    noise = ""
    if subject.fitted.recipe.explicit:
        noise = ", drawn with the likelihood's noise"
    given = ""
    if subject.condition:
        given = f",{subject.condition} of each"
    return f"Features: {chosen.words}; {len(drawn)} draws{noise}{given}."
