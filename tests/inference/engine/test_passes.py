"""A pass over data in memory makes the steps that would be made batch by batch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from ppl_gen import corruptions, data
from ppl_gen.data import Split
from ppl_gen.inference import NotFinite, classification_step, reconstruction_step, svi_step
from ppl_gen.inference.engine import passes
from ppl_gen.inference.fitting.loop import Record, iterate
from ppl_gen.inference.fitting.objectives import IWAE
from ppl_gen.models import autoencoder, classifier, cvae, vae

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="inductor needs a C++ compiler"
)

Make = Callable[[], tuple[nn.Module, Any]]


def adam(module: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), 1e-2)


def svi(make: Callable[[], Any], elbo: Callable[[], Any] = Trace_ELBO, **options: Any) -> Make:
    """A program, new at each call, with its step."""

    def made() -> tuple[nn.Module, Any]:
        program = make()
        return program, svi_step(program, adam(program), elbo(), engine="inductor", **options)

    return made


def small_vae() -> Any:
    return vae((1, 8, 8), 2, hidden=(8,))


def denoising() -> tuple[nn.Module, Any]:
    made = autoencoder((1, 8, 8), 2, hidden=(8,))
    options: dict[str, Any] = {"corruption": corruptions.masking(0.3), "engine": "inductor"}
    return made, reconstruction_step(made, adam(made), **options)


def classifying() -> tuple[nn.Module, Any]:
    made = classifier(autoencoder((1, 8, 8), 4, hidden=(8,)).encoder, 4, 10)
    return made, classification_step(made, adam(made), engine="inductor")


STEPS: dict[str, Make] = {
    "ELBO": svi(small_vae),
    "labels": svi(lambda: cvae((1, 8, 8), 2, classes=10, hidden=(8,))),
    "IWAE": svi(small_vae, lambda: IWAE(num_particles=2)),
    "β in steps, clipped": svi(small_vae, beta=lambda i: 0.1 * i, clip=0.1),
    "denoising": denoising,
    "classification": classifying,
}
QUICK = ["ELBO", "β in steps, clipped", "classification"]
LONG = [name for name in STEPS if name not in QUICK]


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs that are not compiled stand for those that are, to save time."""
    monkeypatch.setattr("ppl_gen.inference.engine.replay.compiled", lambda graph, inputs: graph)


def digits(count: int, binarize: str | None = "dynamic") -> Split:
    train = data.load("digits").train
    return Split(train.x[:count], train.y[:count], binarize)


def fitted(make: Make, batches: Any, epochs: int, one_by_one: bool) -> dict[str, Any]:
    """Weights, metrics and the random state after some epochs from one seed."""
    torch.manual_seed(0)
    module, step = make()
    if one_by_one:
        batches = OneByOne(batches)
    records = list(iterate(step, batches, epochs))
    return {
        "weights": list(module.parameters()),
        "metrics": [record.metrics for record in records],
        "random state": torch.get_rng_state(),
    }


class OneByOne:
    """Batches that only say what they are, one after the other."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)


def expect_same(swept: Mapping[str, Any], stepped: Mapping[str, Any]) -> None:
    torch.testing.assert_close(swept["weights"], stepped["weights"], rtol=1e-4, atol=1e-6)
    assert torch.equal(swept["random state"], stepped["random state"])
    for one, other in zip(swept["metrics"], stepped["metrics"], strict=True):
        assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.long) for n in LONG)])
def test_a_pass_is_its_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more steps than are looked at in one go."""
    monkeypatch.setattr(passes, "AT_ONCE", 2)
    batches = digits(60).batches(20)
    expect_same(*[fitted(STEPS[name], batches, 2, by) for by in (False, True)])


@needs_compiler
@pytest.mark.slow
def test_a_compiled_pass_is_its_steps() -> None:
    """Of batches of 30 and a last one of 15, which has a graph of its own."""
    batches = digits(105).batches(30)
    expect_same(*[fitted(STEPS["ELBO"], batches, 3, by) for by in (False, True)])


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.long
@pytest.mark.parametrize("binarize", [None, *data.BINARIZATIONS])
def test_data_are_shown_as_they_are_in_batches(binarize: str | None) -> None:
    batches = digits(60, binarize).batches(30, shuffle=False)
    make = STEPS["denoising"]
    expect_same(*[fitted(make, batches, 2, by) for by in (False, True)])


@pytest.mark.usefixtures("uncompiled")
class TestAStepThatIsNotFinite:
    def broken(self, at: int) -> Make:
        return svi(small_vae, beta=lambda i: float("nan") if i == at else 1.0)

    @pytest.mark.parametrize("at", [0, 4])
    def test_it_is_named_and_neither_it_nor_what_follows_changes_anything(self, at: int) -> None:
        batches = digits(105).batches(15)
        torch.manual_seed(0)
        program, step = self.broken(at)()
        with pytest.raises(NotFinite, match=f"loss at step {at} is not finite"):
            list(iterate(step, batches, 1))
        swept = [p.clone() for p in program.parameters()]
        torch.manual_seed(0)
        program, step = self.broken(at)()
        with pytest.raises(NotFinite, match=f"loss at step {at} is not finite"):
            list(iterate(step, OneByOne(batches), 1))
        torch.testing.assert_close(swept, list(program.parameters()), rtol=1e-4, atol=1e-6)

    def test_a_gradient_names_its_parameter(self) -> None:
        """√w at w = 0 is finite, its derivative is not."""

        class Rooted(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.encoder = nn.Linear(64, 2)
                self.decoder = nn.Linear(2, 64)
                self.root = nn.Parameter(torch.zeros(()))

        made = Rooted()
        step = reconstruction_step(
            made,
            adam(made),
            penalty=lambda encoder, x, code: made.root.sqrt() * code.new_ones(len(code)),
            engine="inductor",
        )
        flat = Split(digits(60).x.flatten(1))
        with pytest.raises(NotFinite, match="the gradient at step 0 is not finite"):
            list(iterate(step, flat.batches(20), 1))


@pytest.mark.usefixtures("uncompiled")
class TestWhenStepsAreMadeOneByOne:
    def records(self, batches: Any, **options: Any) -> tuple[list[Record], list[int]]:
        """The records of two epochs, and the sizes of batches that the step was called with."""
        _, step = svi(small_vae)()
        seen: list[int] = []

        class Seen:
            sweep = step.sweep

            def __call__(self, *batch: Tensor) -> Mapping[str, Tensor]:
                seen.append(len(batch[0]))
                return step(*batch)

        return list(iterate(Seen(), batches, 2, **options)), seen

    def test_data_in_memory_are_swept(self) -> None:
        records, seen = self.records(digits(60).batches(30))
        assert len(records) == 2
        assert not seen

    def test_a_callback_sees_every_step(self) -> None:
        told: list[int] = []
        _, seen = self.records(
            digits(60).batches(30), after_step=lambda index, metrics: told.append(index)
        )
        assert seen == [30] * 4
        assert told == [0, 1, 2, 3]

    def test_other_batches(self) -> None:
        _, seen = self.records([(digits(30).x.round(),)])
        assert seen == [30] * 2

    def test_data_that_share_memory_along_an_axis(self) -> None:
        """They would be laid out anew for every step."""
        x = torch.ones(1, 1, 8, 8).expand(60, 1, 8, 8)
        batches = Split(x).batches(30)
        _, step = svi(small_vae)()
        assert step._descent.begin_pass(batches.in_memory, None, False) is None
        assert len(list(iterate(step, batches, 2))) == 2


@pytest.mark.usefixtures("uncompiled")
def test_data_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole data set is an input of the graph, which traces and compares on copies of others."""
    copied: list[int] = []
    clone = Tensor.clone

    def counted(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copied.append(self.numel())
        return clone(self, *args, **kwargs)

    monkeypatch.setattr(Tensor, "clone", counted)
    train = digits(1000)
    _, step = svi(small_vae)()
    list(iterate(step, train.batches(50), 1))
    assert max(copied) < train.x.numel()


@pytest.mark.usefixtures("uncompiled")
def test_labels_that_are_wrong_are_found_before_a_pass() -> None:
    train = digits(60)
    assert train.y is not None
    _, step = classifying()
    with pytest.raises(ValueError, match="expected labels from 0 to 9, got 3 to 12"):
        list(iterate(step, Split(train.x, train.y + 3).batches(30), 1))
