"""What the command makes of its options for models without a likelihood: what is heeded, refused,
and decided for the user.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import CHEAP, FEW, call, snapshot
from PIL import Image

from ppl_gen import data
from ppl_gen.app import configure
from ppl_gen.app.config import Config
from ppl_gen.app.evaluation import by_samples
from ppl_gen.app.ingredients.data import grey
from ppl_gen.app.recipes import estimated_models, recipe_of
from ppl_gen.app.run import progress
from ppl_gen.app.run.folder import Run
from ppl_gen.app.run.opened import Fitted
from ppl_gen.data import Dataset, Split
from ppl_gen.data.words.captions import DIGITS
from ppl_gen.inference import Record
from ppl_gen.program import simulate
from ppl_gen.writing import write_json


def asked(model: str, **options: Any) -> Config:
    return configure.configure(model, options, set(options))


def strict(text: str) -> Any:
    """JSON as other readers have it: without NaN."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GAN and an InfoGAN, of six steps, and a VAE."""
    folder = tmp_path_factory.mktemp("runs")
    for model in ("gan", "infogan", "vae"):
        code, said = call("fit", model, "--out", folder / model, *FEW)
        assert code == 0, said
    return folder


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Forty images of 28 × 28, in an array and in files."""
    (tmp_path / "files").mkdir()
    x = np.random.RandomState(0).randint(0, 256, (40, 28, 28)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    for i in range(3):
        Image.fromarray(x[i]).save(tmp_path / "files" / f"{i}.png")
    return tmp_path


class TestNumbers:
    @pytest.mark.parametrize(
        ("model", "size"), [("gan", 1499), ("gmmn", 1499), ("infogan", 1), ("dcgan", 1)]
    )
    def test_a_batch_of_one_is_refused(self, tmp_path: Path, model: str, size: int) -> None:
        code, said = call("fit", model, "--batch-size", size, "--out", tmp_path / "run")
        assert code == 2
        assert (
            f"batches of at least 2 data, got one of 1 with --batch-size {size} and 1500 data; "
            "say another" in said
        )
        assert not (tmp_path / "run").exists()

    def test_what_is_written_is_json(self, tmp_path: Path) -> None:
        run = Run.create(tmp_path / "run", asked("gan", epochs=1), lambda run: None)
        run.log(Record(1, {"critic": 1.5, "spread": math.nan}, 10, 0.1))
        lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        assert [strict(line)["metrics"] for line in lines] == [{"critic": 1.5, "spread": None}]
        (record,) = run.records()
        assert record.metrics["critic"] == 1.5
        assert math.isnan(record.metrics["spread"])
        write_json(
            tmp_path / "a.json", {"k": [math.inf, (1.0, {"n": -math.inf})], "s": "NaN", "b": True}
        )
        assert strict((tmp_path / "a.json").read_text()) == {
            "k": [None, [1.0, {"n": None}]],
            "s": "NaN",
            "b": True,
        }

    def test_epochs_make_three_thousand_steps(self) -> None:
        digits, many = data.load("digits"), Split(torch.zeros(30_000, 1))
        large = Dataset(many, many, (1,))
        assert configure.decide_epochs(asked("dcgan"), digits).epochs == 200  # of 15 steps
        assert configure.decide_epochs(asked("cycle-gan", data_b="mnist"), digits).epochs == 200
        assert configure.decide_epochs(asked("gmmn", batch_size=700), digits).epochs == 1000
        assert configure.decide_epochs(asked("gan"), large).epochs == 20  # of 300
        assert configure.decide_epochs(asked("gan", epochs=7), digits).epochs == 7
        assert configure.decide_epochs(asked("vae"), digits).epochs == 200

    def test_few_data_are_one_batch(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.random.RandomState(0).rand(40, 3).astype("f4"))
        fit = ("fit", "vae", "--data", tmp_path / "x.npy", "--hidden", 4, "--epochs", 1)
        code, said = call(*fit, "--out", tmp_path / "run", "--device", "cpu")
        assert (code, "all 36 training data are one batch; --batch-size says" in said) == (0, True)
        assert json.loads((tmp_path / "run" / "config.json").read_text())["batch_size"] == 36
        code, said = call(*fit, "--out", tmp_path / "other", "--batch-size", 37)
        assert (code, "a batch size from 1 to the number of data, 36" in said) == (2, True)

    @pytest.mark.long
    def test_the_number_is_said_and_written_down(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(configure, "ENOUGH", 75)
        code, said = call(
            "fit", "gmmn", "--out", tmp_path / "run", "--batch-size", 500, "--device", "cpu"
        )
        assert code == 0, said
        assert "25 epochs of 3 steps; cpu" in said
        assert json.loads((tmp_path / "run" / "config.json").read_text())["epochs"] == 25
        code, said = call("fit", "gmmn", "--out", tmp_path / "run", "--resume", "--device", "cpu")
        assert (code, "25 epochs of 3 steps" in said) == (0, True)

    def test_too_few_steps_are_remarked_on_before_they_begin(self, tmp_path: Path) -> None:
        code, said = call("fit", "gan", "--out", tmp_path / "run", *FEW)
        assert code == 0, said
        remark = said.index(
            "6 steps: GANs and moment matching of this size want some thousands; --epochs 1000"
        )
        assert remark < said.index("epoch 1/2")
        assert "some thousands" not in call("fit", "vae", "--out", tmp_path / "vae", *FEW)[1]


class TestData:
    @pytest.mark.long
    def test_a_vae_and_a_gan_see_the_same(self, tmp_path: Path) -> None:
        words = ("--data", "digits:inverted", "--image-size", 12, *FEW)
        for model in ("vae", "gan"):
            code, said = call("fit", model, "--out", tmp_path / model, *words)
            assert code == 0, said
            assert "digits:inverted: 1500 to train, 297 to test, 1 × 12 × 12" in said
        both = [grey(Run.open(tmp_path / model).config).train.x for model in ("vae", "gan")]
        assert torch.equal(*both)
        small = ("--subset", 3, "--temperatures", 10, "--chains", 2, "--features", "pca")
        code, said = call("evaluate", tmp_path / "vae", tmp_path / "gan", *small)
        assert code == 0, said

    def test_a_folder_s_name_has_the_suffixes(
        self, photographs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(photographs)
        code, said = call(
            "fit", "gmmn", "--data", photographs / "x.npy:inverted:8x8", *FEW, "--batch-size", 18
        )
        assert code == 0, said
        assert "1 × 8 × 8, bytes from 0 to 255, divided by 255, binarisation none;" in said
        assert [p.name for p in Path("runs").iterdir()] == ["gmmn-x-inverted-8x8"]

    @pytest.mark.parametrize("model", ["vae", "conv-vae", "cvae"])
    def test_a_likelihood_that_is_left_out_is_that_of_the_data(self, model: str) -> None:
        colour = Dataset(Split(torch.rand(4, 3, 8, 8)), Split(torch.rand(4, 3, 8, 8)), (3, 8, 8))
        digits = data.load("digits")

        def decided(given: Dataset, **options: Any) -> tuple[str, str | None]:
            config = configure.decide_likelihood(asked(model, **options), given)
            return config.likelihood, config.binarize

        assert decided(digits) == ("bernoulli", "dynamic")
        assert decided(digits, binarize="none") == ("bernoulli", None)
        assert decided(colour) == ("gaussian", None)
        assert decided(colour, binarize="dequantize") == ("gaussian", "dequantize")
        assert decided(colour, binarize="threshold") == ("bernoulli", "threshold")
        assert decided(colour, likelihood="bernoulli") == ("bernoulli", "dynamic")
        assert decided(digits, likelihood="laplace") == ("laplace", None)

    def test_images_in_colour_have_a_continuous_likelihood(self, tmp_path: Path) -> None:
        rng = np.random.RandomState(0)
        for i in range(20):
            (tmp_path / "images").mkdir(exist_ok=True)
            image = rng.randint(0, 256, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
        words = ("--data", tmp_path / "images", "--out", tmp_path / "run", "--device", "cpu")
        few = ("--epochs", 1, "--batch-size", 9)
        code, said = call("fit", "vae", *words, *few)
        assert code == 0, said
        chosen = "likelihood gaussian (for images in colour; --likelihood says another);"
        assert f"3 × 8 × 8, binarisation none, {chosen} 1 epochs" in said
        config = Run.open(tmp_path / "run").config
        assert (config.likelihood, config.binarize) == ("gaussian", None)
        code, said = call("fit", "vae", *words, "--resume", "--epochs", 2, "--binarize", "none")
        assert code == 0, said
        assert "likelihood gaussian; 2 epochs" in said


class TestCaptions:
    def test_digits_alone_have_the_names_of_digits(self, tmp_path: Path) -> None:
        y = np.arange(200) % 10
        np.savez(tmp_path / "a.npz", x=np.random.rand(200, 8, 8), y=y)
        named = {}
        for name in ("digits", "digits:inverted", str(tmp_path / "a.npz")):
            config = asked("cgan", condition="caption", data=name)
            recipe = recipe_of(config)
            given = recipe.condition(config, recipe.data(config))
            assert given is not None
            assert given.captions is not None
            named[name] = given.captions.names
        assert list(named.values()) == [DIGITS, DIGITS, tuple(f"class{k}" for k in range(10))]

    @pytest.mark.parametrize(
        ("folders", "names"),
        [
            (("Ash", "Oak  Tree"), ("ash", "oak-tree")),
            (("A", "B"), ("class0", "class1")),  # "a" is a word already
            (("oak", "Oak"), ("class0", "class1")),
        ],
    )
    def test_classes_of_a_folder(
        self, tmp_path: Path, folders: tuple[str, ...], names: tuple[str, ...]
    ) -> None:
        for k, folder in enumerate(folders):
            (tmp_path / "images" / folder).mkdir(parents=True)
            for i in range(12):
                pixels = np.random.RandomState(100 * k + i).randint(0, 256, (8, 8)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / folder / f"{i}.png")
        config = asked("cgan", condition="caption", data=str(tmp_path / "images"))
        recipe = recipe_of(config)
        images = recipe.data(config)
        given = recipe.condition(config, images)
        assert given is not None
        assert given.captions is not None
        assert given.captions.names == names
        assert given.context(images.train)[0].shape == (len(images.train), 4)

    def test_a_caption_that_no_image_has_is_refused(self, tmp_path: Path) -> None:
        call("fit", "cgan", "--condition", "caption", "--out", tmp_path / "run", *FEW)
        code, said = call("sample", tmp_path / "run", "--caption", "seven thick a a thick")
        assert (code, 'expected a caption such as "a thick slanted zero"' in said) == (2, True)
        assert call("sample", tmp_path / "run", "--caption", "An upright SEVEN")[0] == 0


class TestJudging:
    @pytest.mark.long
    def test_what_was_found_before_a_failure_is_kept(
        self, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise ValueError("no more")

        path, words = runs / "gan" / "evaluation.json", ("evaluate", runs / "gan", *CHEAP)
        with monkeypatch.context() as patched:
            patched.setattr(by_samples, "rows", fail)
            assert call(*words) == (2, "error: no more")
            assert "moments" in json.loads(path.read_text())
            write_json(path, {"ais": {"value": -1.0, "epoch": 2}})
            assert call(*words) == (2, "error: no more")
            assert json.loads(path.read_text()).keys() == {"ais", "moments"}
        assert call(*words)[0] == 0
        assert {"moments", "two_sample"} <= json.loads(path.read_text()).keys()

    @pytest.mark.parametrize(
        ("run", "words", "said"),
        [
            (
                "gan",
                ("--epsilon", 0.1, "--moments", "--permutations", 18),
                "at least 19 permutations, for a p-value",
            ),
            (
                "gan",
                ("--two-sample", "--features", "nonsense"),
                "unknown kind of features 'nonsense'",
            ),
            (
                "vae",
                ("--features", "nonsense"),
                "--features belongs to --moments or --two-sample, got it alone",
            ),
            (
                "vae",
                ("--permutations", 100),
                "--permutations belongs to --moments or --two-sample, got it alone",
            ),
            (
                "vae",
                ("--chains", 4),
                "--chains belongs to --ais or --bdmc or --gaps or --epsilon, got it alone",
            ),
            ("gan", ("--temperatures", 100), "--temperatures belongs to --ais or"),
            (
                "gan",
                ("--particles", 5),
                f"--particles is an option of {', '.join(estimated_models())}, got it for gan",
            ),
        ],
    )
    def test_what_is_not_heeded_is_refused_before_work(
        self,
        runs: Path,
        run: str,
        words: tuple[object, ...],
        said: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(
            "ppl_gen.app.commands.evaluate.Subject", None
        )  # work would begin with it
        before = snapshot(runs)
        code, printed = call("evaluate", runs / run, *words)
        assert (code, said in printed) == (2, True), printed
        assert snapshot(runs) == before


class TestFitting:
    def test_wasserstein_wants_a_bounded_critic(self, tmp_path: Path) -> None:
        words = ("--loss", "wasserstein", "--out", tmp_path / "run", *FEW)
        for model, remedy in (("gan", "--penalty 10"), ("cycle-gan", "--spectral")):
            code, said = call(
                "fit", model, *words, *(["--data-b", "digits:inverted"] * (model == "cycle-gan"))
            )
            assert (
                code,
                "expected a critic of bounded slope" in said,
                f"say {remedy}" in said,
            ) == (2, True, True)
        assert call("fit", "gan", *words, "--spectral")[0] == 0

    def test_what_the_generator_descends_besides_is_shown(self, runs: Path, tmp_path: Path) -> None:
        code, said = call(
            "fit",
            "infogan",
            "--out",
            tmp_path / "run",
            *FEW,
            "--information",
            0.5,
            "--continuous",
            1,
        )
        assert code == 0, said
        nothing = 0.5 * (math.log(10) + math.log(2))
        assert f"auxiliary: −log q(codes | x), {nothing:.2f} nats where x tells nothing" in said
        assert "epoch 2/2: critic " in said
        assert ", auxiliary " in said
        records = Run.open(runs / "infogan").records()
        assert records[0].metrics["auxiliary"] == pytest.approx(
            math.log(10), abs=0.1
        )  # nothing is learnt yet
        assert progress.PLAYED.index("auxiliary") < progress.PLAYED.index("spread")

    @pytest.mark.long
    def test_edges_are_paired_with_their_image(self, tmp_path: Path) -> None:
        """The mean absolute difference to the image whose edges are given, with its term and
        without.
        """
        errors = {}
        words = ("cgan", "--condition", "edges", "--epochs", 10, "--device", "cpu")
        for paired in (10.0, 0.0):
            run = tmp_path / str(paired)
            code, said = call("fit", *words, "--paired", paired, "--out", run)
            assert code == 0, said
            assert ("auxiliary: 10 times the mean absolute difference" in said) == (paired > 0)
            fitted = Fitted.open(run, "cpu")
            test = fitted.data.test.fixed(0)
            each = (
                (simulate(fitted.program, len(test), *fitted.context(test)) - test.x)
                .abs()
                .flatten(1)
                .mean(1)
            )
            errors[paired] = (float(each.mean()), float(each.std()) / len(each) ** 0.5)
        (near, one), (far, other) = errors[10.0], errors[0.0]
        assert far - near > 4 * math.hypot(one, other)
        code, said = call("fit", "cgan", "--paired", 1, "--out", tmp_path / "none")
        assert (code, "--paired is an option of --condition edges" in said) == (2, True)

    def test_a_code_is_chosen_by_its_number(self, runs: Path) -> None:
        assert call("sample", runs / "infogan", "--label", 3)[0] == 0
        assert call("sample", runs / "infogan", "--label", 10) == (
            2,
            "error: expected --label from 0 to 9, got 10",
        )
        code, said = call("sample", runs / "gan", "--label", 3)
        assert (code, "or the codes of an infogan, got gan on digits" in said) == (2, True)


class TestTranslate:
    @pytest.fixture
    def run(self, photographs: Path) -> Path:
        """Between digits and the central part of the images, shrunk."""
        words = (
            "--data-b",
            f"{photographs / 'x.npy'}:8x8:inverted",
            "--width",
            4,
            "--batch-size",
            18,
            "--epochs",
            1,
        )
        code, said = call(
            "fit", "cycle-gan", *words, "--out", photographs / "run", "--device", "cpu"
        )
        assert code == 0, said
        return photographs / "run"

    @pytest.mark.long
    @pytest.mark.parametrize("images", ["files", "x.npy"])
    def test_raw_images_are_made_those_of_the_domain(
        self, run: Path, photographs: Path, images: str
    ) -> None:
        there = photographs / "there"
        code, said = call("translate", run, "--from", "b", photographs / images, "--to", there)
        assert (
            code,
            "taken as the run's domain has them (:8x8, :inverted), translated" in said,
        ) == (0, True), said
        if images == "files":
            stored = torch.as_tensor(np.load(photographs / "x.npy")[:3])[:, None] / 255
            split = Split(stored)
            x = data.prepared(Dataset(split, split, (1, 28, 28)), ["8x8", "inverted"]).train.x
        else:
            x = Fitted.open(run, "cpu").data.b.test.x
        with torch.no_grad():
            expected = 255 * Fitted.open(run, "cpu").program.to_a(x)
        written = np.stack([np.asarray(Image.open(path)) for path in sorted(there.iterdir())])
        assert np.abs(written - expected[:, 0].numpy()).max() <= 0.51  # rounding

    @pytest.mark.long
    def test_what_has_the_size_is_taken_as_it_is(self, run: Path, photographs: Path) -> None:
        Image.new("L", (8, 8)).save(photographs / "small.png")
        words = (
            "translate",
            run,
            "--from",
            "b",
            photographs / "small.png",
            "--to",
            photographs / "there",
        )
        assert "1 image of domain b, taken as they are" in call(*words)[1]

    @pytest.mark.long
    def test_what_cannot_be_prepared_is_said(self, run: Path, photographs: Path) -> None:
        Image.new("L", (12, 12)).save(photographs / "odd.png")
        words = ("translate", run, photographs / "odd.png", "--to", photographs / "there", "--from")
        code, said = call(*words, "b")
        assert (
            code,
            "the suffix :8x8 does not fit odd.png: it takes the central 20 × 20 pixels" in said,
        ) == (2, True)
        code, said = call(*words, "a")
        assert (code, "got 12 × 12 (odd.png); bring them to it with --image-size 8" in said) == (
            2,
            True,
        )
        code, said = call(*words, "a", "--image-size", 0)
        assert (code, "expected --image-size of at least 1, got 0" in said) == (2, True)
        code, said = call(*words, "a", "--image-size", 8)
        assert (code, "(brought to 8 × 8)" in said) == (0, True)
