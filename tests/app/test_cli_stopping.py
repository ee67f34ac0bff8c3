"""`--validation` and `--patience`: what is held out, when a run stops, and what it keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import call, change_checkpoint, held, same, stop_at

import ppl_gen
from ppl_gen.app.config import Config
from ppl_gen.app.ingredients import data as ingredients
from ppl_gen.app.recipes import RECIPES, recipe_of
from ppl_gen.app.run import pictures
from ppl_gen.app.run.folder import Run
from ppl_gen.data.splits import Dataset

SMALL = ("--latent-dim", 2, "--hidden", 16, "--batch-size", 15, "--engine", "eager")
CPU = torch.device("cpu")
UNTIL = ("--batch-size", 45, "--until", "converged", "--lr", 0.03, "--epochs", 3000)
TERMS = ("elbo", "log_likelihood", "kl")


pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty binary images without anything to learn: what a fit learns, it learns by heart."""
    path = tmp_path_factory.mktemp("images") / "noise.npy"
    np.save(path, (np.random.RandomState(0).rand(50, 3, 3) < 0.5).astype("f4"))
    return path


def words(noise: Path, *more: object) -> tuple[object, ...]:
    return ("fit", "vae", "--data", noise, *SMALL, "--lr", 0.05, "--device", "cpu", *more)


@pytest.fixture(scope="module")
def stopped(noise: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that patience has stopped."""
    run = tmp_path_factory.mktemp("runs") / "stopped"
    asked = ("--validation", 0.33, "--patience", 3, "--epochs", 90, "--out", run)
    code, said = call(*words(noise, *asked))
    assert (code, "has not risen for 3 epochs" in said) == (0, True), said
    return run


@pytest.fixture(scope="module")
def converged(noise: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose learning rate was halved until that gained nothing."""
    run = tmp_path_factory.mktemp("runs") / "converged"
    code, said = call(*words(noise, *UNTIL, "--out", run))
    assert (code, "stopped: converged: halving the learning rate to 0.0" in said) == (0, True), said
    return run


def bounds(run: Path) -> list[float]:
    return [record.metrics["validation_elbo"] for record in Run.open(run).records()]


def test_the_best_epoch_is_what_a_run_is_judged_by(stopped: Path) -> None:
    measured = bounds(stopped)
    fitted = ppl_gen.load(stopped, device="cpu")
    assert fitted.epoch == len(measured) - 3 == 1 + measured.index(max(measured))
    assert fitted.config.validation == 0.33
    fitting = recipe_of(fitted.config).prepare(fitted.config, fitted.data, CPU)
    assert fitting.validation is not None
    fitting.program.load_state_dict(fitted.program.state_dict())
    assert fitting.validation()["validation_elbo"] == max(measured)


def test_both_terms_are_measured(stopped: Path) -> None:
    for record in Run.open(stopped).records():
        for part in ("train", "validation"):
            found = {term: record.metrics[f"{part}_{term}"] for term in TERMS}
            total = found["log_likelihood"] - found["kl"]
            assert found["elbo"] == pytest.approx(total, abs=1e-9)
            assert all(record.metrics[f"{part}_{term}_error"] > 0 for term in TERMS)


def test_no_batch_holds_a_row_that_is_held_out(tmp_path: Path) -> None:
    """Each datum says which it is."""
    x = np.arange(80, dtype="f4").reshape(40, 2) / 80
    np.save(tmp_path / "rows.npy", x)
    values = {"data": str(tmp_path / "rows.npy"), "likelihood": "gaussian", "lr": 1e-3}
    config = RECIPES["vae"].configuration(
        {**values, "validation": 7.0, "batch_size": 5, "epochs": 1, "hidden": "4"}
    )
    data = recipe_of(config).data(config)
    assert isinstance(data, Dataset)
    assert data.validation is not None
    held_out = set(data.validation.x[:, 0].tolist())
    assert len(held_out) == 7
    fitting = recipe_of(config).prepare(config, data, CPU)
    shown = {row for (some,) in fitting.batches for row in some[:, 0].tolist()}
    assert not shown & held_out
    assert not set(data.test.fixed().x[:, 0].tolist()) & (shown | held_out)
    assert len(shown) + 7 + len(data.test) == 40


def test_the_same_rows_are_held_out_again(stopped: Path) -> None:
    found = []
    for _ in range(2):
        data = Run.open(stopped).data()
        assert isinstance(data, Dataset)
        assert data.validation is not None
        found.append(data.validation.x)
    assert found[0].equal(found[1])
    assert "validation data" in held(stopped)["data"]


@pytest.mark.parametrize("epoch", [pytest.param("early", marks=pytest.mark.long), "waiting"])
def test_a_run_that_was_killed_stops_where_another_does(
    noise: Path, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: str
) -> None:
    """Bit for bit: weights of the best epoch and of the last, rule, optimiser and generator."""
    batches = len(bounds(stopped)) - 2  # the epoch after the best
    at = 3 if epoch == "early" else 2 * batches
    run = tmp_path / "killed"
    asked = ("--validation", 0.33, "--patience", 3, "--epochs", 90, "--out", run)
    with monkeypatch.context() as patched:
        stop_at(patched, at)
        assert call(*words(noise, *asked))[0] == 130
    metrics = run / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[1:]))
    code, said = call("fit", "vae", "--out", run, "--resume")
    assert code == 0, said
    assert same(held(run), held(stopped))


def test_validation_alone_leaves_the_fit_as_it_is(noise: Path, tmp_path: Path) -> None:
    """Its last epoch is kept, and its weights are those of a fit to the same rows."""
    run = tmp_path / "run"
    asked = ("--validation", 16, "--epochs", 3, "--out", run)
    assert call(*words(noise, *asked))[0] == 0
    dataset = Run.open(run).data()
    assert isinstance(dataset, Dataset)
    rows = dataset.train.fixed().x.numpy()
    np.savez(tmp_path / "kept.npz", x_train=rows, x_test=dataset.test.fixed().x.numpy())
    code, said = call(*words(tmp_path / "kept.npz", "--epochs", 3, "--out", tmp_path / "kept"))
    assert code == 0, said
    assert same(held(run)["program"], held(tmp_path / "kept")["program"])
    assert held(run)["stopping"] is None


def test_the_training_picture_shows_both_terms(stopped: Path) -> None:
    (path,) = pictures.training(ppl_gen.load(stopped, device="cpu"))
    assert path.name == "training.png"


def test_a_run_that_is_over_goes_no_further(stopped: Path) -> None:
    before = held(stopped)
    code, said = call("fit", "vae", "--out", stopped, "--resume", "--epochs", 200)
    assert (code, "has not risen for 3 epochs" in said) == (0, True)
    assert same(held(stopped), before)


@pytest.mark.long
class TestConverged:
    def test_a_run_says_how_often_its_rate_was_halved(self, converged: Path) -> None:
        rule = held(converged)["stopping"]["rule"]
        epochs = len(Run.open(converged).records())
        assert 100 < epochs < 3000
        assert rule["is_over"]
        assert rule["best"] == epochs == ppl_gen.load(converged, device="cpu").epoch
        assert rule["levels"][-1] - rule["levels"][-2] < 0.05
        group = held(converged)["optimizers"][0]["param_groups"][0]
        assert group["lr"] == 0.03 / 2 ** (len(rule["levels"]) - 1)

    def test_its_weights_are_the_last(self, converged: Path) -> None:
        whole = held(converged)
        assert same(whole["stopping"]["weights"], whole["program"])

    def test_one_that_was_cut_short_stops_where_another_does(
        self, noise: Path, converged: Path, tmp_path: Path
    ) -> None:
        """The rate was halved before, and there is a part of a stage behind it."""
        run = tmp_path / "run"
        epoch = 75
        asked = (*words(noise, *UNTIL), "--out", run)
        code, said = call(*asked[:-3], epoch, *asked[-2:])
        assert (code, f"not converged in {epoch} epochs; the fit goes on" in said) == (0, True), (
            said
        )
        code, said = call("fit", "vae", "--out", run, "--resume", "--epochs", 3000)
        assert code == 0, said
        assert same(held(run), held(converged) | {"asked": held(run)["asked"]})

    def test_it_goes_no_further(self, converged: Path) -> None:
        before = held(converged)
        code, said = call("fit", "vae", "--out", converged, "--resume", "--epochs", 4000)
        assert (code, "stopped: converged" in said) == (0, True)
        assert same(held(converged), before)


class TestRefused:
    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (("--until", "settled"), "unknown until 'settled'; Known: converged"),
            (("--until", "converged", "--schedule", "cosine"), "which halves the learning rate"),
            (
                ("--until", "converged", "--validation", 0.2, "--patience", 3),
                "one rule that stops a fit, got --patience 3 and --until converged",
            ),
        ],
    )
    def test_rules_that_do_not_go_together(
        self, noise: Path, tmp_path: Path, more: tuple[object, ...], message: str
    ) -> None:
        code, said = call(*words(noise, *more, "--epochs", 1, "--out", tmp_path / "run"))
        assert (code, message in said) == (2, True), said
        assert not (tmp_path / "run").exists()

    def test_a_model_without_a_bound(self) -> None:
        code, said = call("fit", "gan", "--until", "converged")
        assert (code, "it is for models that are fitted by SVI" in said) == (2, True), said

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (("--patience", 3), "to stop on for --patience 3, got none held out; say --validation"),
            (("--patience", 0, "--validation", 0.1), "--patience of at least 1, got 0"),
            (("--validation", 45), "fewer than all 45 training data for validation, got 45"),
            (("--validation", 0.999), "fewer than all 45 training data"),
            (("--validation", 4500), "a count below 45 of them"),
            (("--validation", 0), "--validation as a share of the training data"),
            (("--validation", 2.5), "--validation as a share of the training data"),
            (("--validation", "nan"), "--validation as a share of the training data"),
            (("--validation", 0.9, "--batch-size", 20), "a batch size from 1 to the number"),
        ],
    )
    def test_what_cannot_be_held_out(
        self, noise: Path, tmp_path: Path, more: tuple[object, ...], message: str
    ) -> None:
        code, said = call(*words(noise, *more, "--epochs", 1, "--out", tmp_path / "run"))
        assert (code, message in said) == (2, True), said
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("option", [("--patience", 3), ("--validation", 0.1)])
    def test_a_model_without_a_likelihood(self, option: tuple[object, ...]) -> None:
        code, said = call("fit", "gan", *option)
        assert (code, "there is no bound to validate; say --epochs" in said) == (2, True), said

    @pytest.mark.parametrize("option", [("--validation", 0.2), ("--patience", 9)])
    def test_another_share_or_patience_of_a_run(
        self, stopped: Path, option: tuple[object, ...]
    ) -> None:
        code, said = call("fit", "vae", "--out", stopped, "--resume", *option)
        assert (code, f"was begun with {option[0][2:]}" in said) == (2, True), said  # type: ignore[index]

    @pytest.mark.parametrize(
        "change", [{"best": "one"}, {"best": None}, {"highest": "-1"}, {"last": None}]
    )
    def test_a_checkpoint_whose_rule_is_none(self, stopped: Path, change: dict[str, Any]) -> None:
        kept = (stopped / "checkpoint.pt").read_bytes()
        stopping = held(stopped)["stopping"]
        change_checkpoint(stopped, stopping={**stopping, "rule": {**stopping["rule"], **change}})
        code, said = call("fit", "vae", "--out", stopped, "--resume")
        (stopped / "checkpoint.pt").write_bytes(kept)
        assert (code, "got something else in" in said) == (2, True), said

    def test_a_checkpoint_whose_rule_is_gone(self, stopped: Path) -> None:
        config = Run.open(stopped).config
        text = json.loads((stopped / "config.json").read_text())
        kept = (stopped / "config.json").read_bytes()
        text.pop("checksum")
        text["patience"] = None
        (stopped / "config.json").write_text(json.dumps(text))
        code, said = call("fit", "vae", "--out", stopped, "--resume")
        (stopped / "config.json").write_bytes(kept)
        assert isinstance(config, Config)
        assert (code, "a rule that stops the fit, not none" in said) == (2, True), said


def test_runs_of_other_shares_are_compared_on_all_data() -> None:
    """What a run holds out changes nothing of the data that several are judged on."""
    values = {"data": "digits", "lr": 1e-3, "likelihood": "bernoulli"}
    plain = RECIPES["vae"].configuration(values)
    parted = plain.changed(validation=0.1)
    found = [ingredients.fingerprint(ingredients.grey(config)) for config in (plain, parted)]
    assert found[0] == found[1]
