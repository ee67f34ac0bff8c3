"""Commands that are stopped: by Ctrl-C, by signals, by a full disk, by output that nobody reads."""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command import QUICK, call, snapshot, start
from rich.progress import Progress

from ppl_gen.app import output, signals
from ppl_gen.app.commands import compare
from ppl_gen.app.evaluation.subject import Subject
from ppl_gen.app.run import checkpoint, exports, pictures, progress
from ppl_gen.app.run.evaluation import Evaluation
from ppl_gen.app.run.folder import Run

FAST = (*QUICK, "--engine", "eager")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE fitted to digits for two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "vae"
    code, said = call("fit", "vae", "--out", folder, *FAST)
    assert code == 0, said
    return folder


def weights(folder: Path) -> dict[str, list[Any]]:
    """The weights of a run, as numbers."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    return {name: held.tolist() for name, held in state["program"].items()}


def interrupted(
    patched: pytest.MonkeyPatch, place: Any, name: str, number: int, *, call: int = 1
) -> None:
    """Has a signal come, twice in a row, after a function was called so many times."""
    function = getattr(place, name)
    calls = 0

    def work(*given: Any, **named: Any) -> Any:
        nonlocal calls
        result = function(*given, **named)
        calls += 1
        if calls == call:
            try:
                signal.raise_signal(number)
            finally:
                signal.raise_signal(number)
        return result

    patched.setattr(place, name, work)


class TestSignals:
    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
    def test_training_stops_as_by_ctrl_c(
        self, name: str, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The second signal comes while the first one is answered."""
        run, number = tmp_path / "run", getattr(signal, name)
        with monkeypatch.context() as patched:
            interrupted(patched, progress.Live, "show", number)
            code, said = call("fit", "vae", "--out", run, *FAST)
        assert code == 128 + number
        by = "" if name == "SIGINT" else f" by {name}"
        assert f"stopped{by} in epoch 2, which is dropped; the checkpoint of epoch 1 is" in said
        assert f"Go on with: ppl-gen fit vae --out {run} --resume" in said
        assert {path.name for path in run.iterdir()} == {
            "config.json",
            "metrics.jsonl",
            "checkpoint.pt",
        }
        assert call("fit", "vae", "--out", run, "--resume")[0] == 0
        assert weights(run) == weights(fitted)

    def test_a_checkpoint_is_not_torn(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first epoch is measured, its checkpoint is being written, and the signal comes."""
        with monkeypatch.context() as patched:
            interrupted(patched, os, "fsync", signal.SIGTERM, call=3)
            code, said = call("fit", "vae", "--out", tmp_path / "run", *FAST)
        assert (code, "the checkpoint of epoch 1 is saved" in said) == (143, True)
        assert [record.epoch for record in Run.open(tmp_path / "run").records()] == [1]
        assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["epoch"] == 1

    def test_a_new_run_that_is_stopped_before_it_begins_leaves_nothing(
        self, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = snapshot(fitted)
        for folder, more in ((tmp_path / "deep" / "er", []), (fitted, ["--overwrite"])):
            with monkeypatch.context() as patched:
                interrupted(patched, checkpoint, "write", signal.SIGTERM)
                code, said = call("fit", "vae", "--out", folder, *FAST, *more)
            assert (code, "before training began; nothing is lost" in said) == (143, True)
        assert snapshot(fitted) == before
        assert list(tmp_path.iterdir()) == []

    def test_pictures_are_said_to_be_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            interrupted(patched, pictures, "samples", signal.SIGTERM)
            code, said = call("fit", "vae", "--out", tmp_path / "run", *FAST)
        assert (code, "while pictures were drawn; the run is whole" in said) == (143, True)

    def test_what_evaluate_has_found_is_kept(
        self, fitted: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = ("evaluate", fitted, "--particles", 2, "--limit", 5)
        before = snapshot(fitted)
        with monkeypatch.context() as patched:
            interrupted(patched, Subject, "weighted", signal.SIGTERM)
            code, said = call(*words)
        assert (code, "stopped by SIGTERM: nothing was written to" in said) == (143, True)
        assert snapshot(fitted) == before
        with monkeypatch.context() as patched:
            interrupted(patched, Evaluation, "write", signal.SIGTERM)
            code, said = call(*words)
        assert code == 143
        assert f"log_evidence written to {fitted / 'evaluation.json'}; the rest is lost" in said
        assert list(json.loads((fitted / "evaluation.json").read_text())) == ["log_evidence"]
        assert call(*words)[0] == 0

    def test_draws_come_whole_or_not_at_all(
        self, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            interrupted(patched, exports, "write_image", signal.SIGTERM, call=3)
            code, said = call("sample", fitted, "--count", 5, "--out", tmp_path / "draws")
        assert (code, "is lost, and nothing was written" in said) == (143, True)
        assert list(tmp_path.iterdir()) == []

    def test_a_comparison_comes_whole_or_not_at_all(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small = ("--draws", 5, "--warmup", 5, "--steps", 2, "--chains", 4, "--engine", "eager")
        interrupted(monkeypatch, compare, "write_picture", signal.SIGTERM, call=2)
        code, said = call("compare", "banana", *small, "--out", tmp_path / "compared")
        assert (code, "is lost, and nothing was written" in said) == (143, True)
        assert list(tmp_path.iterdir()) == []

    def test_an_error_that_a_signal_led_to_is_none(
        self, fitted: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def swallow(*given: Any, **named: Any) -> None:
            try:
                signal.raise_signal(signal.SIGTERM)
            except BaseException as error:
                raise AttributeError("no such module") from error

        monkeypatch.setattr(pictures, "draw_samples", swallow)
        code, said = call("sample", fitted)
        assert (code, "stopped by SIGTERM: what was worked out is lost" in said) == (143, True)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_training_stops_by_a_signal_that_was_swallowed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As errors in a destructor are, which Python calls at any moment."""

        class Destroyed:
            def __del__(self) -> None:
                signal.raise_signal(signal.SIGTERM)

        advance = Progress.advance

        def advance_and_destroy(self: Progress, task: Any, moved: int) -> None:
            Destroyed()
            advance(self, task, moved)

        monkeypatch.setattr(progress, "_OFTEN", 0)  # at every batch
        monkeypatch.setattr(Progress, "advance", advance_and_destroy)
        code, said = call("fit", "vae", "--out", tmp_path / "run", *FAST)
        assert (code, "stopped by SIGTERM in epoch 1, which is dropped" in said) == (143, True)

    def test_an_import_is_not_torn(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It would leave a module behind that lacks a part; the signal comes again after it."""
        (tmp_path / "stopped_module.py").write_text(
            "import signal\nsignal.raise_signal(signal.SIGTERM)\nwhole = True\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        again: list[Any] = []
        monkeypatch.setattr(signals, "_again", lambda number: again.append(number))
        with signals.heeded():
            assert importlib.import_module("stopped_module").whole
            assert again == [signal.SIGTERM]

    def test_a_signal_that_is_ignored_stays_ignored(self) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with signals.heeded():
                signal.raise_signal(signal.SIGHUP)
        finally:
            signal.signal(signal.SIGHUP, before)

    def test_signals_of_one_moment_are_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 0.0
        monkeypatch.setattr("time.monotonic", lambda: now)
        with signals.heeded():
            with pytest.raises(signals.Terminated):
                signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            now = 10.0
            with pytest.raises(signals.Terminated):
                signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


class TestFullDisk:
    def test_training_keeps_the_last_checkpoint_and_names_file_and_remedy(
        self, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = tmp_path / "run"
        sync, synced = os.fsync, []

        def full_disk(number: int) -> None:
            synced.append(number)
            if len(synced) == 4:  # of configuration, and checkpoints of the epochs 0, 1, 2
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(number)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full_disk)
            code, said = call("fit", "vae", "--out", run, *FAST)
        assert code == 2
        assert (
            f"error: {run}/checkpoint.pt cannot be written (No space left on device); make room on "
            f"its disk. The checkpoint of epoch 1 stays; go on with: ppl-gen fit vae --out {run} "
            "--resume" in said
        )
        assert {path.name for path in run.iterdir()} == {
            "config.json",
            "metrics.jsonl",
            "checkpoint.pt",
        }
        assert call("fit", "vae", "--out", run, "--resume")[0] == 0
        assert weights(run) == weights(fitted)


class TestOutput:
    @pytest.mark.long
    def test_training_goes_on_when_nobody_reads(self, fitted: Path, tmp_path: Path) -> None:
        child, said = start("fit", "vae", "--out", tmp_path / "run", *FAST)
        assert "vae on digits" in said.recv()
        said.close()
        child.join()
        assert child.exitcode == 0
        assert weights(tmp_path / "run") == weights(fitted)
        assert (tmp_path / "run" / "samples.png").exists()

    def test_a_closed_pipe_is_said_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        read, write = os.pipe()
        os.close(read)
        before = sys.stdout
        sys.stdout = os.fdopen(write, "w")
        try:
            with output.not_needed():
                for _ in range(3):
                    print("x" * 10_000)
            sys.stdout.close()
        finally:
            sys.stdout = before
        (line,) = capsys.readouterr().err.splitlines()
        assert "goes nowhere any more (Broken pipe)" in line

    def test_no_output_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdout", None)
        with output.not_needed():
            print("unheard")

    def test_what_is_read_arrives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        read = io.StringIO()
        monkeypatch.setattr(sys, "stdout", read)
        with output.not_needed():
            print("heard")
        assert read.getvalue() == "heard\n"
