"""`fit ae`, its variants, `pca` and the classical models: fitted, gone on with, judged, refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import call, held, same, stop_at

import ppl_gen
from ppl_gen import models
from ppl_gen.app.ingredients.autoencoders import DENSITIES, net_of
from ppl_gen.app.recipes import RECIPES
from ppl_gen.app.run import pictures
from ppl_gen.app.run.folder import Run
from ppl_gen.inference import squared_error

pytestmark = pytest.mark.usefixtures("without_pictures")

QUICK = ("ae", "pca", "factored", "kernel", "denoising-ae", "gaussian", "ppca")


def quick(names: Iterable[str]) -> list[Any]:
    """Names as parameters of a test, most of them of a long one."""
    params = []
    for name in names:
        marks = ()
        if name not in QUICK:
            marks = (pytest.mark.long,)
        params.append(pytest.param(name, marks=marks))
    return params


AUTOENCODERS = [name for name, recipe in RECIPES.items() if recipe.autoencodes]
CLASSICAL = {
    "gaussian": (models.gaussian, {}),
    "gaussian-mixture": (lambda x: models.gaussian_mixture(x, 2), {"--components": 2}),
    "ppca": (lambda x: models.ppca(x, 3), {"--latent-dim": 3}),
    "factor-analysis": (lambda x: models.factor_analysis(x, 3), {"--latent-dim": 3}),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images of 8 × 8 pixels of two kinds, with noise."""
    path = tmp_path_factory.mktemp("images") / "images.npy"
    random = np.random.RandomState(0)
    kinds = random.rand(2, 1, 8, 8)[random.randint(2, size=60)]
    np.save(path, np.clip(kinds + 0.1 * random.randn(60, 1, 8, 8), 0, 1).astype("f4"))
    return path


def words(model: str, images: Path, out: Path, *more: object) -> tuple[object, ...]:
    """A small fit of a model."""
    few: tuple[object, ...] = ("--latent-dim", 2)
    if "epochs" in {option.name for option in RECIPES[model].options}:
        few += ("--hidden", 8, "--epochs", 6, "--batch-size", 18, "--lr", 0.01, "--engine", "eager")
    return ("fit", model, "--data", images, "--device", "cpu", *few, *more, "--out", out)


def fitted(model: str, images: Path, out: Path, *more: object) -> Path:
    code, said = call(*words(model, images, out, *more))
    assert code == 0, said
    return out


@pytest.mark.parametrize("model", quick(["ae", "pca"]))
def test_an_autoencoder_is_judged_beside_principal_components_and_in_nats(
    model: str, images: Path, tmp_path: Path
) -> None:
    run = fitted(model, images, tmp_path / "run")
    code, said = call("evaluate", run, "--particles", 50)
    assert (code, "squared error" in said, "test log evidence" in said) == (0, True, True), said
    found = json.loads((run / "evaluation.json").read_text())
    rows = found["reconstruction"]["rows"]
    loaded = ppl_gen.load(run, device="cpu")
    x = loaded.data.test.x
    errors = squared_error(net_of(loaded.program)(x), x).detach().double()
    assert rows[model]["value"] == pytest.approx(float(errors.mean()), rel=1e-5)
    expected = float(errors.std()) / len(x) ** 0.5
    assert rows[model]["standard_error"] == pytest.approx(expected, rel=1e-4)
    linear = models.pca(loaded.data.train.x, 2)
    error = float(squared_error(linear(x), x).mean().detach())
    if model == "pca":
        assert rows[model]["value"] == pytest.approx(error, rel=1e-4)
    else:
        assert rows["2 principal components"]["value"] == pytest.approx(error, rel=1e-4)
    assert np.isfinite(found["log_evidence"]["value"])
    assert call("sample", run, "--out", tmp_path / "draws.npy", "--count", 5)[0] == 0
    assert np.load(tmp_path / "draws.npy").shape == (5, 1, 8, 8)


def test_pictures_of_an_autoencoder(images: Path, tmp_path: Path) -> None:
    run = fitted("ae", images, tmp_path / "run", "--validation", 0.3, "--conv")
    loaded = ppl_gen.load(run, device="cpu")
    for draw in (pictures.training, pictures.samples, pictures.reconstructions):
        draw(loaded)
    assert {"training.png", "samples.png", "reconstructions.png"} <= {p.name for p in run.iterdir()}


@pytest.mark.long
@pytest.mark.parametrize("model", [name for name in AUTOENCODERS if name not in ("ae", "pca")])
def test_a_variant_is_fitted_and_judged(model: str, images: Path, tmp_path: Path) -> None:
    run = fitted(model, images, tmp_path / "run", "--codes", "mixture")
    assert call("evaluate", run, "--particles", 20)[0] == 0
    assert json.loads((run / "evaluation.json").read_text())["reconstruction"]["rows"]


@pytest.mark.parametrize("codes", quick(DENSITIES))
def test_the_density_of_codes_is_that_of_their_fit(
    codes: str, images: Path, tmp_path: Path
) -> None:
    run = fitted("pca", images, tmp_path / "run", "--codes", codes)
    loaded = ppl_gen.load(run, device="cpu")
    encoded = net_of(loaded.program).encoder(loaded.data.train.x).detach()
    expected = DENSITIES[codes].fit(encoded, 0)
    found = loaded.program.prior().log_prob(encoded)
    torch.testing.assert_close(found, expected().log_prob(encoded), rtol=1e-4, atol=1e-4)
    error = squared_error(net_of(loaded.program)(loaded.data.train.x), loaded.data.train.x)
    scale = float(loaded.program.likelihood.scale)
    assert scale**2 == pytest.approx(float(error.mean().detach()) / 64, rel=1e-4)


@pytest.mark.parametrize("model", quick(["denoising-ae", "stacked-ae"]))
def test_a_fit_that_was_stopped_goes_on_bit_for_bit(
    model: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from a run whose density of codes was fitted already, to more epochs."""
    whole = fitted(model, images, tmp_path / "whole")
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        stop_at(patched, 9)
        assert call(*words(model, images, run))[0] == 130
    assert not bool(held(run)["program"]["is_complete"])
    ppl_gen.load(run, device="cpu")
    code, said = call("fit", model, "--out", run, "--resume")
    assert code == 0, said
    assert same(held(run), held(whole))
    shorter = tmp_path / "shorter"
    more = ("--pretraining", 1) if model == "stacked-ae" else ()
    fitted(model, images, shorter, *more, "--epochs", 4)
    code, said = call("fit", model, "--out", shorter, "--resume", "--epochs", 6)
    assert code == 0, said
    assert bool(held(shorter)["program"]["is_complete"])
    if not more:
        assert same(held(shorter)["program"], held(whole)["program"])


def test_a_fit_stops_on_the_error_of_held_out_data(images: Path, tmp_path: Path) -> None:
    more = ("--validation", 0.3, "--patience", 2, "--epochs", 200, "--lr", 0.05)
    run = tmp_path / "run"
    code, said = call(*words("ae", images, run, *more))
    assert (code, "the error of validation data has not fallen for 2 epochs" in said) == (0, True)
    loaded = ppl_gen.load(run, device="cpu")
    measured = [r.metrics["validation_squared_distance"] for r in Run.open(run).records()]
    assert loaded.epoch == 1 + measured.index(min(measured)) == len(measured) - 2
    x = loaded.data.validation.x
    error = squared_error(net_of(loaded.program)(x), x).detach()
    assert float(error.mean()) == pytest.approx(min(measured), rel=1e-5)
    assert bool(loaded.program.is_complete)
    before = held(run)
    assert call("fit", "ae", "--out", run, "--resume")[0] == 0
    assert same(held(run), before)


@pytest.mark.long
def test_no_layer_of_a_stack_stops_the_fit(images: Path, tmp_path: Path) -> None:
    more = ("--validation", 0.3, "--patience", 1, "--pretraining", 2)
    run = fitted("stacked-ae", images, tmp_path / "run", *more)
    assert len(Run.open(run).records()) > 4
    assert ppl_gen.load(run, device="cpu").epoch > 4


@pytest.mark.parametrize("model", quick(CLASSICAL))
def test_a_classical_model_is_fitted_and_judged_exactly(
    model: str, images: Path, tmp_path: Path
) -> None:
    fit, options = CLASSICAL[model]
    asked = [word for pair in options.items() for word in pair]
    run = tmp_path / "run"
    code, said = call("fit", model, "--data", images, "--device", "cpu", *asked, "--out", run)
    assert code == 0, said
    loaded = ppl_gen.load(run, device="cpu")
    expected: Any = fit(loaded.data.train.x).exact_log_evidence(loaded.data.test.x)
    code, said = call("evaluate", run)
    assert (code, "test log p(x), exact" in said) == (0, True), said
    found = json.loads((run / "evaluation.json").read_text())["log_evidence"]
    assert found["value"] == pytest.approx(float(expected.mean()), rel=1e-5)
    assert found["standard_error"] == 0
    assert call("sample", run)[0] == 0
    code, said = call("evaluate", run, "--ais")
    assert (code, "whose log p(x) is exact, got --ais" in said) == (2, True), said


@pytest.mark.long
def test_a_vae_an_autoencoder_and_a_gaussian_stand_in_one_table(
    images: Path, tmp_path: Path
) -> None:
    few_images = np.load(images)
    data = tmp_path / "more.npy"
    np.save(data, np.concatenate([few_images, 0.9 * few_images]))
    runs = [
        fitted("vae", data, tmp_path / "vae", "--likelihood", "gaussian"),
        fitted("pca", data, tmp_path / "pca"),
        tmp_path / "gaussian",
    ]
    assert call("fit", "gaussian", "--data", data, "--device", "cpu", "--out", runs[2])[0] == 0
    few = ("--chains", 2, "--temperatures", 5, "--features", "pca")
    code, said = call("evaluate", *runs, *few, "--out", tmp_path / "table")
    assert (code, "log p(x), densities of data as" in said) == (0, True), said
    found = json.loads((tmp_path / "table" / "comparison.json").read_text())["runs"]
    assert found["gaussian"]["nats"] is None
    program = ppl_gen.load(runs[2], device="cpu")
    exact = program.program.exact_log_evidence(program.data.test.x)
    assert found["gaussian"]["log_evidence"]["value"] == pytest.approx(float(exact.mean()))
    assert all(found[run.name]["log_evidence"]["standard_error"] >= 0 for run in runs)
