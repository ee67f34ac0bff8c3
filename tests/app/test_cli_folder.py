"""The folder of a run: one process at a time, and an old run until the new one is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command import QUICK, call, snapshot

from ppl_gen.app.run import folder as run_folder
from ppl_gen.app.run import lock
from ppl_gen.app.run.folder import PRODUCTS, Run
from ppl_gen.app.run.lock import locked
from ppl_gen.app.run.opened import Fitted

FAST = (*QUICK, "--engine", "eager")
NEW = ("--epochs", 1, "--latent-dim", 3, "--device", "cpu", "--engine", "eager")


NOBODY = 2**22 + 1  # no process has this number


class Killed(BaseException):
    """What nobody catches."""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE fitted to digits for two epochs, and scored."""
    folder = tmp_path_factory.mktemp("runs") / "vae"
    code, said = call("fit", "vae", "--out", folder, *FAST)
    assert code == 0, said
    call("evaluate", folder, "--particles", 2, "--limit", 5)
    return folder


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(fitted, tmp_path / "run"))


class TestLock:
    @pytest.mark.parametrize(
        "words",
        [
            ["fit", "vae", "--resume", "--out"],
            ["fit", "vae", *NEW, "--overwrite", "--out"],
            ["evaluate", "--particles", 2, "--limit", 5],
        ],
        ids=["resume", "overwrite", "evaluate"],
    )
    def test_a_second_process_is_refused(self, words: list[object], run: Path) -> None:
        with locked(run):
            before = snapshot(run)
            code, said = call(*words, run)
            assert (code, snapshot(run) == before) == (2, True)
        assert said == (
            f"error: the run {run} is in use by process {os.getpid()} on {os.uname().nodename}; "
            "wait until that ends, or take another folder"
        )
        assert not (run / lock.FILE).exists()

    def test_of_two_new_runs_one_is_refused(self, tmp_path: Path) -> None:
        with locked(tmp_path / "run"):
            code, said = call("fit", "vae", *FAST, "--out", tmp_path / "run")
            assert (code, "is in use by process" in said) == (2, True)
        assert list(tmp_path.iterdir()) == []

    def test_what_a_killed_process_left_does_not_hold(self, run: Path) -> None:
        (run / lock.FILE).write_text("process 1 on elsewhere")
        with locked(run):
            pass
        assert not (run / lock.FILE).exists()

    def test_a_forked_worker_does_not_hold_what_its_parent_held(self, run: Path) -> None:
        """It lives on for some seconds where the parent is killed."""
        wait, end = os.pipe()
        ready, begun = os.pipe()
        with locked(run):
            child = os.fork()
            if child == 0:
                os.close(end)
                os.write(begun, b"!")
                os.read(wait, 1)
                os._exit(0)
            os.read(ready, 1)
            (number,) = lock._open_here
            os.close(number)  # as the system does for a process that is killed
            lock._open_here.clear()
            with locked(run):
                pass
            lock._open_here.add(number)
            os.dup2(wait, number)
        os.close(end)
        os.waitpid(child, 0)
        for number in (wait, ready, begun):
            os.close(number)

    def test_what_the_file_says_is_not_printed_as_it_is(self, run: Path) -> None:
        with locked(run):
            (run / lock.FILE).write_text("\x1b[31m[/b]")
            _, said = call("evaluate", run)
        assert "is in use by another process; wait" in said

    def test_file_systems_without_locks_are_said(
        self, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def flock(number: int, how: int) -> None:
            raise OSError(lock._NO_LOCKS[0], "no locks")

        monkeypatch.setattr("fcntl.flock", flock)
        with pytest.warns(RuntimeWarning, match="has no locks: see to it"), locked(run):
            pass
        monkeypatch.setattr(lock, "fcntl", None)
        with locked(run):
            pass

    def test_a_link_in_the_place_of_the_lock_is_not_followed(self, run: Path) -> None:
        (run / "precious").write_text("precious")
        (run / lock.FILE).symlink_to(run / "precious")
        assert call("fit", "vae", "--out", run, "--resume")[0] == 2
        assert (run / "precious").read_text() == "precious"


class TestOverwrite:
    def test_a_start_that_fails_leaves_the_old_run(
        self, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = snapshot(run)

        def full_disk(self: Run, *given: object) -> None:
            raise OSError("no room")

        monkeypatch.setattr(Run, "checkpoint", full_disk)
        assert call("fit", "vae", "--out", run, "--overwrite", *NEW)[0] == 2
        assert snapshot(run) == before

    def test_a_start_that_is_killed_leaves_the_old_run(
        self, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = snapshot(run)
        new = run / run_folder._NEW
        new.mkdir()
        (new / "config.json").write_text("{}")
        code, said = call("fit", "vae", "--out", run, "--resume")
        assert (code, "came to no checkpoint: dropped" in said) == (0, True)
        after = snapshot(run)
        assert before.keys() == after.keys()
        for name in ("config.json", "metrics.jsonl", "evaluation.json"):
            assert after[str(run / name)] == before[str(run / name)]

    @pytest.mark.parametrize("moment", [0, 2, 3, 4, 5, 6, 7, 8, 15, *range(22, 28)])
    def test_a_kill_at_any_moment_leaves_the_old_run_or_the_new_one(
        self, moment: int, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each time that a name in the folder changes; after a kill no code runs."""
        before = snapshot(run)
        changes = 0

        def mortal(change: Callable[..., Any]) -> Callable[..., Any]:
            def work(*given: Any, **named: Any) -> Any:
                nonlocal changes
                changes += 1
                if changes > moment:
                    raise Killed
                return change(*given, **named)

            return work

        with monkeypatch.context() as patched:
            for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
                patched.setattr(os, name, mortal(getattr(os, name)))
            patched.setattr(os, "getpid", lambda: NOBODY)
            with pytest.raises(Killed):
                call("fit", "vae", "--out", run, "--overwrite", *NEW)
        lock._leave_to_parent()  # as the system does for a process that is killed
        is_new = Run.open(run).config.latent_dim == 3
        if is_new:
            assert Fitted.open(run, "cpu").epoch == 0
            names = {Path(name).name for name in snapshot(run)}
            assert names & {*PRODUCTS} <= {"checkpoint.pt", "metrics.jsonl"}
        else:
            after = snapshot(run)
            assert {name: after[name] for name in before} == before
        with locked(run):
            run_folder.drop_start(run)
        assert not [path.name for path in run.iterdir() if path.name.startswith(".ppl-gen")]

    def test_a_folder_killed_before_its_run_was_one_is_usable(self, tmp_path: Path) -> None:
        (tmp_path / run_folder._NEW).mkdir()
        (tmp_path / run_folder._NEW / "config.json").write_text("{")
        for name in (lock.FILE, "config.json.part", ".config.json.4194305-0123abcd.part"):
            (tmp_path / name).write_text("{")
        code, said = call("fit", "vae", *FAST, "--epochs", 1, "--out", tmp_path)
        assert code == 0, said
        assert not (tmp_path / run_folder._NEW).exists()

    def test_a_link_in_the_place_of_the_new_run_is_not_followed(
        self, run: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "config.json").write_text("mine")
        for name in (run_folder._NEW, run_folder._WHOLE):
            (run / name).symlink_to(tmp_path / "elsewhere")
        Run.open(run)
        with locked(run):
            run_folder.drop_start(run)
            run_folder.finish_start(run)
        assert (tmp_path / "elsewhere" / "config.json").read_text() == "mine"


def test_a_run_in_a_linked_folder_is_a_run(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run)
    assert call("fit", "vae", "--out", tmp_path / "link", "--overwrite", *NEW)[0] == 0
    assert (tmp_path / "link").is_symlink()
    assert torch.load(run / "checkpoint.pt", weights_only=True)["epoch"] == 1
