"""The command in several processes: one model, one folder, and an end of all that is no hang."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pandas
import pytest
import several
import torch
from command import call, held, same

from ppl_gen.app.recipes import RECIPES, recipe_of
from ppl_gen.app.run.device import device_of_process
from ppl_gen.app.run.metrics import read
from ppl_gen.app.run.opened import Fitted
from ppl_gen.inference import log_evidence
from ppl_gen.ranks import Ranks

VAE = ("fit", "vae", "--latent-dim", 2, "--device", "cpu", "--batch-size", 500)
MINUTES = 2000  # epochs


def _wait_for(run: Path, epochs: int) -> None:
    """Waits until a run has done so many epochs."""
    end = time.monotonic() + several.SECONDS
    while len(read(run)) < epochs:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_command_that_is_one_process_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, said = call("parts")
    assert (code, said[:40]) == (2, "error: expected one process, got 2; leav")
    monkeypatch.setenv("RANK", "1")
    assert call("parts")[1].startswith("error (process 1): expected one process")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert call("parts")[0] == 0


def test_each_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_of_process("cpu", Ranks(1, 2)) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert device_of_process("auto", Ranks(3, 4)) == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="expected --device cuda, of which each"):
        device_of_process("cuda:1", Ranks(1, 2))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="at most 2 processes on this machine, one for each"):
        device_of_process("cuda", Ranks(1, 3))


@pytest.mark.parametrize(
    ("model", "options", "count", "why"),
    [
        ("vae", {"batch_size": 25}, 2, "a --batch-size that 2 processes share evenly.* say 26"),
        ("vae", {"batch_size": 1498}, 7, "of at least 7 data, 1 for each of 7 .* got one of 2"),
        ("vae", {"free_bits": 0.1}, 2, "an objective that is an average over the data"),
        (
            "gmmn",
            {"binarize": None},
            2,
            "a model that several processes can fit, got gmmn",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(
    model: str, options: dict[str, Any], count: int, why: str
) -> None:
    common = {"batch_size": 50, "lr": 0.001, "binarize": "dynamic"}
    config = RECIPES[model].configuration(common | options)
    recipe = recipe_of(config)
    with pytest.raises(ValueError, match=why):
        recipe.prepare(config, recipe.data(config), torch.device("cpu"), Ranks(0, count))


@pytest.mark.long
def test_one_process_says_what_all_are_refused_for(tmp_path: Path) -> None:
    run = tmp_path / "run"
    codes, said = several.call(2, tmp_path / "said", *VAE[:-1], 25, "--out", run)
    assert codes == [2, 2]
    assert said[0].startswith("error: expected a --batch-size that 2 processes share evenly")
    assert said[1] == ""
    assert not run.exists()


@pytest.mark.slow
def test_a_run_goes_on_in_any_number_of_processes(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for run, epochs in ((one, 2), (other, 1)):
        codes, said = several.call(2, tmp_path / "said", *VAE, "--out", run, "--epochs", epochs)
        assert codes == [0, 0], said
        assert "2 processes" in said[0]
        assert said[1] == ""
    go_on = (*VAE[:2], "--out", other, "--resume", "--epochs")
    assert several.call(2, tmp_path / "said", *go_on, 2)[0] == [0, 0]
    assert same(held(one), held(other) | {"asked": held(one)["asked"]})
    assert [record.metrics for record in read(one)] == [record.metrics for record in read(other)]
    assert {record.data for record in read(one)} == {1500}
    assert call(*go_on, 3)[0] == 0
    assert [record.epoch for record in read(other)] == [1, 2, 3]


@pytest.mark.slow
def test_the_rate_is_halved_in_all_processes(tmp_path: Path) -> None:
    """A run of two that has halved its rate goes on in one, or in two, at the same rate."""
    run = tmp_path / "run"
    until = ("--until", "converged", "--lr", 0.05, "--epochs", 70)
    codes, said = several.call(2, tmp_path / "said", *VAE, *until, "--out", run)
    assert codes == [0, 0], said
    first = held(run)
    halved = len(first["stopping"]["rule"]["levels"])
    assert first["optimizers"][0]["param_groups"][0]["lr"] == 0.05 / 2**halved
    go_on = (*VAE[:2], "--out", run, "--resume", "--epochs", 72)
    assert several.call(2, tmp_path / "said", *go_on)[0] == [0, 0]
    assert held(run)["optimizers"][0]["param_groups"][0]["lr"] == 0.05 / 2**halved


def _evaluation(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "evaluation.json").read_text())
    return found


@pytest.mark.slow
def test_evidence_of_shares_is_that_of_one_process(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call(*VAE, "--out", run, "--epochs", 1)[0] == 0
    words = ("evaluate", run, "--particles", 50, "--limit", 101, "--device", "cpu")
    words = (*words, "--ais", "--subset", 10, "--chains", 4, "--temperatures", 10)
    codes, said = several.call(2, tmp_path / "said", *words)
    assert codes == [0, 0], said
    assert said[1] == ""
    shared = _evaluation(run)
    assert call(*words)[0] == 0
    alone = _evaluation(run)
    for name in ("log_evidence", "elbo", "ais"):
        one, other = alone[name], shared[name]
        error = math.hypot(one["standard_error"], other["standard_error"])
        assert one["value"] != other["value"]
        assert abs(one["value"] - other["value"]) < 4 * error
        assert one["data"] == other["data"]

    codes = several.ended(several.forked(3, several.weigh, tmp_path / "said", run, tmp_path, 20))
    assert codes == [0, 0, 0], (tmp_path / "said" / "0.txt").read_text()
    found = torch.load(tmp_path / "found.pt")
    fitted = Fitted.open(run, "cpu")
    expected = log_evidence(fitted.program, None, fitted.data.test.fixed(0, 20).x, particles=1000)
    error = torch.hypot(expected.standard_error, found["error"])
    assert len(found["value"]) == 20
    assert bool(((found["value"] - expected.value).abs() < 5 * error + 0.1).all())
    assert float(expected.value.std()) > 0.5  # so that another order would be seen


@pytest.mark.slow
def test_chains_are_split_over_processes(tmp_path: Path) -> None:
    few = ("--draws", 100, "--warmup", 100, "--steps", 100, "--engine", "fx", "--chains", 5)
    words = ("compare", "linear-regression", *few, "--out")
    codes, said = several.call(2, tmp_path / "said", *words, tmp_path / "shared")
    assert codes == [0, 0], said
    assert "5 chains of 100 draws" in said[0]
    assert said[1] == ""
    assert call(*words, tmp_path / "alone")[0] == 0
    shared, alone = (
        pandas.read_csv(tmp_path / name / "comparison.csv") for name in ("shared", "alone")
    )
    error = (shared["mcse"] ** 2 + alone["mcse"] ** 2) ** 0.5
    assert ((shared["mcmc mean"] - alone["mcmc mean"]).abs() < 4 * error).all()
    assert (shared["mcmc mean"] != alone["mcmc mean"]).all()


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    processes = several.forked(
        2, several.command, tmp_path / "said", *VAE, "--out", run, "--epochs", MINUTES
    )
    _wait_for(run, 1)
    assert processes[0].pid is not None
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.prlimit(processes[0].pid, resource.RLIMIT_FSIZE, (40_000, hard))
    assert several.ended(processes) == [2, 2]
    said = (tmp_path / "said" / "0.txt").read_text()
    epoch = held(run)["epoch"]
    assert epoch >= 1
    assert "checkpoint.pt cannot be written (File too large); raise the limit" in said
    assert f"The checkpoint of epoch {epoch} stays; go on with: ppl-gen fit vae" in said
    assert (tmp_path / "said" / "1.txt").read_text() == ""


@pytest.mark.slow
def test_a_killed_process_ends_all_with_a_message(tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = several.torchrun(2, *VAE, "--out", run, "--epochs", MINUTES, "--engine", "eager")
    _wait_for(run, 1)
    killed = several.processes_of(job)[1]
    begin = time.monotonic()
    os.kill(killed, signal.SIGKILL)
    said = " ".join(job.communicate(timeout=several.SECONDS)[0].split())
    assert time.monotonic() - begin < 30
    assert job.returncode == 1
    epoch = held(run)["epoch"]
    assert f"the checkpoint of epoch {epoch} is saved. Go on" in said
    code, said = call(*VAE[:2], "--out", run, "--resume", "--epochs", epoch + 1)
    assert code == 0, said
    assert read(run)[-1].epoch == epoch + 1
