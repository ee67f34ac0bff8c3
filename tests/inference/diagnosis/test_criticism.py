"""A planted defect is named, with its class and place; where nothing is wrong, little is named."""

from __future__ import annotations

from typing import Any

import pyro
import pytest
import torch
from matplotlib.figure import Figure
from planted import Redrawn, digits, thickened
from pyro import distributions as dist
from torch import Tensor, nn

from ppl_gen.inference import Criticism, criticise
from ppl_gen.models import cvae, vae
from ppl_gen.program import simulate


class Skewed(nn.Module):
    """Four independent numbers, log-normal; the third one shifted or scaled if asked."""

    def __init__(self, shift: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.shift = shift
        self.scale = scale

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        third = torch.tensor([0.0, 0.0, 1.0, 0.0])
        with pyro.plate("data", n):
            z = pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).to_event(1))
            wide = 1 + (self.scale - 1) * third
            point = (z * wide).exp() + self.shift * third
            return pyro.sample("x", dist.Delta(point, event_dim=1), obs=x)


def drawn(program: Any, n: int, seed: int) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return simulate(program, n)


def test_false_alarms_are_as_rare_as_the_level_says() -> None:
    """200 runs of 30 skewed data, of 8 statistics, at 5 %: within two errors of counting."""
    program = Skewed()
    alarms = 0
    for seed in range(200):
        x = drawn(program, 30, 1000 + seed)
        found = criticise(program, x, draws=2, permutations=99, seed=seed)
        alarms += not found.verdict.passes
    assert abs(alarms / 200 - 0.05) <= 2 * (0.05 * 0.95 / 200) ** 0.5


@pytest.mark.parametrize(
    ("program", "kind"), [(Skewed(shift=1.5), "mean"), (Skewed(scale=0.3), "spread")]
)
def test_a_feature_that_is_off_is_named(program: Skewed, kind: str) -> None:
    x = drawn(Skewed(), 300, 12)
    found = criticise(program, x, names=["a", "b", "third", "d"], seed=0)
    assert found.named == ("all",)
    assert {difference.feature for difference in found.found} == {"third"}
    assert kind in {difference.kind for difference in found.found}
    assert found.verdict.tags == ("all",)
    assert "third is" in found.verdict
    for difference in found.differences:
        assert difference.p_value <= difference.adjusted <= 1
        if difference.kind == "mean":
            assert (difference.z > 0) == (difference.draws > difference.data)


@pytest.mark.long
@pytest.mark.parametrize("where", ["draws", "data"])
def test_the_class_whose_strokes_are_thickened_is_named(where: str) -> None:
    """In at least nine of ten seeds, and no other class."""
    named = 0
    for seed in range(10):
        pool, held = digits(seed)
        x, y, thick = held.x.clone(), held.y, seed
        assert y is not None
        program = Redrawn(pool)
        if where == "draws":
            program = Redrawn(pool, thick)
        else:
            x[y == thick] = thickened(x[y == thick])
        found = criticise(program, x, y, draws=2, permutations=199, seed=seed)
        named += found.named[:1] == (f"class {thick}",) and set(found.named) <= {
            f"class {thick}",
            "all",
        }
    assert named >= 9


def test_regions_classes_and_pictures() -> None:
    pool, held = digits(0)
    assert held.y is not None
    x, y = held.x[:120].clone(), held.y[:120]
    is_three = y == 3
    x[is_three, :, 6:, 6:] = 1.0
    found = criticise(Redrawn(pool), x, y, draws=1, permutations=99, seed=0)
    first = found.differences[0]
    assert (first.group, first.feature) == ("class 3", "rows 6-7, columns 6-7")
    assert first.z < 0
    assert first.data > first.draws
    assert "draws of class 3 differ from its data: the" in found.verdict
    assert found.table().loc["class 3", "found"] > 0
    assert len(found.to_pandas()) == len(found.differences)
    assert isinstance(found.plot("digits"), Figure)
    assert "rows 6-7" in repr(first)


class Unlabelled(nn.Module):
    """Digits of a pool, whatever their class; no class 7."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = images

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        images = self.images[torch.randint(len(self.images), (n,))]
        with pyro.plate("data", n):
            return pyro.sample("x", dist.Delta(images, event_dim=3), obs=x)


def test_a_function_labels_draws_of_any_program() -> None:
    pool, held = digits(1)
    assert pool.y is not None
    centres = torch.stack([pool.x[pool.y == label].flatten(1).mean(0) for label in range(10)])

    def labels(x: Tensor) -> Tensor:
        return torch.cdist(x.flatten(1), centres).argmin(1)

    program = Unlabelled(pool.x[pool.y != 7])
    found = criticise(program, held.x, labels=labels, draws=2, permutations=199, seed=0)
    first = found.differences[0]
    assert (first.group, first.kind) == ("class 7", "share")
    assert first.z < 0
    assert "the share is" in found.verdict


X = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(20) % 4
PLAIN = vae((1, 8, 8), 2, hidden=(4,))
LABELLED = cvae((1, 8, 8), 2, classes=4, hidden=(4,))
BAD: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "few data": ((PLAIN, X[:7]), {}, r"expected at least 8 data \(N, \*shape\), got \(7, 1"),
    "another shape": ((PLAIN, X[:, :, :4]), {}, "of the shape that the program draws"),
    "not finite": ((PLAIN, X / 0), {}, "expected finite data"),
    "labels of nobody": ((PLAIN, X), {"labels": Y}, "a function that labels data and draws alike"),
    "other labels": ((LABELLED, X, Y), {"labels": Y.flip(0)}, "nobody knows the classes"),
    "labels of another length": ((LABELLED, X, Y), {"labels": Y[:3]}, r"a class for each datum"),
    "labels that are text": ((LABELLED, X, Y), {"labels": "y"}, "a tensor, or a function"),
    "a function without labels": (
        (PLAIN, X),
        {"labels": lambda x: x},
        r"a class for each datum, Long \(100,\), got torch.float32",
    ),
    "no context": ((LABELLED, X), {}, "expected 1 context"),
    "names": ((PLAIN, X), {"names": ["a"]}, "expected names of 17 features, got 1"),
    "permutations": ((PLAIN, X), {"level": 0.99, "permutations": 50}, "at least 99 permutations"),
    "draws": ((PLAIN, X), {"draws": 0}, "expected draws of at least 1"),
    "a program that draws the same": (
        (Unlabelled(X[:1]), X[:1].expand(20, -1, -1, -1)),
        {},
        "expected features that vary",
    ),
}


@pytest.mark.parametrize("wrong", BAD)
def test_bad_input(wrong: str) -> None:
    given, named, said = BAD[wrong]
    with pytest.raises(ValueError, match=said):
        criticise(*given, **named)


def test_the_labels_of_a_context_are_found() -> None:
    found = criticise(LABELLED, X, Y, permutations=19, draws=1, seed=0)
    assert isinstance(found, Criticism)
    assert {"all", "class 0", "class 3"} <= {d.group for d in found.differences}
