"""`fit ss-vae` and what follows: evidence with the label summed out, accuracy, draws by label."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from command import call
from sklearn.datasets import load_digits

import ppl_gen
from ppl_gen.app.run.opened import Fitted
from ppl_gen.inference import log_evidence
from ppl_gen.inference.prediction.labels import accuracy

CLASSES = 3
FIT = ("--latent-dim", 2, "--hidden", 16, "--batch-size", 60, "--device", "cpu")


pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits from zero to two, nine of whose labels are told."""
    here = tmp_path_factory.mktemp("labels")
    digits = load_digits(n_class=CLASSES)
    x = (digits.images[:300] / 16).astype("f4")
    y = digits.target[:300]
    np.savez(here / "few.npz", x_train=x[:240], y_train=y[:240], x_test=x[240:], y_test=y[240:])
    words = ("--data", here / "few.npz", "--labels", 9, "--epochs", 12, "--engine", "eager")
    code, said = call("fit", "ss-vae", *words, *FIT, "--out", here / "run")
    assert code == 0, said
    return here


def test_the_evidence_is_that_with_labels_summed_out(here: Path) -> None:
    """log p(x) = log Σₖ p(k) p(x | k), each p(x | k) by a label that is known."""
    code, said = call("evaluate", here / "run", "--particles", 100)
    assert code == 0, said
    found = json.loads((here / "run" / "evaluation.json").read_text())["log_evidence"]
    fitted = Fitted.open(here / "run", "cpu")
    program = fitted.program
    test = fitted.data.test.fixed(0)
    logs, errors = [], []
    for k in range(CLASSES):
        y = torch.full((len(test),), k)
        given = log_evidence(program, None, test.x, y, particles=400, seed=1)
        logs.append(given.value - math.log(CLASSES))
        errors.append(given.standard_error)
    expected = torch.stack(logs).logsumexp(0)
    shares = torch.stack(logs).softmax(0)
    variance = (shares * torch.stack(errors)).square().sum(0)
    error = math.hypot(float(variance.sum().sqrt()) / len(test), found["standard_error"])
    bias = len(test) * found["standard_error"] ** 2 / 2  # of logs of means, s² / 2 for each datum
    assert abs(found["value"] - float(expected.mean())) < 4 * error + bias


def test_the_accuracy_is_that_of_the_test_labels(here: Path) -> None:
    code, said = call("evaluate", here / "run", "--particles", 5)
    assert code == 0, said
    fitted = Fitted.open(here / "run", "cpu")
    test = fitted.data.test.fixed(0)
    found = accuracy(fitted.program, test.x, test.y)
    entry = json.loads((here / "run" / "evaluation.json").read_text())["accuracy"]
    assert (entry["value"], entry["data"]) == (float(found.value), 60)
    assert f"accuracy of the inferred label {float(found.value):.4f} ±" in said
    assert entry["value"] > 0.6  # chance is a third


def test_without_test_labels_there_is_no_accuracy(here: Path, tmp_path: Path) -> None:
    held = dict(np.load(here / "few.npz"))
    held["y_test"] = np.full(60, -1)
    np.savez(tmp_path / "none.npz", **held)
    words = ("--data", tmp_path / "none.npz", "--labels", 9, "--epochs", 1, "--engine", "eager")
    assert call("fit", "ss-vae", *words, *FIT, "--out", tmp_path / "run")[0] == 0
    code, said = call("evaluate", tmp_path / "run", "--particles", 5)
    assert code == 0
    assert "no test datum has a label, which the inferred ones could be held against" in said


@pytest.mark.parametrize("option", ["--gaps", "--collapse"])
def test_what_wants_continuous_latents_is_refused_before_work(here: Path, option: str) -> None:
    code, said = call("evaluate", here / "run", option)
    assert code == 2
    assert f"whose latents are continuous for {option}, got ss-vae" in said


def test_a_label_is_what_draws_are_of(here: Path, tmp_path: Path) -> None:
    """Each pixel's mean is, within its error, that under the label; those of others are not."""
    words = ("--label", 1, "--count", 500, "--out", tmp_path / "ones.npz")
    code, said = call("sample", here / "run", *words)
    assert code == 0, said
    drawn = np.load(tmp_path / "ones.npz")
    assert set(drawn["y"].tolist()) == {1}
    program = ppl_gen.load(here / "run").program.eval()
    z = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    x = torch.as_tensor(drawn["x"])
    if x.dtype == torch.uint8:
        x = x / 255
    x = x.reshape(500, 64)
    off = []
    for k in range(CLASSES):
        with torch.no_grad():
            means = program.decoder(z, torch.full((2000,), k)).sigmoid().flatten(1)
        error = (x.var(0) / 500 + means.var(0) / 2000).sqrt() + 1e-3
        off.append(float(((x.mean(0) - means.mean(0)) / error).abs().max()))
    assert off[1] < 5
    assert min(off[0], off[2]) > 10


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("3", "expected --label from 0 to 2, got 3"),
        ("-1", "expected --label from 0 to 2, got -1"),
        ("one", "unknown --label 'one'; Known: 0 to 2"),
    ],
)
def test_a_label_that_is_none_is_refused(here: Path, label: str, said: str) -> None:
    assert call("sample", here / "run", "--label", label) == (2, f"error: {said}")


@pytest.mark.parametrize("model", ["vae", "gan"])
def test_a_label_means_nothing_without_labels_in_the_program(
    here: Path, tmp_path: Path, model: str
) -> None:
    """Though the data have labels."""
    words = ("--data", here / "few.npz", "--epochs", 1, "--out", tmp_path / "run")
    assert call("fit", model, *words, *FIT)[0] == 0
    code, said = call("sample", tmp_path / "run", "--label", 1)
    assert code == 2
    assert "expected a CVAE or CGAN of labels for --label, an ss-vae, or the codes" in said
    assert said.endswith(f"got {model} on few.npz; leave it out")


@pytest.mark.long
def test_runs_with_labels_and_without_are_compared(here: Path, tmp_path: Path) -> None:
    """Of the one, p(y) is held fixed, and does not count among the parameters."""
    words = ("--data", here / "few.npz", "--epochs", 1, "--out", tmp_path / "vae")
    assert call("fit", "vae", *words, *FIT, "--engine", "eager")[0] == 0
    asked = ("--features", "pca", "--subset", 2, "--chains", 2, "--temperatures", 4)
    runs = (here / "run", tmp_path / "vae")
    code, said = call("evaluate", *runs, *asked, "--limit", 20, "--out", tmp_path / "both")
    assert code == 0, said
    found = json.loads((tmp_path / "both" / "comparison.json").read_text())["runs"]
    decoder = sum(p.numel() for p in ppl_gen.load(here / "run").program.decoder.parameters())
    assert found["run"]["parameters"] == decoder
