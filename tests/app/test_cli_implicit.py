"""The command on models without a likelihood: fitted, resumed, judged by their draws, translating;
and bad input.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import CHEAP, FEW, call, owners, snapshot
from PIL import Image
from typer.testing import CliRunner

from ppl_gen import data
from ppl_gen.app.cli import app
from ppl_gen.app.recipes import explicit_models
from ppl_gen.app.run import progress
from ppl_gen.app.run.opened import Fitted
from ppl_gen.inference.fitting import game
from ppl_gen.program import simulate

DOMAINS = ("--data-a", "digits", "--data-b", "digits:inverted", "--width", 4)
MODELS: dict[str, tuple[object, ...]] = {
    "gan": ("gan",),
    "dcgan": ("dcgan", "--width", 4),
    "cgan": ("cgan",),
    "edges": ("cgan", "--condition", "edges"),
    "attributes": ("cgan", "--condition", "attributes"),
    "caption": ("cgan", "--condition", "caption"),
    "infogan": ("infogan", "--continuous", 1),
    "gmmn": ("gmmn", "--discrepancy", "energy"),
    "ring": ("gan", "--data", "ring", "--latent-dim", 2),
    "wasserstein": (
        "gan",
        "--loss",
        "wasserstein",
        "--penalty",
        10,
        "--critic-steps",
        2,
        "--spectral",
    ),
    "cycle-gan": ("cycle-gan", *DOMAINS),
}
FEW_CHAINS = ("--subset", 5, "--temperatures", 20, "--chains", 4)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each model, fitted for two epochs of three steps."""
    folder = tmp_path_factory.mktemp("runs")
    for name, words in MODELS.items():
        code, said = call("fit", *words, "--out", folder / name, *FEW)
        assert code == 0, said
    return folder


def checkpoint(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoint.pt", weights_only=True)


def found(run: Path) -> dict[str, Any]:
    return json.loads((run / "evaluation.json").read_text())


class TestFit:
    @pytest.mark.parametrize("name", MODELS)
    def test_a_run_holds_what_its_model_has_a_use_for(self, runs: Path, name: str) -> None:
        config = json.loads((runs / name / "config.json").read_text())
        assert "likelihood" not in config
        assert ("critic_steps" in config) == (name not in ("cycle-gan", "gmmn"))
        assert ("data_b" in config) == (name == "cycle-gan")
        picture = "translations.png" if name == "cycle-gan" else "samples.png"
        assert {picture, "training.png", "checkpoint.pt"} <= {
            p.name for p in (runs / name).iterdir()
        }
        metrics = [
            json.loads(line)["metrics"]
            for line in (runs / name / "metrics.jsonl").read_text().splitlines()
        ]
        assert len(metrics) == 2
        assert ("discrepancy" if name == "gmmn" else "critic") in metrics[0]

    def test_a_line_for_each_epoch(self, tmp_path: Path) -> None:
        _, said = call("fit", "gan", "--out", tmp_path / "run", *FEW)
        assert "gan on digits: 1500 to train, 297 to test" in said
        assert "epoch 2/2: critic " in said
        assert ", generator " in said
        assert ", spread " in said
        assert "nats" not in said

    def test_the_moving_average_is_what_is_shown(self, runs: Path) -> None:
        state, fitted = checkpoint(runs / "gan"), Fitted.open(runs / "gan", "cpu")
        for name, shown in fitted.program.state_dict().items():
            assert torch.equal(shown, state["companions"][f"average.module.{name}"])
        assert any(
            not torch.equal(shown, state["program"][k])
            for k, shown in fitted.program.state_dict().items()
        )

    @pytest.mark.parametrize("name", ["gan", "infogan", "wasserstein", "cycle-gan", "gmmn"])
    def test_a_run_that_was_stopped_is_the_run_that_was_not(
        self, runs: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Averages, pools, optimisers, schedules and random state go on where they were."""
        show = progress.Live.show

        def stop(self: progress.Live, record: object) -> None:
            show(self, record)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(progress.Live, "show", stop)
            code, said = call("fit", *MODELS[name], "--out", tmp_path / "run", *FEW)
        assert (code, "the checkpoint of epoch 1 is saved" in said) == (130, True)
        assert not same(checkpoint(tmp_path / "run"), checkpoint(runs / name))
        code, said = call(
            "fit", MODELS[name][0], "--out", tmp_path / "run", "--resume", "--device", "cpu"
        )
        assert code == 0, said
        assert same(checkpoint(tmp_path / "run"), checkpoint(runs / name))

    @pytest.mark.slow
    def test_the_rate_of_a_cycle_gan_falls_over_the_second_half(self, tmp_path: Path) -> None:
        rates = []
        for epochs in (1, 4):
            run = tmp_path / str(epochs)
            call(
                "fit",
                "cycle-gan",
                *DOMAINS,
                "--out",
                run,
                *FEW,
                "--epochs",
                epochs,
                "--batch-size",
                1500,
            )
            rates.append(checkpoint(run)["optimizers"][0]["param_groups"][0]["lr"])
        assert rates == [1e-3, 5e-4]

    @pytest.mark.long
    def test_a_semantic_loss_says_how_good_its_reader_is(self, tmp_path: Path) -> None:
        code, said = call(
            "fit",
            "cycle-gan",
            *DOMAINS,
            "--semantic",
            1,
            "--out",
            tmp_path / "run",
            *FEW,
            "--epochs",
            1,
        )
        assert code == 0, said
        assert "the classifier of digits reads 0.9" in said
        assert "semantic" in json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["metrics"]

    @pytest.mark.long
    def test_collapse_is_a_line_said_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in {"PATIENCE": 1, "_LOOK": 1, "LOST": 1e9}.items():
            monkeypatch.setattr(game, name, value)
        code, said = call("fit", "cycle-gan", *DOMAINS, "--out", tmp_path / "run", *FEW)
        assert code == 0, said
        assert (
            said.count("warning: the critic tells all draws from data") == 1
        )  # though there are two critics
        assert "RuntimeWarning" not in said

    def test_weights_that_have_run_away_never_replace_a_good_checkpoint(
        self, tmp_path: Path
    ) -> None:
        code, said = call(
            "fit", "gmmn", "--out", tmp_path / "run", *FEW, "--lr", 1e38, "--batch-size", 1500
        )
        assert (code, "not finite" in said) == (2, True)
        assert "The checkpoint of epoch 0 stays" in said
        assert checkpoint(tmp_path / "run")["epoch"] == 0

    def test_an_old_checkpoint_is_said_to_be_one(self, runs: Path, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "config.json").write_bytes((runs / "gan" / "config.json").read_bytes())
        torch.save(
            checkpoint(runs / "gan") | {"format": "ppl-gen checkpoint 1"},
            tmp_path / "run" / "checkpoint.pt",
        )
        code, said = call("evaluate", tmp_path / "run")
        assert (code, "expected a 'ppl-gen checkpoint 4' file, got a" in said) == (2, True)


def same(one: Any, other: Any) -> bool:
    """Bit for bit, all the way down."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


class TestEvaluate:
    @pytest.mark.long
    @pytest.mark.parametrize("name", [name for name in MODELS if name != "cycle-gan"])
    def test_draws_are_judged_where_there_is_no_likelihood(self, runs: Path, name: str) -> None:
        code, said = call("evaluate", runs / name, *CHEAP)
        assert code == 0, said
        assert "has draws and no likelihood" in said
        assert "--epsilon 0.1" in said
        result = found(runs / name)
        assert not {"log_evidence", "elbo"} & result.keys()
        assert result["moments"]["worst"]["name"] in said
        mmd = result["two_sample"]["MMD²"]
        assert mmd["p_value"] == pytest.approx(1 / 21)  # a handful of steps fit nothing
        low, high = mmd["interval"]
        assert (low + high) / 2 == pytest.approx(mmd["value"])
        for picture in ("moments.png", "two_sample.png"):
            assert (runs / name / picture).stat().st_size > 5000

    @pytest.mark.slow
    def test_data_are_not_told_from_data(self, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """With other data in the place of draws nothing is off, but for chance: the tests have
        their level.
        """
        train = data.load("ring").train.x
        monkeypatch.setattr(
            "ppl_gen.app.evaluation.subject.simulate", lambda program, n, *given: train[:n]
        )
        code, said = call("evaluate", runs / "ring", "--permutations", 200, "--features", "pixels")
        assert code == 0, said
        result = found(runs / "ring")
        assert result["moments"]["matched"]
        assert result["moments"]["permutations"] == 200
        assert result["two_sample"]["MMD²"]["p_value"] > 0.05
        density = result["two_sample"]["density"]
        assert abs(density["value"] - 1) < 4 * density["standard_error"]

    @pytest.mark.long
    def test_features_of_a_classifier_say_how_good_it_is(self, runs: Path) -> None:
        code, said = call("evaluate", runs / "infogan", "--permutations", 20)
        assert code == 0, said
        assert "of a classifier of digits" in said
        assert "held-out accuracy 0.9" in said
        result = found(runs / "infogan")
        assert {"c", "u"} <= result["information"].keys()
        assert np.sum(result["codes_read_as"]["counts"]) == 5000
        assert (runs / "infogan" / "confusion.png").exists()

    @pytest.mark.long
    def test_noise_gives_a_likelihood(self, runs: Path) -> None:
        path = runs / "cgan" / "evaluation.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        code, said = call("evaluate", runs / "cgan", "--epsilon", 0.2, "--bdmc", *FEW_CHAINS)
        assert code == 0, said
        assert "AIS under noise of 0.2, first 5 grey" in said
        after = found(runs / "cgan")
        assert after.get("two_sample") == before.get("two_sample")  # nothing else was asked
        assert after.get("moments") == before.get("moments")
        noise = found(runs / "cgan")["noise"]
        assert (
            noise["bdmc_gap"]["value"] > -4 * noise["bdmc_gap"]["standard_error"]
        )  # not below 0 in expectation

    @pytest.mark.long
    def test_a_vae_s_draws_are_judged_too(self, tmp_path: Path) -> None:
        call("fit", "vae", "--out", tmp_path / "vae", *FEW)
        words = ("--moments", "--two-sample", "--epsilon", 0.1, "--particles", 5)
        code, said = call("evaluate", tmp_path / "vae", *words, *CHEAP, *FEW_CHAINS)
        assert code == 0, said
        assert "drawn with the likelihood's noise" in said
        assert "not to be held beside those of binary pixels" in said
        assert {"log_evidence", "moments", "two_sample", "noise"} <= found(tmp_path / "vae").keys()

    @pytest.mark.long
    def test_translations_are_judged_both_ways(self, runs: Path) -> None:
        code, said = call(
            "evaluate", runs / "cycle-gan", "--two-sample", "--moments", "--permutations", 20
        )
        assert code == 0, said
        result = found(runs / "cycle-gan")
        assert result["cycle"]["ratio"] == pytest.approx(
            max(result["cycle"][side] / result["cycle"][f"mean_{side}"] for side in "ab")
        )
        for way in ("a_to_b", "b_to_a"):
            confusion = np.array(result[way]["confusion"]["untranslated"])
            assert confusion.sum() == 297
            assert result[way]["read_untranslated"] == pytest.approx(confusion.trace() / 297)
            assert (runs / "cycle-gan" / f"confusion_{way}.png").exists()
            assert 0 < result[way]["MMD²"]["p_value"] <= 1
            assert result[way]["moments"]["verdict"] in said
            assert (runs / "cycle-gan" / f"moments_{way}.png").stat().st_size > 5000
        assert "digits:inverted's classifier reads" in said

    def test_moments_alone(self, runs: Path) -> None:
        code, said = call("evaluate", runs / "cycle-gan", "--moments", "--features", "pca")
        assert code == 0, said
        for way in ("a_to_b", "b_to_a"):
            assert "MMD²" not in found(runs / "cycle-gan")[way]
            assert (
                found(runs / "cycle-gan")[way]["moments"]["compared"] == 16 + 16 * 17 / 2 + 16 + 16
            )


class TestSample:
    def test_a_label_and_a_caption_are_obeyed(self, runs: Path) -> None:
        for words in (
            ("cgan", "--label", 3),
            ("caption", "--caption", "a thick slanted seven"),
            ("edges",),
        ):
            code, said = call("sample", runs / words[0], *words[1:], "--count", 13)
            assert code == 0, said
        assert call("sample", runs / "cgan", "--label", 10) == (
            2,
            "error: expected --label from 0 to 9, got 10",
        )
        code, said = call("sample", runs / "caption", "--caption", "a thick slanted sevn")
        assert (code, "did you mean 'seven'?" in said) == (2, True)

    def test_a_condition_is_measured_on_the_data(self, runs: Path) -> None:
        fitted = Fitted.open(runs / "attributes", "cpu")
        test = fitted.data.test.fixed(0)
        (given,) = fitted.context(fitted.data.train.fixed(0))
        assert torch.allclose(given[:, :2].mean(0), torch.zeros(2), atol=1e-5)
        assert given[:, 2:].sum(1).eq(1).all()
        assert simulate(fitted.program, len(test), *fitted.context(test)).shape == test.x.shape


class TestTranslate:
    def test_a_folder_keeps_its_names(self, runs: Path, tmp_path: Path) -> None:
        x = data.load("digits").test.x[:3]
        for i, image in enumerate(x):
            path = tmp_path / "images" / ("deep" if i else "") / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((255 * image[0]).round().byte().numpy()).save(path)
        there = tmp_path / "there"
        code, said = call(
            "translate", runs / "cycle-gan", "--from", "a", tmp_path / "images", "--to", there
        )
        assert (
            code,
            f"3 images of domain a, taken as they are, translated into {there}" in said,
        ) == (0, True)
        assert sorted(str(p.relative_to(there)) for p in there.rglob("*.png")) == [
            "0.png",
            "deep/1.png",
            "deep/2.png",
        ]
        fitted = Fitted.open(runs / "cycle-gan", "cpu")
        with torch.no_grad():
            expected = 255 * fitted.program.to_b(x.mul(255).round() / 255)
        written = [np.asarray(Image.open(there / n)) for n in ("0.png", "deep/1.png", "deep/2.png")]
        assert np.abs(np.stack(written) - expected[:, 0].numpy()).max() <= 0.51  # rounding

    def test_a_data_set_and_a_picture_of_another_size(self, runs: Path, tmp_path: Path) -> None:
        words = ("translate", runs / "cycle-gan", "--from", "b")
        assert call(*words, "digits:inverted", "--to", tmp_path / "there")[0] == 0
        assert len(list((tmp_path / "there").iterdir())) == 297
        Image.new("L", (30, 20)).save(tmp_path / "large.png")
        code, said = call(
            *words, tmp_path / "large.png", "--image-size", 8, "--to", tmp_path / "other"
        )
        assert code == 0, said
        assert Image.open(tmp_path / "other" / "large.png").size == (8, 8)

    @pytest.mark.parametrize("place", ["images", "images/there", "images/deep/../there"])
    def test_translations_never_lie_among_what_is_translated(
        self, runs: Path, tmp_path: Path, place: str
    ) -> None:
        (tmp_path / "images").mkdir()
        Image.new("L", (8, 8)).save(tmp_path / "images" / "0.png")
        before = snapshot(tmp_path)
        words = ("translate", runs / "cycle-gan", "--from", "a", tmp_path / "images")
        code, said = call(*words, "--to", tmp_path / place, "--overwrite")
        assert (code, "whose images are translated; say another folder with --to" in said) == (
            2,
            True,
        )
        assert snapshot(tmp_path) == before

    def test_a_corrupt_image_leaves_nothing_half_written(self, runs: Path, tmp_path: Path) -> None:
        """Found out only when it is read, after others were translated."""
        images = tmp_path / "images"
        images.mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
        for i in range(102):
            Image.fromarray(noise).save(images / f"{i:03}.png")
        whole = (images / "101.png").read_bytes()
        (images / "101.png").write_bytes(whole[: len(whole) // 2])
        words = ("translate", runs / "cycle-gan", "--from", "a", images, "--to", tmp_path / "there")
        code, said = call(*words)
        assert (code, "101.png" in said) == (2, True), said
        assert [path.name for path in tmp_path.iterdir()] == ["images"]


BAD = {
    "unknown loss": (
        ["fit", "gan", "--loss", "hnige"],
        "unknown loss 'hnige'; did you mean 'hinge'?",
    ),
    "unknown condition": (["fit", "cgan", "--condition", "colour"], "unknown condition 'colour'"),
    "unknown discrepancy": (["fit", "gmmn", "--discrepancy", "mdd"], "did you mean 'mmd'?"),
    "an option of explicit models": (
        ["fit", "gan", "--beta", "2"],
        f"--beta is an option of {owners('beta')}, got",
    ),
    "an option of critics": (
        ["fit", "vae", "--r1", "1"],
        f"--r1 is an option of {owners('r1')}",
    ),
    "an engine unknown": (["fit", "gan", "--engine", "fast"], "expected an engine of 'auto'"),
    "a negative penalty": (
        ["fit", "gan", "--r1", "-1"],
        "expected a finite r1 of at least 0, got -1.0",
    ),
    "a decay of one": (
        ["fit", "gan", "--average", "1"],
        "expected a decay from 0 to below 1, got 1.0",
    ),
    "no steps": (
        ["fit", "gan", "--critic-steps", "0"],
        "expected critic_steps of at least 1, got 0",
    ),
    "one category": (
        ["fit", "infogan", "--categories", "1"],
        "expected at least 2 categories, got 1",
    ),
    "negative codes": (
        ["fit", "infogan", "--continuous", "-1"],
        "expected --continuous of at least 0, got -1",
    ),
    "no width": (["fit", "dcgan", "--width", "0"], "expected --width of at least 1, got 0"),
    "a vector for convolutions": (["fit", "dcgan", "--data", "ring"], "8 to 64 pixels"),
    "edges of vectors": (
        ["fit", "cgan", "--data", "ring", "--condition", "edges"],
        "expected images for --condition",
    ),
    "labels missing": (
        ["fit", "cgan", "--data", "circle"],
        "expected labels for a CGAN, got none with circle",
    ),
    "one domain": (
        ["fit", "cycle-gan"],
        "expected two domains for a cycle-gan, got one; name the other with --data-b",
    ),
    "other sizes": (
        ["fit", "cycle-gan", "--data-b", "{scene}/large"],
        "got (1, 8, 8) (digits) and (1, 12, 12)",
    ),
    "the remedy": (["fit", "cycle-gan", "--data-b", "{scene}/large"], "--image-size"),
    "other channels": (
        ["fit", "cycle-gan", "--data-b", "digits:coloured"],
        "expected two domains of the same channels",
    ),
    "unknown suffix": (
        ["fit", "cycle-gan", "--data-b", "digits:invreted"],
        "did you mean 'inverted'?",
    ),
    "no labels to keep": (
        ["fit", "cycle-gan", "--data-a", "{scene}/x.npy", "--data-b", "digits", "--semantic", "1"],
        "expected labels of domain a for --semantic",
    ),
    "no likelihood": (
        ["evaluate", "{runs}/gan", "--ais"],
        "gan has no likelihood for --ais or --bdmc; say --epsilon",
    ),
    "no guide": (
        ["evaluate", "{runs}/gan", "--gaps"],
        f"expected a run of {', '.join(explicit_models())} for --gaps, got gan",
    ),
    "no guide to compare": (["compare", "{runs}/gan"], "for a comparison with MCMC, got gan"),
    "no reconstructions": (["reconstruct", "{runs}/gan"], "for reconstructions, got gan"),
    "too few data": (
        ["evaluate", "{runs}/gan", "--limit", "9"],
        "expected at least 10 test data for --moments and",
    ),
    "too few permutations": (
        ["evaluate", "{runs}/gan", "--two-sample", "--permutations", "5", "--features", "pca"],
        "expected at least 19 permutations",
    ),
    "unknown features": (["evaluate", "{runs}/gan", "--features", "pac"], "did you mean 'pca'?"),
    "no labels for features": (
        ["evaluate", "{runs}/unlabelled", "--features", "classifier"],
        "expected labels for --features classifier, got none with x.npy; say pca or pixels",
    ),
    "no noise": (["evaluate", "{runs}/gan", "--epsilon", "0"], "expected --epsilon above zero"),
    "nats of translations": (
        ["evaluate", "{runs}/cycle-gan", "--epsilon", "0.1"],
        "got cycle-gan; its translations are judged by --moments and --two-sample",
    ),
    "samples of translations": (
        ["sample", "{runs}/cycle-gan"],
        "got a cycle-gan; see `ppl-gen translate",
    ),
    "a label for captions": (
        ["sample", "{runs}/caption", "--label", "3"],
        "expected a CVAE or CGAN of labels for",
    ),
    "a caption for a gan": (
        ["sample", "{runs}/gan", "--caption", "a one"],
        "--condition caption for --caption",
    ),
    "no translator": (
        ["translate", "{runs}/gan", "--from", "a", "digits", "--to", "x"],
        "run of a cycle-gan, got gan",
    ),
    "a third domain": (
        ["translate", "{runs}/cycle-gan", "--from", "c", "digits", "--to", "x"],
        "expected --from a or b, got 'c'",
    ),
    "large images": (
        ["translate", "{runs}/cycle-gan", "--from", "a", "{scene}/large", "--to", "x"],
        "got 12 × 12 (0.png); bring them to it with --image-size 8",
    ),
    "coloured images": (
        ["translate", "{runs}/cycle-gan", "--from", "a", "{scene}/colour.png", "--to", "x"],
        "expected images of 1 channel, as the run was fitted to, got 3 (colour.png)",
    ),
    "a folder in use": (
        ["translate", "{runs}/cycle-gan", "--from", "a", "digits", "--to", "{scene}/large"],
        "is not empty; say --overwrite",
    ),
    "over the images": (
        [
            "translate",
            "{runs}/cycle-gan",
            "--from",
            "a",
            "{scene}/large",
            "--to",
            "{scene}/large",
            "--overwrite",
        ],
        "whose images are translated",
    ),
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, runs: Path) -> Path:
    """Images of other sizes and colours, data without labels, and a GAN of these."""
    folder = tmp_path_factory.mktemp("scene")
    (folder / "large").mkdir()
    for i in range(2):
        Image.fromarray(np.random.randint(0, 255, (12, 12), np.uint8)).save(
            folder / "large" / f"{i}.png"
        )
    Image.new("RGB", (8, 8)).save(folder / "colour.png")
    np.save(folder / "x.npy", np.random.rand(200, 8, 8))
    call(
        "fit",
        "gan",
        "--data",
        folder / "x.npy",
        "--out",
        runs / "unlabelled",
        *FEW,
        "--batch-size",
        100,
    )
    return folder


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_nothing_is_touched(
    name: str,
    scene: Path,
    runs: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words, said = BAD[name]
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    before = snapshot(scene), snapshot(runs)
    result = CliRunner().invoke(app, [w.format(scene=scene, runs=runs) for w in words])
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert (snapshot(scene), snapshot(runs)) == before
    assert not list(Path.cwd().iterdir())
