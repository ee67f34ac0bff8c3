"""`--likelihood masked`: a run over data with missing entries, from its fit to its pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from command import call

import ppl_gen
from ppl_gen.app.parts.likelihoods import likelihood_named
from ppl_gen.app.recipes import RECIPES, models_with
from ppl_gen.inference import elbo
from ppl_gen.likelihoods import Masked
from ppl_gen.program import Observed

SMALL = ("--latent-dim", 2, "--hidden", 8, "--batch-size", 60, "--device", "cpu")
FIT = (*SMALL, "--engine", "eager")


def table() -> np.ndarray:
    """Numbers of which a third is missing, a whole datum and, in all data, a column besides."""
    random = np.random.RandomState(0)
    x = random.randn(80, 2) @ random.randn(2, 5) + 0.3 * random.randn(80, 5)
    x[random.rand(*x.shape) < 0.3] = np.nan
    x[5] = np.nan
    x[:, 3] = np.nan
    return x.astype("f4")


def images() -> np.ndarray:
    """Grey images of which a third is missing."""
    random = np.random.RandomState(1)
    x = random.rand(80, 8, 8)
    return np.where(random.rand(*x.shape) < 0.3, np.nan, x).astype("f4")


pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of the table and one of the images."""
    here = tmp_path_factory.mktemp("missing")
    np.save(here / "table.npy", table())
    np.savez(here / "images.npz", x=images(), y=np.arange(80) % 2)
    for name in ("table.npy", "images.npz"):
        out = here / name.split(".")[0]
        words = ("--data", here / name, "--likelihood", "masked", "--out", out, "--epochs", 2)
        code, said = call("fit", "vae", *words, *FIT)
        assert code == 0, said
        assert "missing" in said
    return here


def asked(run: Path) -> dict[str, object]:
    return json.loads((run / "config.json").read_text())


class TestALikelihoodOfWhatIsObserved:
    @pytest.mark.parametrize(
        ("run", "likelihood", "binarize"),
        [("table", "masked-gaussian", None), ("images", "masked-bernoulli", "dynamic")],
    )
    def test_is_that_which_suits_the_data(
        self, here: Path, run: str, likelihood: str, binarize: str | None
    ) -> None:
        config = asked(here / run)
        assert (config["likelihood"], config["binarize"]) == (likelihood, binarize)
        fitted = ppl_gen.load(here / run)
        assert isinstance(fitted.program.likelihood, Masked)
        assert bool(fitted.data.test.x.isnan().any())

    def test_may_be_of_any_other(self, here: Path, tmp_path: Path) -> None:
        words = ("--data", here / "table.npy", "--likelihood", "masked-student-t", "--scale", 0.5)
        code, said = call("fit", "vae", *words, "--epochs", 1, "--out", tmp_path / "a", *FIT)
        assert code == 0, said
        likelihood = ppl_gen.load(tmp_path / "a").program.likelihood
        assert type(likelihood.likelihood).__name__ == "StudentT"
        assert float(likelihood.likelihood.scale) == 0.5

    def test_has_the_options_of_the_other(self) -> None:
        assert likelihood_named("masked-laplace").heeds == ("scale",)
        assert likelihood_named("masked-beta").heeds == ()

    @pytest.mark.parametrize(
        ("word", "meant"), [("masked-gausian", "gaussian"), ("maskd", "masked")]
    )
    def test_is_known_by_its_name(self, word: str, meant: str) -> None:
        code, said = call("fit", "vae", "--likelihood", word)
        assert code == 2
        assert f"did you mean '{meant}'?" in said

    @pytest.mark.parametrize("model", models_with("likelihood"))
    def test_is_one_of_every_model_with_a_likelihood(self, here: Path, model: str) -> None:
        """One that takes numbers per datum: encoders see what is missing, decoders end in them."""
        recipe = RECIPES[model]
        values = {"data": str(here / "images.npz"), "likelihood": "masked-isotropic-gaussian"}
        small = {"latent_dim": 2, "hidden": "8", "batch_size": 60, "lr": 1e-3, "epochs": 1}
        if model == "ss-vae":
            small["labels"] = 4
        config = recipe.configuration(values | small)
        fitting = recipe.prepare(config, recipe.data(config), torch.device("cpu"))
        step = fitting.begin(0, "eager")
        step(*next(iter(fitting.batches)))
        assert fitting.is_finite()

    def test_is_masked_once(self) -> None:
        with pytest.raises(ValueError, match="unknown likelihood 'masked'"):
            RECIPES["vae"].configuration({"likelihood": "masked-masked"})


class TestARun:
    @pytest.mark.parametrize("run", ["table", "images"])
    def test_stopped_is_gone_on_with(self, here: Path, tmp_path: Path, run: str) -> None:
        """Bit for bit, and the word that was typed stands for the likelihood that was taken."""
        data = here / next(name for name in ("table.npy", "images.npz") if run in name)
        out = tmp_path / "a"
        words = ("--likelihood", "masked", "--out", out, *FIT)
        assert call("fit", "vae", "--data", data, *words, "--epochs", 1)[0] == 0
        code, said = call(
            "fit", "vae", "--out", out, "--resume", "--likelihood", "masked", "--epochs", 2
        )
        assert code == 0, said
        again = ppl_gen.load(out).program.state_dict()
        for name, weights in ppl_gen.load(here / run).program.state_dict().items():
            assert torch.equal(weights, again[name])

    def test_is_not_gone_on_with_under_another_likelihood(self, here: Path) -> None:
        code, said = call(
            "fit", "vae", "--out", here / "table", "--resume", "--likelihood", "gaussian"
        )
        assert code == 2
        assert "begun with likelihood masked-gaussian, got gaussian" in said

    def test_is_scored_on_what_is_observed(self, here: Path) -> None:
        code, said = call("evaluate", here / "table", "--particles", 20)
        assert code == 0, said
        fitted = ppl_gen.load(here / "table")
        x = fitted.data.test.x
        missing = float(x.isnan().double().mean())
        assert f"{missing:.1%} of the test data is missing: nats are of what is observed" in said
        found = json.loads((here / "table" / "evaluation.json").read_text())["elbo"]
        assert found["missing"] == missing
        bound = elbo(fitted.program, None, x, particles=2000, seed=1).mean()
        error = math.hypot(found["standard_error"], float(bound.standard_error))
        assert abs(found["value"] - float(bound.value)) < 4 * error

    def test_of_a_datum_that_is_missing_has_no_nats_but_of_its_latents(self, here: Path) -> None:
        program = ppl_gen.load(here / "table").program
        x = torch.full((1, 5), torch.nan)
        with torch.no_grad():
            drawn = program.likelihood(program.decoder(torch.randn(1, 2)))
        assert float(drawn.log_prob(x).sum()) == 0.0
        assert float(elbo(program, None, x, particles=2000, seed=0).value) < 0

    def test_under_noise_is_scored_on_what_is_observed(self, here: Path) -> None:
        annealing = ("--subset", 2, "--chains", 2, "--temperatures", 5, "--particles", 10)
        code, said = call("evaluate", here / "images", "--epsilon", 0.3, *annealing)
        assert code == 0, said
        found = json.loads((here / "images" / "evaluation.json").read_text())["noise"]
        assert math.isfinite(found["value"])

    @pytest.mark.parametrize("option", ["--moments", "--two-sample"])
    def test_has_no_statistics_of_whole_data(self, here: Path, option: str) -> None:
        code, said = call("evaluate", here / "table", option)
        assert code == 2
        assert f"expected a run over complete data for {option}, got table.npy" in said
        assert "judged by its evidence: ppl-gen evaluate" in said

    def test_draws_whole_data(self, here: Path, tmp_path: Path) -> None:
        code, said = call("sample", here / "table", "--count", 7, "--out", tmp_path / "drawn.npz")
        assert code == 0, said
        drawn = np.load(tmp_path / "drawn.npz")["x"]
        assert drawn.shape == (7, 5)
        assert np.isfinite(drawn).all()

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("run", ["table", "images"])
    def test_is_drawn_beside_its_reconstructions(self, here: Path, run: str) -> None:
        assert call("reconstruct", here / run)[0] == 0
        assert (here / run / "reconstructions.png").stat().st_size > 1000

    def test_of_other_missing_entries_is_of_other_data(self, here: Path, tmp_path: Path) -> None:
        x = table()
        x[:, 0] = np.nan
        np.save(tmp_path / "other.npy", x)
        code, said = call("evaluate", here / "table", "--data", tmp_path / "other.npy")
        assert code == 2
        assert "training data" in said


class TestWhatIsNotMeantToBeMissing:
    def test_is_refused_with_the_way_to_say_so(self, here: Path, tmp_path: Path) -> None:
        words = ("--data", here / "table.npy", "--out", tmp_path / "a")
        for model in ("vae", "gan"):
            code, said = call("fit", model, *words, *SMALL)
            assert code == 2
            assert "that are NaN; remove or replace them" in said
            assert "--likelihood masked to ppl-gen fit" in said
        assert not (tmp_path / "a").exists()

    @pytest.mark.parametrize("condition", ["edges", "half", "attributes", "caption"])
    def test_is_a_condition_made_of_images(
        self, here: Path, tmp_path: Path, condition: str
    ) -> None:
        words = ("--data", here / "images.npz", "--likelihood", "masked", "--condition", condition)
        code, said = call("fit", "cvae", *words, "--out", tmp_path / "a", *FIT)
        assert code == 2
        assert f"expected complete images for --condition {condition}" in said

    def test_is_seen_by_a_likelihood_of_the_user_s_own(self, here: Path, tmp_path: Path) -> None:
        (tmp_path / "own.py").write_text(
            "from ppl_gen.likelihoods import Laplace, Masked\n"
            "masked = Masked(Laplace())\n"
            "plain = Laplace()\n"
        )
        words = ("--data", here / "table.npy", "--epochs", 1, "--out", tmp_path / "a", *FIT)
        code, said = call("fit", "vae", *words, "--likelihood", f"{tmp_path / 'own.py'}:plain")
        assert code == 2
        assert "expected finite data, got NaN" in said
        code, said = call("fit", "vae", *words, "--likelihood", f"{tmp_path / 'own.py'}:masked")
        assert code == 0, said


def test_noise_of_what_is_observed_is_that_of_whole_data_elsewhere(here: Path) -> None:
    """Of a datum in which nothing is missing, a masked noise says what a plain one says."""
    program = ppl_gen.load(here / "table").program
    x = torch.zeros(1, 5)
    values = []
    for noise in (ppl_gen.likelihoods.Gaussian(0.5), Masked(ppl_gen.likelihoods.Gaussian(0.5))):
        values.append(elbo(Observed(program, noise), None, x, particles=5, seed=0).value)
    assert torch.equal(*values)
