"""`--prior-after`: a standard normal first, then a learned prior alone, then everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from command import call, held, same, stop_at

import ppl_gen
from ppl_gen.app.run.folder import Run
from ppl_gen.priors import Delayed

SMALL = ("--latent-dim", 2, "--hidden", 8, "--batch-size", 20, "--device", "cpu")
AFTER = 2
EPOCHS = 5

pytestmark = pytest.mark.usefixtures("without_pictures")


def words(images: Path, run: Path, *more: object) -> tuple[object, ...]:
    asked = ("--prior-after", AFTER, "--epochs", EPOCHS, "--engine", "eager", "--out", run)
    return ("fit", "vae", "--data", images, *SMALL, "--prior", "mixture", *asked, *more)


@pytest.fixture(scope="module")
def whole(grey_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was left alone, three batches an epoch, with the weights of every epoch."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    code, said = call(*words(grey_images, run, "--keep-every", 1))
    assert code == 0, said
    return run


@pytest.fixture(scope="module")
def waiting(grey_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in the first epoch of its learned prior, so that it has not begun."""
    run = tmp_path_factory.mktemp("runs") / "waiting"
    with pytest.MonkeyPatch.context() as patched:
        stop_at(patched, 3 * AFTER + 2)
        assert call(*words(grey_images, run, "--keep-every", 1))[0] == 130
    return run


def weights(run: Path, epoch: int) -> dict[str, Any]:
    """The state of the program after an epoch."""
    file = torch.load(run / f"weights-epoch-{epoch:05}.pt", weights_only=True)
    state: dict[str, Any] = file["states"]["program"]
    return state


def moved(run: Path, epoch: int) -> tuple[bool, bool]:
    """Whether all parameters of the prior, and all others, were moved in an epoch, or none."""
    before, after = weights(run, epoch - 1), weights(run, epoch)
    changed: dict[bool, set[bool]] = {True: set(), False: set()}
    for name in before:
        if not name.endswith("_extra_state"):
            changed[name.startswith("prior.")].add(not torch.equal(before[name], after[name]))
    (of_prior,), (of_others,) = changed[True], changed[False]
    return of_prior, of_others


def test_what_moves_in_each_epoch(whole: Path) -> None:
    assert [moved(whole, epoch) for epoch in range(2, EPOCHS + 1)] == [
        (False, True),
        (True, False),
        (True, True),
        (True, True),
    ]
    begun = [bool(weights(whole, epoch)["prior._extra_state"]) for epoch in range(1, EPOCHS + 1)]
    assert begun == [False, False, True, True, True]


def test_every_epoch_has_its_line(whole: Path) -> None:
    records = Run.open(whole).records()
    assert [record.epoch for record in records] == list(range(1, EPOCHS + 1))
    assert {tuple(record.metrics) for record in records} == {("elbo", "gradient_norm")}


LONG = [pytest.param(batch, marks=pytest.mark.long) for batch in (5, 8, 14)]


@pytest.mark.parametrize("batch", [7, 10, *LONG])
def test_a_run_that_was_stopped_goes_on_as_another(
    grey_images: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Bit for bit, before the prior begins, as it does, while it alone moves, and after."""
    run = tmp_path / "stopped"
    with monkeypatch.context() as patched:
        stop_at(patched, batch)
        assert call(*words(grey_images, run, "--keep-every", 1))[0] == 130
    assert held(run)["epoch"] == (batch - 1) // 3
    code, said = call("fit", "vae", "--out", run, "--resume")
    assert code == 0, said
    assert same(held(run), held(whole))
    metrics = [[r.metrics for r in Run.open(folder).records()] for folder in (run, whole)]
    assert metrics[0] == metrics[1]


@pytest.mark.slow
def test_a_graph_is_made_of_each_stage(
    grey_images: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs give what eager steps do, and a run by them that was stopped goes on bit for bit."""
    by_graphs = ("--engine", "fx", "--keep-every", 1)
    code, said = call(*words(grey_images, tmp_path / "whole", *by_graphs))
    assert code == 0, said
    found, wanted = held(tmp_path / "whole")["program"], held(whole)["program"]
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, atol=1e-5), name
    with monkeypatch.context() as patched:
        stop_at(patched, 3 * AFTER + 1)
        assert call(*words(grey_images, tmp_path / "stopped", *by_graphs))[0] == 130
    assert call("fit", "vae", "--out", tmp_path / "stopped", "--resume")[0] == 0
    assert same(held(tmp_path / "stopped"), held(tmp_path / "whole"))


@pytest.mark.parametrize("prior", ["vamp", "flow"])
def test_priors_that_are_learned_later(grey_images: Path, tmp_path: Path, prior: str) -> None:
    asked = ("--prior", prior, "--keep-every", 1, "--epochs", 4)
    code, said = call(*words(grey_images, tmp_path / "run", *asked))
    assert code == 0, said
    states = [weights(tmp_path / "run", epoch) for epoch in (2, 3, 4)]
    own = [name for name in states[0] if name.startswith("prior.prior.flow.")]
    if prior == "vamp":
        own = ["prior.prior.pseudo_inputs"]
    of_guide = [name for name in states[0] if name.startswith("encoder.")]
    assert not all(torch.equal(states[0][name], states[1][name]) for name in own)
    for name in of_guide:
        assert torch.equal(states[0][name], states[1][name])
        assert not torch.equal(states[1][name], states[2][name])


def test_a_run_is_judged_by_the_prior_that_it_has(waiting: Path, whole: Path) -> None:
    """Log p(x) of a run that waits is that under N(0, I), and it is said."""
    with pytest.warns(UserWarning, match="is N\\(0, I\\) as yet"):
        fitted = ppl_gen.load(waiting, device="cpu")
    assert isinstance(fitted.program.prior, Delayed)
    z = torch.randn(4, 2)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    assert torch.allclose(fitted.program.prior().log_prob(z), normal, atol=1e-6)
    code, said = call("evaluate", waiting, "--particles", 10, "--limit", 5, "--device", "cpu")
    assert (code, "at epoch 2 of --prior-after 2" in said) == (0, True), said
    code, said = call("evaluate", whole, "--particles", 10, "--limit", 5, "--device", "cpu")
    assert (code, "--prior-after" in said) == (0, False), said


@pytest.mark.long
def test_codes_over_epochs_are_those_of_every_stage(whole: Path) -> None:
    code, said = call("explore", whole, "--over-epochs", "--device", "cpu")
    assert code == 0, said


def test_a_conditional_prior_is_delayed(tmp_path: Path) -> None:
    """A CVAE's own is learned of the condition."""
    run = tmp_path / "cvae"
    few = ("--latent-dim", 2, "--hidden", 8, "--batch-size", 500, "--device", "cpu", "--epochs", 3)
    asked = (*few, "--prior-after", 1, "--keep-every", 1, "--engine", "eager")
    code, said = call("fit", "cvae", *asked, "--out", run)
    assert code == 0, said
    assert [moved(run, epoch) for epoch in (2, 3)] == [(True, False), (True, True)]


def test_patience_begins_with_the_prior(grey_images: Path, tmp_path: Path) -> None:
    """No epoch under N(0, I) is kept, though at such a learning rate none after may be better."""
    run = tmp_path / "run"
    asked = ("--validation", 10, "--patience", 1, "--lr", 0.5, "--epochs", 20)
    code, said = call(*words(grey_images, run, *asked))
    assert code == 0, said
    assert ppl_gen.load(run, device="cpu").epoch > AFTER


def test_more_epochs_than_before_the_prior_are_asked_for_when_a_run_goes_on(
    waiting: Path, tmp_path: Path
) -> None:
    code, said = call("fit", "vae", "--out", waiting, "--resume", "--epochs", AFTER)
    assert (code, "expected --prior-after below --epochs, got 2 and 2" in said) == (2, True), said
