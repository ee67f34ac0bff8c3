"""Runs that are killed, stopped, starved of room, shared and damaged, two hundred times.

After each fault the run is gone on with. It then ends in the very bits of a run that nothing
befell, or the command refuses, in one line that names the remedy.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chaos import Fault, befall
from command import call

from ppl_gen.app.recipes import RECIPES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]

CHANGES = 45  # of files in a fit of three epochs, about
SECONDS = 1.5  # that such a fit takes, about
STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
REFUSED = 2
REMEDY = re.compile("; |put it back|move it away", re.IGNORECASE)
LIMIT = 300  # seconds, after which a process hangs


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of a call: its exit code, negative for a signal, and what it said."""

    code: int
    said: str

    @property
    def is_refusal(self) -> bool:
        """Whether it ended in one line of error that says what to do."""
        return self.code == REFUSED and "error: " in self.said and bool(REMEDY.search(self.said))


@dataclass(frozen=True)
class Bench:
    """A place where a model is fitted over and over.

    Attributes:
        folder: For all of it.
        model: The name of the model.
        seen: How often each outcome was seen, by fault.
    """

    folder: Path
    model: str
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def words(self, run: Path, *more: str) -> list[str]:
        """A fit of three epochs."""
        data = str(self.folder / "data.npz")
        words = ["fit", self.model, "--data", data, "--epochs", "3", "--batch-size", "18"]
        if self.model == "cycle-gan":
            words += ["--data-b", f"{data}:inverted", "--width", "2"]
        return [*words, "--device", "cpu", "--out", str(run), *more]

    def resumed(self, run: Path) -> list[str]:
        """The words that go on with it."""
        return ["fit", self.model, "--out", str(run), "--resume", "--epochs", "3"]

    def call(self, words: list[str], fault: Fault | None = None) -> Told:
        """Calls the command, and waits for its end."""
        out = self.folder / "out.txt"
        child = befall(words, out, fault or Fault())
        child.join(LIMIT)
        assert child.exitcode is not None, f"{words} does not end"
        return Told(code=child.exitcode, said=out.read_text("utf8"))

    def finish(self, run: Path) -> Told:
        """Goes on with a run, or begins it where there is none yet."""
        told = self.call(self.resumed(run))
        if told.code == REFUSED and "is not the folder of a run" in told.said:
            return self.call(self.words(run))
        return told


def result(run: Path) -> dict[str, Any]:
    """All that a fit comes to but the seconds it took."""
    records = []
    for line in (run / "metrics.jsonl").read_text("utf8").splitlines():
        record = json.loads(line)
        del record["seconds"], record["checksum"]  # of the line, its seconds included
        records.append(record)
    found: dict[str, Any] = {"metrics": records}
    for name in ("checkpoint.pt", "config.json"):
        found[name] = (run / name).read_bytes()
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a run but for its lock."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ".ppl-gen-lock":
            found[str(path)] = path.read_bytes()
    return found


def flip(path: Path, chance: random.Random) -> None:
    """Turns one bit of a file."""
    held = bytearray(path.read_bytes())
    held[chance.randrange(len(held))] ^= 1 << chance.randrange(8)
    path.write_bytes(held)


@pytest.fixture(params=RECIPES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    x = np.random.RandomState(0).randint(0, 256, (60, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(60) % 3)
    made = Bench(tmp_path, request.param)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert call(*made.words(tmp_path / "warm"))[0] == 0
    yield made
    torch.set_num_threads(threads)


def faults(chance: random.Random) -> list[tuple[str, Fault]]:
    """Kills, stops and full disks at random changes of files."""
    found = []
    for _ in range(6):
        change, is_after = chance.randint(1, CHANGES), chance.random() < 0.5
        found.append(("kill", Fault(signal=signal.SIGKILL, change=change, is_after=is_after)))
    for number in STOPS:
        found.append(("stop", Fault(signal=number, change=chance.randint(1, CHANGES))))
    for _ in range(3):
        size = chance.randint(0, 300_000)
        found.append(("full disk", Fault(size=size, change=chance.randint(1, CHANGES))))
    return found


def test_nothing_differs_silently(bench: Bench, record_property: Callable[..., None]) -> None:
    chance = random.Random(bench.model)
    whole = bench.folder / "whole"
    assert bench.call(bench.words(whole)).code == 0
    expected = result(whole)

    def settle(kind: str, run: Path, told: Told) -> None:
        """A fault is survived, or refused."""
        outcome = "the same bits"
        if told.is_refusal:
            outcome = "refused"
        else:
            assert told.code == 0, f"{kind}: {told}"
            assert result(run) == expected, kind
        bench.seen[kind, outcome] += 1
        shutil.rmtree(run)

    run = bench.folder / "run"
    for kind, fault in faults(chance):
        told = bench.call(bench.words(run), fault)
        if kind != "kill":
            assert told.code in (0, REFUSED, 128 + fault.signal), f"{kind}: {told}"
            assert "Traceback" not in told.said
        settle(kind, run, bench.finish(run))
    killed_by_time(bench, run, chance, settle)
    overwritten(bench, run, chance, settle)
    shared(bench, run, chance, settle)
    damaged(bench, run, chance)
    record_property("outcomes", str(sorted(bench.seen.items())))
    print(bench.model, sorted(bench.seen.items()))
    assert sum(bench.seen.values()) >= 25


Settle = Callable[[str, Path, Told], None]


def killed_by_time(bench: Bench, run: Path, chance: random.Random, settle: Settle) -> None:
    """The parent kills or stops it at any moment, also between changes of files."""
    for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
        child = befall(bench.words(run), bench.folder / "out.txt")
        child.join(chance.uniform(0.1, SECONDS))
        assert child.pid is not None
        if child.exitcode is None:
            os.kill(child.pid, number)
        child.join(LIMIT)
        settle("by time", run, bench.finish(run))


def overwritten(bench: Bench, run: Path, chance: random.Random, settle: Settle) -> None:
    """Killed while it takes the place of another run: that one is whole, or this one goes on."""
    old = bench.folder / "old"
    assert bench.call(bench.words(old, "--seed", "7")).code == 0
    for _ in range(2):
        shutil.copytree(old, run)
        before = contents(run)
        change = chance.randint(1, CHANGES)
        fault = Fault(signal=signal.SIGKILL, change=change, is_after=chance.random() < 0.5)
        bench.call(bench.words(run, "--overwrite"), fault)
        told = bench.finish(run)
        if json.loads((run / "config.json").read_text())["seed"] == 7:
            assert told.code == 0
            after = result(run)
            assert after["checkpoint.pt"] == before[str(run / "checkpoint.pt")]
            told = bench.call(bench.words(run, "--overwrite"))
        settle("overwrite", run, told)


def shared(bench: Bench, run: Path, chance: random.Random, settle: Settle) -> None:
    """A second process comes while the first one holds the run, and is refused."""
    others = (bench.resumed(run), bench.words(run, "--overwrite"), ["evaluate", str(run)])
    for _ in range(2):
        out = bench.folder / "first.txt"
        first = befall(bench.words(run), out)
        while not (run / "checkpoint.pt").exists() and first.is_alive():
            first.join(0.01)
        assert first.pid is not None
        if first.is_alive():
            os.kill(first.pid, signal.SIGSTOP)
            before = contents(run)
            second = bench.call(chance.choice(others))
            assert second.is_refusal, second
            assert "in use by" in second.said
            assert contents(run) == before
            os.kill(first.pid, signal.SIGCONT)
        first.join(LIMIT)
        settle("second process", run, Told(code=first.exitcode or 0, said=out.read_text("utf8")))


def damaged(bench: Bench, run: Path, chance: random.Random) -> None:
    """One bit of one file of a run of two epochs is turned, and the third epoch asked for."""
    half = bench.folder / "half"
    words = bench.words(half)
    words[words.index("--epochs") + 1] = "2"
    assert bench.call(words).code == 0
    shutil.copytree(half, run)
    assert bench.call(bench.resumed(run)).code == 0
    expected = result(run)
    shutil.rmtree(run)
    files = ("checkpoint.pt", "checkpoint.pt", "config.json", "config.json", "metrics.jsonl")
    for name in (*files, "metrics.jsonl"):
        shutil.copytree(half, run)
        flip(run / name, chance)
        before = contents(run)
        told = bench.call(bench.resumed(run))
        outcome = "the same bits"
        if told.is_refusal:
            outcome = "refused"
            assert contents(run) == before
        else:
            assert told.code == 0, f"{name}: {told}"
            found = result(run)
            assert found["checkpoint.pt"] == expected["checkpoint.pt"], name
            if found != expected:
                outcome = "said"
                assert name in told.said, (name, told.said)
        bench.seen[f"bit of {name}", outcome] += 1
        shutil.rmtree(run)
