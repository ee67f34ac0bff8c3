"""Public functions with values of every wrong kind: a ValueError in one line, nothing changed."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from sound import EVALUATORS, OTHERS, PROGRAM, SHAPE, Sound, X
from torch import Tensor, nn

from ppl_gen.models import vae

SECONDS = 10

NUMBERS: dict[str, Any] = {"-1": -1, "nan": math.nan, "text": "x", "a tensor": torch.zeros(2)}
# What is no number, or means what it says.
OTHER_THINGS = {"engine", "shape", "sizes", "binarize", "slope", "weight", "chunk"}


def numbers() -> Iterator[Any]:
    """Every argument that is a number, by name, with values that are none of its own."""
    for name, call in (EVALUATORS | OTHERS).items():
        for argument in call.named:
            if argument in OTHER_THINGS:
                continue
            for kind, value in NUMBERS.items():
                if (name, argument, kind) in MEANT:
                    continue
                yield pytest.param(call, argument, value, id=f"{name} {argument} {kind}")


MEANT = {("compare", "warmup", "-1")}

DATA: dict[str, Any] = {
    "None": None,
    "text": "x",
    "a list": [1, 2],
    "words": np.array(["a"]),
    "a module": PROGRAM,
    "nan": torch.full_like(X, math.nan),
    "infinite": torch.full_like(X, math.inf),
    "empty": X[:0],
    "no pixels": X[:, :, :0],
    "a number": torch.tensor(1.0),
    "flat": X.flatten(),
    "larger": torch.zeros(8, 1, 5, 5),
    "on meta": X.to("meta"),
    "complex": X.to(torch.complex64),
    "sparse": X.flatten(1).to_sparse(),
}
POINTS: dict[str, Any] = {
    "None": None,
    "text": "x",
    "words": np.array(["a"]),
    "nan": torch.full((40, 3), math.nan),
    "empty": torch.zeros(0, 3),
    "no columns": torch.zeros(40, 0),
    "a number": torch.tensor(1.0),
    "on meta": torch.zeros(40, 3, device="meta"),
    "complex": torch.zeros(40, 3, dtype=torch.complex64),
}
STATISTICS = (
    "mmd",
    "energy_distance",
    "frechet_distance",
    "polynomial_mmd",
    "sliced_wasserstein",
    "precision_recall",
    "moments",
    "two_sample_test",
    "PCA",
    "classifier_features",
    "Empirical",
    "nearest",
    "code_distance",
)


def data_of_evaluators() -> Iterator[Any]:
    for name, call in EVALUATORS.items():
        for kind, held in DATA.items():
            given = [held if argument is X else argument for argument in call.given]
            yield pytest.param(call, given, id=f"{name} of {kind}")


def data_of_statistics() -> Iterator[Any]:
    for name in STATISTICS:
        call = OTHERS[name]
        for kind, held in POINTS.items():
            yield pytest.param(call, [held, *call.given[1:]], id=f"{name} of {kind}")


class Raising(nn.Module):
    """A program of someone who has made a mistake."""

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        raise KeyError("weights")

    guide = model


class Empty(nn.Module):
    """A program that draws nothing."""

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor | None:
        return x

    def guide(self, x: Tensor) -> None:
        pass


def _of_nan() -> nn.Module:
    program = vae(SHAPE, 2, hidden=(4,))
    with torch.no_grad():
        for parameter in program.parameters():
            parameter.fill_(math.nan)
    return program


PROGRAMS: dict[str, Any] = {
    "None": None,
    "text": "x",
    "a function": lambda x: x,
    "a builder": vae,
    "an empty module": nn.Module(),
    "a network": nn.Linear(2, 2),
    "on meta": vae(SHAPE, 2, hidden=(4,)).to("meta"),
    "raising": Raising(),
    "without sites": Empty(),
    "of nan": _of_nan(),
}


def programs() -> Iterator[Any]:
    """Programs that are none, for every function that takes one first."""
    names = ("bdmc", "sbc", "simulate", "svi_step", "decode", "lattice", "one_pass", "random_walk")
    for name, call in (EVALUATORS | {name: OTHERS[name] for name in names}).items():
        for kind, program in PROGRAMS.items():
            if (name, kind) in RUNS:
                continue
            first = program
            if call.given[0] is not PROGRAM:
                first = getattr(program, "model", program)
            yield pytest.param(call, [first, *call.given[1:]], id=f"{name} of {kind}")


# What is no mistake (a reconstruction of nan is nan, draws of data are draws), or found in drawing.
RUNS = {
    ("bdmc", "of nan"),
    ("sbc", "of nan"),
    ("reconstruct", "of nan"),
    ("encode", "of nan"),
    ("aggregate_draws", "of nan"),
    ("one_pass", "of nan"),
    ("simulate", "without sites"),
    ("simulate", "of nan"),
}


@contextmanager
def unchanged() -> Iterator[None]:
    """Fails unless generator, param store and modes are as they were, or where a call hangs."""

    def ring(*_: object) -> None:
        raise KeyboardInterrupt(f"not done after {SECONDS} s")

    state = torch.get_rng_state()
    former = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(pyro.get_param_store().keys()) == []
    assert PROGRAM.training


def refused(call: Sound, given: Sequence[Any], named: Mapping[str, Any]) -> None:
    """A ValueError that says expected and got in a line or two, and nothing changed."""
    with unchanged(), pytest.raises(ValueError, match=r"\w{3,} .*\w") as caught:
        call.function(*given, **named)
    said = str(caught.value)
    assert "\n" not in said
    assert 10 < len(said) < 800


@pytest.mark.parametrize(("call", "argument", "value"), [*numbers()])
def test_a_hostile_number(call: Sound, argument: str, value: Any) -> None:
    refused(call, call.given, {**call.named, argument: value})


@pytest.mark.parametrize(("call", "given"), [*data_of_evaluators(), *data_of_statistics()])
def test_hostile_data(call: Sound, given: list[Any]) -> None:
    refused(call, given, call.named)


@pytest.mark.parametrize(("call", "given"), [*programs()])
def test_a_hostile_program(call: Sound, given: list[Any]) -> None:
    refused(call, given, call.named)
