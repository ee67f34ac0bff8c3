"""Novel test data told from usual ones, by three scores."""

from __future__ import annotations

__all__ = ["anomaly", "usual_and_novel"]

from typing import Any

import torch
from torch import Tensor

from ppl_gen import inference
from ppl_gen.app.exploration.found import Found
from ppl_gen.app.exploration.subject import Subject, labels_of
from ppl_gen.app.run.other_data import like_the_run
from ppl_gen.inference import Detection, code_distance, detection, encode, reconstruction_error
from ppl_gen.paths import is_autoencoder
from ppl_gen.plots.style import literal

_PARTICLES = 100
_LEAST = 2  # novel data


def anomaly(subject: Subject) -> Found:
    """The ROC of reconstruction error, evidence and distance to the nearest codes."""
    usual, novel, what = usual_and_novel(subject)
    x = torch.cat([usual[0], novel[0]])
    context = [torch.cat(pair) for pair in zip(usual[1:], novel[1:], strict=True)]
    is_novel = torch.arange(len(x)) >= len(usual[0])
    codes = encode(subject.program, x, *context).mean
    scores = {"reconstruction error": reconstruction_error(subject.program, x, *context)}
    if subject.fitted.explicit and not is_autoencoder(subject.program):
        found = inference.improbability(
            subject.program, x, *context, particles=_PARTICLES, seed=subject.asked.seed
        )
        scores["−log p(x)"] = found.value
    scores["distance in code"] = code_distance(codes, subject.train_codes)
    judged: Detection = detection(scores, is_novel.to(x.device))
    numbers: dict[str, float | tuple[float, float]] = {}
    for name, area in judged.areas.items():
        numbers[f"AUC of {name}"] = (float(area.value), float(area.standard_error))
    figure = judged.plot(f"{literal(subject.fitted.name)}: {literal(what)}")
    return Found(
        pictures={"anomaly.png": figure},
        numbers=numbers,
        sentences=[f"{what}: {sentence}" for sentence in judged.verdict],
        options={"novel": subject.asked.novel, "seed": subject.asked.seed},
    )


def usual_and_novel(subject: Subject) -> tuple[list[Tensor], list[Tensor], str]:
    """Usual and novel data, each (x, *context), and what is novel, in words.

    Args:
        subject: The run, and what is asked for.

    Raises:
        ValueError: If nothing is novel, or the data named are not such as the run's.
    """
    asked = subject.asked.novel
    own: list[Any] = [subject.test.x, *subject.context]
    labels = labels_of(subject.test)
    missing = _unseen(subject)
    if asked is None and not missing:
        raise ValueError(
            "expected test data of a label that no training datum has for --anomaly, got labels "
            "that all occur; fit on data without one, --data digits:without-3, or name what is "
            "novel: --novel LABEL or --novel DATA"
        )
    if asked is None:
        chosen = missing
    else:
        number = _number(subject, asked)
        if number is None:
            other = like_the_run(subject.fitted, asked, subject.asked.limit)
            return own, [other.x, *subject.fitted.context(other)], f"{asked} is novel"
        chosen = [number]
    assert labels is not None
    is_novel = torch.isin(labels, torch.tensor(chosen, device=labels.device))
    if int(is_novel.sum()) < _LEAST:
        raise ValueError(
            f"expected at least {_LEAST} test data of label {chosen[0]} for --anomaly, got "
            f"{int(is_novel.sum())}; the class is empty: name another, or raise --limit"
        )
    said = " and ".join([_named(subject, label) for label in chosen])
    usual = [t[~is_novel] for t in own]
    return usual, [t[is_novel] for t in own], f"label {said} is novel"


def _unseen(subject: Subject) -> list[int]:
    """The labels of test data that no training datum has."""
    test = labels_of(subject.test)
    train = labels_of(subject.train)
    if test is None or train is None:
        return []
    seen = set(train.unique().tolist())
    return [label for label in test.unique().tolist() if label not in seen and label >= 0]


def _number(subject: Subject, asked: str) -> int | None:
    """The number of a label, by its name or number; None where it is none."""
    names = subject.fitted.class_names
    if asked in names:
        return names.index(asked)
    if asked.isdecimal() and labels_of(subject.test) is not None:
        return int(asked)
    return None


def _named(subject: Subject, label: int) -> str:
    names = subject.fitted.class_names
    if label < len(names):
        return names[label]
    return str(label)
