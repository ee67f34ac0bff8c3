"""The command, called by the tests of the app: in this process, or in one that can be killed."""

from __future__ import annotations

import io
import multiprocessing
import sys
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from ppl_gen.app.cli import app
from ppl_gen.app.recipes import models_with
from ppl_gen.app.run import progress
from ppl_gen.app.run.checkpoint import FORMAT
from ppl_gen.sealed import write_sealed

PRELOADED = ["ppl_gen.app.commands.fit", "ppl_gen.models", "sklearn.datasets"]
QUICK = ["--epochs", "2", "--latent-dim", "2", "--device", "cpu"]
FEW = ("--epochs", 2, "--batch-size", 500, "--device", "cpu")
CHEAP = ("--permutations", 20, "--features", "pca")


def call(*words: object) -> tuple[int, str]:
    """The exit code and all that was printed, with white space folded."""
    result = CliRunner().invoke(app, [str(w) for w in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.output.split())


class _Sent(io.TextIOBase):
    """A stream that sends what is written to it, line by line."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def write(self, text: str) -> int:
        if text.strip():
            self.connection.send(text)
        return len(text)


def _run(words: list[str], said: Connection) -> None:
    sys.stdout = _Sent(said)
    app(words)


def start(*words: object) -> tuple[BaseProcess, Connection]:
    """The command in a process of its own, forked from one that has imported everything.

    Returns:
        The process, and a connection on which each line that is printed arrives.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    said, sent = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=([str(w) for w in words], sent))
    child.start()
    return child, said


def change_checkpoint(run: Path, *left_out: str, **entries: Any) -> None:
    """Writes a checkpoint with other entries or without some, its checksum being right."""
    state = torch.load(run / "checkpoint.pt", weights_only=True) | entries
    for name in ("format", *left_out):
        state.pop(name)
    write_sealed(run / "checkpoint.pt", FORMAT, state)


def owners(option: str) -> str:
    """The models that have an option, as messages list them."""
    return ", ".join(models_with(option))


def snapshot(folder: Path) -> dict[str, bytes]:
    """The bytes of every file in a folder, by path."""
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def held(run: Path) -> dict[str, Any]:
    """What the checkpoint of a run holds."""
    found: dict[str, Any] = torch.load(run / "checkpoint.pt", weights_only=True)
    return found


def same(one: Any, other: Any) -> bool:
    """Whether all numbers are equal, bit for bit."""
    if torch.is_tensor(one):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def stop_at(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """Ctrl-C when a fit takes this batch, counted from the first one of all."""
    watched = progress.Live._watched
    taken = 0

    def interrupted(self: progress.Live, batches: Iterable[Any]) -> Iterator[Any]:
        nonlocal taken
        for some in watched(self, batches):
            taken += 1
            if taken == batch:
                raise KeyboardInterrupt
            yield some

    monkeypatch.setattr(progress.Live, "_watched", interrupted)
