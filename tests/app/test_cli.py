"""The command: runs, their products, resuming, and every bad input in a table."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command import QUICK, call, change_checkpoint, snapshot, start, stop_at
from PIL import Image
from typer.testing import CliRunner

from ppl_gen.app.cli import app
from ppl_gen.app.recipes import recipe_of
from ppl_gen.app.run import checkpoint
from ppl_gen.app.run.folder import Run

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="inductor needs a C++ compiler"
)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE fitted to digits for two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "vae"
    code, said = call("fit", "vae", "--out", folder, *QUICK)
    assert code == 0, said
    return folder


class TestRuns:
    def test_a_run_is_a_folder(self, fitted: Path) -> None:
        assert {p.name for p in fitted.iterdir()} >= {
            *(
                "config.json",
                "metrics.jsonl",
                "checkpoint.pt",
                "samples.png",
                "reconstructions.png",
                "training.png",
            )
        }
        records = [json.loads(line) for line in (fitted / "metrics.jsonl").read_text().splitlines()]
        assert [r["epoch"] for r in records] == [1, 2]
        assert records[1]["metrics"]["elbo"] > records[0]["metrics"]["elbo"]
        assert json.loads((fitted / "config.json").read_text())["binarize"] == "dynamic"
        assert Image.open(fitted / "samples.png").size > (500, 500)

    def test_the_checkpoint_loads_with_weights_only(self, fitted: Path) -> None:
        state = torch.load(fitted / "checkpoint.pt", weights_only=True)
        assert state["epoch"] == 2

    @pytest.mark.parametrize("model", ["vae", "cvae", "conv-vae"])
    @pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "discretized-logistic"])
    def test_models_and_likelihoods_combine(
        self, model: str, likelihood: str, tmp_path: Path
    ) -> None:
        run = tmp_path / "run"
        code, said = call("fit", model, "--likelihood", likelihood, "--out", run, *QUICK)
        assert code == 0, said
        assert f"binarisation {'dynamic' if likelihood == 'bernoulli' else 'none'}" in said
        code, said = call("evaluate", run, "--particles", 30, "--limit", 20)
        assert code == 0, said
        assert "20 test data" in said
        assert "30 particles, binarisation" in said
        result = json.loads((run / "evaluation.json").read_text())
        evidence = result["log_evidence"]
        assert evidence["value"] >= result["elbo"]["value"]
        assert evidence["conditional"] == (model == "cvae")
        kind = "densities" if likelihood == "gaussian" else "probabilities"
        assert evidence["measure"].startswith(kind)
        for command in ("sample", "reconstruct"):
            code, said = call(command, run, "--count", 12)
            assert code == 0, said

    def test_vectors_are_drawn_as_points(self, tmp_path: Path) -> None:
        code, said = call(
            "fit",
            "vae",
            "--data",
            "circle",
            "--likelihood",
            "gaussian",
            "--out",
            tmp_path / "run",
            *QUICK,
        )
        assert code == 0, said
        assert (tmp_path / "run" / "samples.png").is_file()

    def test_any_number_of_channels_and_data(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.random.rand(130, 4, 8, 8).round())
        code, said = call(
            "fit", "conv-vae", "--data", tmp_path / "a.npy", "--out", tmp_path / "run", *QUICK
        )
        assert code == 0, said
        assert call("reconstruct", tmp_path / "run", "--count", 7)[0] == 0

    def test_attributes_condition_a_cvae(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=np.random.rand(120, 8, 8), y=np.random.rand(120, 3))
        code, said = call(
            "fit", "cvae", "--data", tmp_path / "a.npz", "--out", tmp_path / "run", *QUICK
        )
        assert code == 0, said
        assert call("evaluate", tmp_path / "run", "--particles", 5)[0] == 0

    def test_a_seed_is_a_run(self, fitted: Path, tmp_path: Path) -> None:
        call("fit", "vae", "--out", tmp_path / "same", *QUICK)
        call("fit", "vae", "--out", tmp_path / "other", "--seed", 1, *QUICK)
        assert weights(tmp_path / "same") == weights(fitted)
        assert weights(tmp_path / "other") != weights(fitted)

    def test_labels_are_rows(self, tmp_path: Path) -> None:
        call("fit", "cvae", "--out", tmp_path / "run", *QUICK)
        assert call("sample", tmp_path / "run", "--label", 3)[0] == 0
        assert call("sample", tmp_path / "run", "--label", 10) == (
            2,
            "error: expected --label from 0 to 9, got 10",
        )

    def test_the_program_can_be_loaded_in_a_notebook(self, fitted: Path) -> None:
        from ppl_gen.models import vae

        program = vae((1, 8, 8), 2)
        held = checkpoint.read(fitted)
        held.restore(program)
        assert held.epoch == 2


def weights(run: Path) -> dict[str, list[float]]:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    return {name: tensor.flatten().tolist() for name, tensor in state["program"].items()}


class TestResume:
    @pytest.mark.long
    @pytest.mark.parametrize(
        "engine",
        ["eager", "fx", pytest.param("inductor", marks=[needs_compiler, pytest.mark.slow])],
    )
    def test_four_epochs_are_two_and_two(self, engine: str, tmp_path: Path) -> None:
        four, run = [*QUICK, "--engine", engine, "--epochs", "4"], tmp_path / "run"
        call("fit", "vae", "--out", tmp_path / "whole", *four)
        call("fit", "vae", "--out", run, *QUICK, "--engine", engine)
        code, said = call("fit", "vae", "--out", run, "--resume", "--epochs", 4)
        assert code == 0, said
        assert weights(run) == weights(tmp_path / "whole")
        assert [r.epoch for r in Run.open(run).records()] == [1, 2, 3, 4]

    @pytest.mark.long
    def test_a_precision_stays_and_its_cost_is_said(self, tmp_path: Path) -> None:
        code, said = call("fit", "vae", "--out", tmp_path, *QUICK, "--precision", "bfloat16")
        assert code == 0, said
        found = re.search(r"nats per datum in float32, .* in bfloat16; difference (\S+) ±", said)
        assert found is not None, said
        assert 0 < abs(float(found[1])) < 0.1
        code, said = call("fit", "vae", "--out", tmp_path, "--resume", "--epochs", 3)
        assert code == 0, said
        assert "in bfloat16; difference" in said
        assert Run.open(tmp_path).config.precision == "bfloat16"

    def test_other_options_than_the_run_s_are_refused(self, fitted: Path) -> None:
        code, said = call("fit", "vae", "--out", fitted, "--resume", "--latent-dim", 3)
        assert (code, "begun with latent_dim 2, got 3" in said) == (2, True)
        assert call("fit", "cvae", "--out", fitted, "--resume")[0] == 2

    def test_an_interrupt_saves_and_says_how_to_go_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from ppl_gen.app.run import progress

        run, show = tmp_path / "run", progress.Live.show

        def interrupt(self: progress.Live, record: object) -> None:
            show(self, record)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(progress.Live, "show", interrupt)
            code, said = call("fit", "vae", "--out", run, *QUICK)
        assert code == 130
        assert "stopped in epoch 2, which is dropped; the checkpoint of epoch 1 is saved" in said
        assert f"Go on with: ppl-gen fit vae --out {run} --resume" in said
        call("fit", "vae", "--out", run, "--resume")
        call("fit", "vae", "--out", tmp_path / "whole", *QUICK)
        assert weights(run) == weights(tmp_path / "whole")

    def test_a_run_stopped_before_its_first_checkpoint_goes_on(
        self, fitted: Path, tmp_path: Path
    ) -> None:
        run = tmp_path / "run"
        run.mkdir()
        (run / "config.json").write_bytes((fitted / "config.json").read_bytes())
        code, said = call("fit", "vae", "--out", run, "--resume", "--device", "cpu")
        assert code == 0, said
        assert weights(run) == weights(fitted)

    def test_other_data_than_the_run_began_with_are_refused(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.random.rand(200, 8).round())
        call("fit", "vae", "--data", tmp_path / "a.npy", "--out", tmp_path / "run", *QUICK)
        np.save(tmp_path / "a.npy", np.random.rand(200, 8).round())
        code, said = call("fit", "vae", "--out", tmp_path / "run", "--resume", "--epochs", 3)
        assert (code, "have changed since it was begun" in said) == (2, True)
        code, said = call("evaluate", tmp_path / "run")
        assert (code, "have changed since it was begun" in said) == (2, True)

    def test_weights_that_have_run_away_never_replace_a_good_checkpoint(
        self, tmp_path: Path
    ) -> None:
        """One step an epoch: the loss before it is finite, the weights after it are not good for
        anything.
        """
        options = ["--lr", 1e30, "--batch-size", 1500, *QUICK]
        code, said = call("fit", "vae", "--out", tmp_path / "run", *options)
        assert (code, "after epoch 1 the ELBO of test data is not finite" in said) == (2, True)
        assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["epoch"] == 0

    def test_a_write_that_fails_leaves_the_last_checkpoint(
        self, fitted: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = (fitted / "checkpoint.pt").read_bytes()

        def full_disk(state: object, file: object) -> None:
            file.write(b"half of it")
            raise OSError("no space left on device")

        monkeypatch.setattr(torch, "save", full_disk)
        run, device = Run.open(fitted), torch.device("cpu")
        recipe = recipe_of(run.config)
        fitting = recipe.prepare(run.config, recipe.data(run.config), device)
        with pytest.raises(OSError, match="no space"):
            run.checkpoint(9, fitting, device, {})
        assert (fitted / "checkpoint.pt").read_bytes() == before

    def test_a_loss_that_is_not_finite_leaves_the_last_checkpoint(self, tmp_path: Path) -> None:
        code, said = call("fit", "vae", "--out", tmp_path / "run", "--lr", 1e30, *QUICK)
        assert code == 2
        assert "is not finite, from" in said
        assert "The checkpoint of epoch 0 stays" in said
        assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["epoch"] == 0

    @pytest.mark.slow
    def test_ten_kills_at_random_moments_change_nothing(self, tmp_path: Path) -> None:
        """SIGKILL during training, ten times over; the run ends with the weights of one that was
        left alone.
        """
        options = ["--latent-dim", "2", "--batch-size", "50", "--device", "cpu", "--engine", "fx"]
        run, moments = tmp_path / "killed", random.Random(0)
        epochs = []
        for i in range(10):
            more = ["--resume"] if i else [*options, "--epochs", "1000000"]
            child, said = start("fit", "vae", "--out", run, *more)
            # Training begins, and does not end by itself.
            assert "vae on digits" in said.recv()
            child.join(timeout=moments.uniform(0, 1))
            child.kill()
            child.join()
            assert child.exitcode == -signal.SIGKILL
            epochs.append(torch.load(run / "checkpoint.pt", weights_only=True)["epoch"])
        assert epochs == sorted(epochs)
        last = epochs[-1] + 2
        for folder, more in ((run, ["--resume"]), (tmp_path / "whole", options)):
            code, said = call("fit", "vae", "--out", folder, "--epochs", last, *more)
            assert code == 0, said
        assert weights(run) == weights(tmp_path / "whole")
        assert [r.epoch for r in Run.open(run).records()] == list(range(1, last + 1))

    @pytest.mark.long
    @pytest.mark.parametrize("model", ["cvae", "conv-vae"])
    def test_a_streamed_folder_resumes_bit_exactly(
        self, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Workers read, shuffle and binarise in the order that the random state of the checkpoint
        says.
        """
        monkeypatch.setattr("ppl_gen.memory.STREAMED", 0)
        for i in range(60):
            (tmp_path / "images" / str(i % 2)).mkdir(parents=True, exist_ok=True)
            grey = np.random.RandomState(i).randint(0, 255, (9, 8)).astype(np.uint8)
            Image.fromarray(grey).save(tmp_path / "images" / str(i % 2) / f"{i}.png")
        options = ["fit", model, "--data", tmp_path / "images", "--batch-size", 20, *QUICK]
        for folder, epochs in (("whole", 4), ("halves", 2)):
            code, said = call(*options, "--out", tmp_path / folder, "--epochs", epochs)
            assert code == 0, said
        call("fit", model, "--out", tmp_path / "halves", "--resume", "--epochs", 4)
        assert weights(tmp_path / "halves") == weights(tmp_path / "whole")

    @pytest.mark.long
    def test_fewer_epochs_than_done_are_refused_and_an_old_score_is_marked(
        self, tmp_path: Path
    ) -> None:
        run = tmp_path / "run"
        call("fit", "vae", "--out", run, *QUICK)
        call("evaluate", run, "--particles", 2, "--limit", 12, "--moments", "--features", "pca")
        before = json.loads((run / "evaluation.json").read_text())
        assert {entry["epoch"] for entry in before.values()} == {2}
        assert all(entry["current"] for entry in before.values())
        code, said = call("fit", "vae", "--out", run, "--resume", "--epochs", 1)
        assert (code, "is at epoch 2: expected at least as many --epochs, got 1" in said) == (
            2,
            True,
        )
        assert call("fit", "vae", "--out", run, "--resume")[0] == 0  # nothing is left to do
        assert json.loads((run / "evaluation.json").read_text()) == before
        call("fit", "vae", "--out", run, "--resume", "--epochs", 3)
        after = json.loads((run / "evaluation.json").read_text())
        assert not any(entry["current"] for entry in after.values())
        assert after["log_evidence"] == {**before["log_evidence"], "current": False}
        assert after["moments"]["pictures"] == ["moments-epoch-2.png"]
        assert (run / "moments-epoch-2.png").exists()
        assert not (run / "moments.png").exists()
        code, said = call("evaluate", run, "--particles", 2, "--limit", 12)
        assert (code, "kept there from before: moments (of epoch 2, other weights" in said) == (
            0,
            True,
        )
        again = json.loads((run / "evaluation.json").read_text())
        assert (again["log_evidence"]["epoch"], again["log_evidence"]["current"]) == (3, True)
        assert [old["epoch"] for old in again["log_evidence"]["earlier"]] == [2]
        assert again["moments"] == after["moments"]

    def test_an_interrupt_in_mid_epoch_drops_that_epoch(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            stop_at(patched, 22)  # fifteen batches are an epoch
            code, said = call("fit", "vae", "--out", tmp_path / "run", *QUICK)
        assert (code, "stopped in epoch 2, which is dropped" in said) == (130, True)
        call("fit", "vae", "--out", tmp_path / "run", "--resume")
        call("fit", "vae", "--out", tmp_path / "whole", *QUICK)
        assert weights(tmp_path / "run") == weights(tmp_path / "whole")

    def test_overwriting_spares_what_is_not_a_run_s(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        call("fit", "vae", "--out", run, *QUICK)
        (run / "holiday.png").write_bytes(b"mine")
        assert call("fit", "vae", "--out", run, "--overwrite", *QUICK)[0] == 0
        assert (run / "holiday.png").read_bytes() == b"mine"


@pytest.fixture
def scene(tmp_path: Path, fitted: Path) -> Path:
    """Files that are wrong, each in its way."""
    np.save(tmp_path / "nan.npy", np.full((20, 8, 8), np.nan))
    np.save(tmp_path / "unlabelled.npy", np.random.rand(200, 8, 8).round())
    np.save(tmp_path / "grey.npy", np.random.rand(200, 8, 8))
    (tmp_path / "broken.npy").write_bytes(b"nothing")
    (tmp_path / "mixed").mkdir()
    for side in (8, 9):
        Image.fromarray(np.zeros((side, side), np.uint8)).save(tmp_path / "mixed" / f"{side}.png")
    for kind in ("damaged", "foreign", "unstarted", "text"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "config.json").write_bytes((fitted / "config.json").read_bytes())
    (tmp_path / "damaged" / "checkpoint.pt").write_bytes(
        (fitted / "checkpoint.pt").read_bytes()[:5000]
    )
    (tmp_path / "text" / "checkpoint.pt").write_bytes(b"test")
    torch.save({"weights": torch.ones(3)}, tmp_path / "foreign" / "checkpoint.pt")
    for kind in ("other", "partial"):
        shutil.copytree(fitted, tmp_path / kind)
    change_checkpoint(tmp_path / "other", program={"w": torch.ones(1)})
    change_checkpoint(tmp_path / "partial", "rng")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.txt").write_text("not a run")
    for kind in ("website", "edited"):
        (tmp_path / kind).mkdir()
    (tmp_path / "website" / "config.json").write_text('{"port": 80}')
    config = json.loads((fitted / "config.json").read_text())
    (tmp_path / "edited" / "config.json").write_text(json.dumps(config | {"latent_dim": "2"}))
    np.savez(
        tmp_path / "half.npz", x_train=np.eye(200), x_test=np.eye(200), y_train=np.arange(200) % 2
    )
    (tmp_path / "cut.npz").write_bytes((tmp_path / "half.npz").read_bytes()[:900])
    (tmp_path / "deep").mkdir()
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "deep" / "a.png")
    (tmp_path / "garbled").mkdir()
    (tmp_path / "garbled" / "config.json").write_text("{")
    return tmp_path


BAD = {
    "unknown model": (["fit", "vea"], "unknown model 'vea'; did you mean 'vae'?"),
    "unknown data": (["fit", "vae", "--data", "mnits"], "named 'mnits'; did you mean 'mnist'?"),
    "unknown likelihood": (["fit", "vae", "--likelihood", "gausian"], "did you mean 'gaussian'?"),
    "unknown binarisation": (
        ["fit", "vae", "--binarize", "dynamik"],
        "threshold, static, dynamic, dequantize, got 'dynamik'",
    ),
    "missing file": (
        ["fit", "vae", "--data", "nowhere.npy"],
        "cannot read nowhere.npy: [Errno 2] No such file",
    ),
    "missing set": (
        ["fit", "vae", "--data", "cifar10", "--root", "{scene}"],
        "cannot read CIFAR10 under",
    ),
    "unreadable file": (["fit", "vae", "--data", "{scene}/broken.npy"], "cannot read"),
    "sizes differ": (
        ["fit", "vae", "--data", "{scene}/mixed"],
        "expected images of one size, got 8 × 8 (8.png) and 9 × 9",
    ),
    "not a number": (["fit", "vae", "--data", "{scene}/nan.npy"], "expected finite numbers"),
    "labels missing": (
        ["fit", "cvae", "--data", "{scene}/unlabelled.npy"],
        "expected labels for a CVAE, got none",
    ),
    "grey pixels": (
        ["fit", "vae", "--binarize", "none"],
        "support of Bernoulli, Boolean(), got values from 0 to 1: binarise",
    ),
    "grey file": (
        ["fit", "vae", "--data", "{scene}/grey.npy", "--binarize", "none"],
        "likelihood of grey values (--likelihood continuous-bernoulli, gaussian or laplace)",
    ),
    "beyond the interval": (
        ["fit", "vae", "--data", "circle"],
        "expected values in [0, 1] to binarise",
    ),
    "a vector for convolutions": (
        ["fit", "conv-vae", "--data", "circle", "--likelihood", "gaussian"],
        "8 to 64 pixels",
    ),
    "run exists": (
        ["fit", "vae", "--out", "{fitted}"],
        "exists; go on with --resume, begin anew with --overwrite",
    ),
    "not a run": (
        ["fit", "vae", "--out", "{scene}/photos", "--overwrite"],
        "is not the folder of a run",
    ),
    "a file is in the way": (["fit", "vae", "--out", "{scene}/nan.npy"], "is a file"),
    "nothing to resume": (
        ["fit", "vae", "--out", "{scene}/nothing", "--resume"],
        "it has no config.json",
    ),
    "both": (["fit", "vae", "--out", "{fitted}", "--resume", "--overwrite"], "got both"),
    "damaged checkpoint": (
        ["evaluate", "{scene}/damaged"],
        "is damaged, or not a ppl-gen checkpoint",
    ),
    "a text for a checkpoint": (
        ["evaluate", "{scene}/text"],
        "is damaged, or not a ppl-gen checkpoint",
    ),
    "damaged, resumed": (
        ["fit", "vae", "--out", "{scene}/damaged", "--resume"],
        "is damaged, or not a ppl-gen checkpoint",
    ),
    "foreign checkpoint": (
        ["evaluate", "{scene}/foreign"],
        "expected a 'ppl-gen checkpoint 4' file",
    ),
    "of another program": (
        ["evaluate", "{scene}/other"],
        "is of another program than config.json says",
    ),
    "no checkpoint": (["sample", "{scene}/unstarted"], "has no checkpoint.pt"),
    "garbled configuration": (["evaluate", "{scene}/garbled"], "is not the configuration of a run"),
    "a folder without a run": (["reconstruct", "{scene}/photos"], "is not the folder of a run"),
    "batch too large": (
        ["fit", "vae", "--batch-size", "1501"],
        "batch size from 1 to the number of data, 1500, got 1501",
    ),
    "zero epochs": (["fit", "vae", "--epochs", "0"], "expected --epochs above zero, got 0"),
    "zero latents": (
        ["fit", "vae", "--latent-dim", "0"],
        "expected --latent-dim above zero, got 0",
    ),
    "learning without end": (
        ["fit", "vae", "--lr", "inf"],
        "expected a finite --lr, got inf",
    ),
    "learning that is no number": (
        ["fit", "vae", "--lr", "nan"],
        "expected --lr above zero, got nan",
    ),
    "a rise to nothing": (
        ["fit", "vae", "--anneal", "3", "--beta", "0"],
        "expected --beta above 0 for --anneal 3 to rise to, got 0; leave one out",
    ),
    "a root of no files": (
        ["fit", "vae", "--root", "somewhere"],
        "--root is the folder of data sets that torchvision downloads, got it for digits",
    ),
    "results written over by themselves": (
        ["sample", "{scene}", "--overwrite"],
        "--overwrite belongs to --out, got it alone",
    ),
    "no learning": (["fit", "vae", "--lr", "-1"], "expected --lr above zero, got -1"),
    "zero particles": (
        ["evaluate", "{fitted}", "--particles", "0"],
        "expected --particles of at least 1, got 0",
    ),
    "zero temperatures": (
        ["evaluate", "{fitted}", "--ais", "--temperatures", "0"],
        "expected --temperatures of at least 1, got 0",
    ),
    "zero chains": (
        ["evaluate", "{fitted}", "--bdmc", "--chains", "0"],
        "expected --chains of at least 1, got 0",
    ),
    "an empty subset": (
        ["evaluate", "{fitted}", "--gaps", "--subset", "0"],
        "expected --subset of at least 1, got 0",
    ),
    "unknown objective": (
        ["fit", "vae", "--objective", "iwea"],
        "unknown objective 'iwea'; did you mean 'iwae'?",
    ),
    "no particles": (
        ["fit", "vae", "--objective", "iwae", "--particles", "0"],
        "--particles of at least 1, got 0",
    ),
    "a negative weight": (
        ["fit", "vae", "--beta", "-1"],
        "expected --beta and --anneal of at least 0, got -1.0",
    ),
    "free bits of another objective": (
        ["fit", "vae", "--objective", "dreg", "--free-bits", "0.1"],
        "expected --free-bits with the objective elbo, got dreg",
    ),
    "zero samples": (
        ["sample", "{fitted}", "--count", "0"],
        "expected --count from 1 to 1000, got 0",
    ),
    "too many": (
        ["reconstruct", "{fitted}", "--count", "99999"],
        "expected --count from 1 to 1000, got 99999",
    ),
    "no name": (["fit", "vae", "--data", ""], "expected a name or a path with --data, got nothing"),
    "a size for digits": (
        ["fit", "vae", "--image-size", "0"],
        "expected an image size of at least 1, got 0",
    ),
    "a seed too large": (["fit", "vae", "--seed", str(2**70)], "expected --seed from 0"),
    "another device": (
        ["fit", "vae", "--device", "meta"],
        "expected --device auto, cpu or cuda, got 'meta'",
    ),
    "somebody else's configuration": (
        ["fit", "vae", "--out", "{scene}/website", "--overwrite"],
        "is not the folder of a run",
    ),
    "an edited configuration": (
        ["evaluate", "{scene}/edited"],
        "expected latent_dim of type int, got '2'",
    ),
    "a checkpoint cut in keys": (
        ["fit", "vae", "--out", "{scene}/partial", "--resume"],
        "expected a 'ppl-gen checkpoint 4' file",
    ),
    "test labels missing": (
        ["fit", "cvae", "--data", "{scene}/half.npz"],
        "expected one shape of labels",
    ),
    "truncated": (["fit", "vae", "--data", "{scene}/cut.npz"], "cannot read"),
    "sixteen bits": (["fit", "vae", "--data", "{scene}/deep"], "expected 8-bit images in"),
    "a label for a vae": (
        ["sample", "{fitted}", "--label", "3"],
        "expected a CVAE or CGAN of labels for --label",
    ),
    "unknown device": (["fit", "vae", "--device", "gpu"], "unknown device 'gpu'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_nothing_is_touched(
    name: str,
    scene: Path,
    fitted: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words, said = BAD[name]
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    before = snapshot(scene), snapshot(fitted)
    result = CliRunner().invoke(app, [w.format(scene=scene, fitted=fitted) for w in words])
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert (snapshot(scene), snapshot(fitted)) == before
    assert not list(Path.cwd().iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_without_a_device() -> None:
    assert call("fit", "vae", "--device", "cuda") == (
        2,
        "error: no CUDA device for --device cuda on this machine; take --device cpu or auto",
    )


def test_help_explains_by_example_and_the_module_is_the_command() -> None:
    code, said = call("--help")
    assert code == 0
    assert "ppl-gen fit vae" in said
    module = subprocess.run(
        [sys.executable, "-m", "ppl_gen", "--help"], capture_output=True, text=True, check=True
    )
    assert "ppl-gen evaluate" in module.stdout


@pytest.mark.cuda
def test_a_run_on_cuda_resumes_bit_exactly(tmp_path: Path) -> None:
    four = ["--epochs", "4", "--latent-dim", "2", "--device", "cuda"]
    call("fit", "vae", "--out", tmp_path / "whole", *four)
    call("fit", "vae", "--out", tmp_path / "run", *four, "--epochs", "2")
    call("fit", "vae", "--out", tmp_path / "run", "--resume", "--epochs", "4", "--device", "cuda")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
