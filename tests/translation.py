"""A translation between two domains of digits, trained and read by a classifier of the target: for
tests and benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import confusion_matrix
from sklearn.svm import SVC
from torch import Tensor

from ppl_gen import data
from ppl_gen.critics import conv_critic
from ppl_gen.inference import (
    Classifier,
    CycleErrors,
    classifier_features,
    cycle_errors,
    cycle_step,
    losses,
)
from ppl_gen.models import cycle_gan

READERS = ("network", "support vectors")


@dataclass(frozen=True)
class Read:
    """How often a classifier of the target domain is right, and by how much a translation changes
    that.

    Attributes:
        before: On untranslated images.
        after: On the same, translated.
        error: The standard error of after − before, paired.
        confusion: Rows are classes, columns what the translated images are read as.
    """

    before: float
    after: float
    error: float
    confusion: Tensor


@dataclass(frozen=True)
class Translated:
    """What came of a training: by (direction, reader), and the cycle errors of test images."""

    read: dict[tuple[str, str], Read]
    errors: CycleErrors
    program: Any


def readers(domain: Any) -> dict[str, Callable[[Tensor], np.ndarray]]:
    """Two classifiers of a domain: a small convolutional network, and a support vector machine."""
    x, y = domain.train.x[:10_000], domain.train.y[:10_000]
    network: Classifier = classifier_features(x, y, 10, seed=0)
    machine = SVC(C=5.0).fit(x.flatten(1), y)
    return {
        "network": lambda v: network.predict(v).numpy(),
        "support vectors": lambda v: machine.predict(v.flatten(1)),
    }


def translate(
    name_a: str,
    name_b: str,
    *,
    seed: int,
    steps: int,
    width: int = 64,
    cycle: float = 20.0,
    identity: float = 1.0,
    semantic: float = 0.0,
) -> Translated:
    """Trains a CycleGAN as `ppl-gen fit cycle-gan` does, and has test images of both domains read,
    at most 2000 of each.
    """
    a, b = (data.load(name) for name in (name_a, name_b))
    torch.manual_seed(seed)
    program = cycle_gan(a.train.x, b.train.x, alike=identity > 0)
    critics = conv_critic(a.shape, width=width), conv_critic(b.shape, width=width)
    optimizers = [
        torch.optim.Adam(m.parameters(), 1e-3, (0.0, 0.9), fused=True) for m in (program, *critics)
    ]
    step = cycle_step(
        program,
        critics,
        optimizers[0],
        (optimizers[1], optimizers[2]),
        losses.non_saturating,
        cycle=cycle,
        identity=identity,
        semantic=classifier_features(a.train.x, a.train.y, 10, seed=seed).log_prob
        if semantic
        else None,
        semantic_weight=semantic or 1.0,
        r1=0.1,
    )
    batches = data.Domains(a, b).train.batches(50)
    done = 0
    while done < steps:
        for batch in batches:
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, 2 * (1 - done / steps))
            step(*batch)
            done += 1
            if done == steps:
                break
    return Translated(
        _read(program, a, b), cycle_errors(program, a.test.x[:2000], b.test.x[:2000]), program
    )


def _read(program: Any, a: Any, b: Any) -> dict[tuple[str, str], Read]:
    """Test images of each domain read by the other's classifiers, before and after translation."""
    found = {}
    for way, source, target, there in (
        ("a → b", a, b, program.to_b),
        ("b → a", b, a, program.to_a),
    ):
        x, truth = source.test.x[:2000], source.test.y[:2000].numpy()
        with torch.no_grad():
            translated = there(x)
        for reader, judge in readers(target).items():
            before, after = judge(x) == truth, judge(translated) == truth
            gained = after.astype(float) - before
            error = float(gained.std(ddof=1) / len(gained) ** 0.5)
            matrix = confusion_matrix(truth, judge(translated), labels=range(10))
            found[way, reader] = Read(before.mean(), after.mean(), error, torch.as_tensor(matrix))
    return found
