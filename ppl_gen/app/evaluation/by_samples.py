"""A run judged by its samples: moments, two-sample statistics, and what an InfoGAN's codes tell."""

from __future__ import annotations

__all__ = ["expect_enough", "information", "moments", "two_sample"]

import torch
from rich.table import Table
from torch import Tensor

from ppl_gen import plots
from ppl_gen.app.evaluation.findings import Asked, Judged, Subject
from ppl_gen.app.evaluation.statistics import MOST, Chosen, choose, rows, table
from ppl_gen.app.run.opened import Fitted
from ppl_gen.contexts import evaluating, forked
from ppl_gen.inference import code_information
from ppl_gen.inference.samples.features import Classifier
from ppl_gen.inference.samples.moments import moments as compare_moments
from ppl_gen.program import simulate, simulate_sites

_LEAST = 10  # data that the tests need


def expect_enough(fitted: Fitted, asked: Asked) -> None:
    """Says when there are fewer data than a test needs.

    Raises:
        ValueError: Then.
    """
    if not (asked.moments or asked.two_sample):
        return
    domains = (fitted.data.a, fitted.data.b) if fitted.translates else (fitted.data,)
    n = min(len(domain.test) for domain in domains)
    n = n if asked.limit is None else min(n, asked.limit)
    if n < _LEAST:
        raise ValueError(
            f"expected at least {_LEAST} test data for --moments and --two-sample, got {n}; raise "
            "--limit, or give more data"
        )


def moments(subject: Subject, judged: Judged) -> None:
    """Which moment of the draws is off, and by how many standard errors."""
    drawn, data, chosen = _samples(subject)
    found = compare_moments(drawn, data, chosen.features)
    shown = Table(
        "moments",
        "compared",
        "off",
        "farthest",
        "draws",
        "data",
        "95 % interval",
        "z",
        title="moments",
    )
    for kind, row in found.table().iterrows():
        farthest = [
            f"{row['sample']:.4g}",
            f"{row['data']:.4g}",
            f"{row['low']:.3g} to {row['high']:.3g}",
        ]
        shown.add_row(
            str(kind),
            str(row["compared"]),
            str(row["off"]),
            row["farthest"],
            *farthest,
            f"{row['z']:+.1f}",
        )
    judged.tables.append(shown)
    judged.words.append(f"{found.verdict} {_said(subject, drawn, chosen)}")
    worst = found.worst
    judged.result["moments"] = {
        "features": chosen.words,
        "data": len(data),
        "compared": found.count,
        "worst": worst._asdict(),
        "matched": found.matched,
        "verdict": found.verdict,
    }
    subject.save(judged, "moments.png", plots.samples.moments(found, title=subject.fitted.name))


def two_sample(subject: Subject, judged: Judged) -> None:
    """Distances between draws and test data with errors and p-values, fidelity and diversity."""
    drawn, data, chosen = _samples(subject)
    asked = subject.asked
    found = rows(drawn, data, chosen, asked.permutations, asked.seed, subject.progress)
    judged.tables.append(table(found, f"{len(drawn)} draws and {len(data)} test data"))
    if not asked.moments:
        judged.words.append(_said(subject, drawn, chosen))
    judged.result["two_sample"] = {
        "features": chosen.words,
        "data": len(data),
        "permutations": asked.permutations,
        **{row.name: row.asdict() for row in found},
    }
    tests = {row.name: row.test for row in found if row.test is not None}
    subject.save(judged, "two_sample.png", plots.samples.nulls(tests, title=subject.fitted.name))


def information(subject: Subject, judged: Judged) -> None:
    """What the codes of an InfoGAN tell of its draws; and, with a classifier, which class each code
    is read as.
    """
    fitted, n, seed = subject.fitted, 5000, subject.asked.seed
    told = code_information(fitted.program, fitted.program.posterior, n, seed=seed)
    for name, estimate in told.items():
        judged.row(f"information of code {name}, at least", estimate)
    judged.result["information"] = {
        name: {"value": float(e.value), "standard_error": float(e.standard_error)}
        for name, e in told.items()
    }
    _, _, chosen = _samples(subject)
    if not isinstance(chosen.features, Classifier):
        return
    with forked(fitted.device, seed):
        sites = simulate_sites(fitted.program, n)
    with evaluating(chosen.features):
        read = chosen.features.predict(sites["x"]["value"])
    codes = sites["c"]["value"].argmax(-1)
    side = max(fitted.config.categories, fitted.data.classes)
    counts = confusions(codes, read, side)
    judged.result["codes_read_as"] = counts.tolist()
    title = "code of the draw (row) and the class it is read as"
    subject.save(judged, "confusion.png", plots.games.confusion(counts, title=title))


def confusions(is_: Tensor, read: Tensor, classes: int) -> Tensor:
    """How often a class is read as another, (classes, classes)."""
    return torch.bincount(is_ * classes + read, minlength=classes**2).reshape(classes, classes)


def _samples(subject: Subject) -> tuple[Tensor, Tensor, Chosen]:
    """As many draws as there are test data, under the same context; and features, made once."""
    if subject.sampled is None:
        fitted, asked = subject.fitted, subject.asked
        data, *given = subject.head(asked.limit or MOST)
        chosen = choose(asked.features, fitted.data, asked.seed)
        with forked(fitted.device, asked.seed):
            subject.sampled = simulate(fitted.program, len(data), *given), data, chosen
    return subject.sampled


def _said(subject: Subject, drawn: Tensor, chosen: Chosen) -> str:
    noise = ", drawn with the likelihood's noise" if subject.fitted.explicit else ""
    given = subject.condition and f",{subject.condition} of each"
    return f"Features: {chosen.words}; {len(drawn)} draws{noise}{given}."
