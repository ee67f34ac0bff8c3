"""Hostile calls: each is refused in one line that changes no file, or does what was asked."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hostile import CASES, FIT, OWN_DATA, OWN_MODELS, OWN_PARTS, Case, images
from PIL import Image
from typer.testing import CliRunner

from ppl_gen.app.cli import app

MODELS = ("vae", "gan", "cgan", "cycle-gan")
SECONDS = 10  # after which a call counts as one that hangs
MEMORY = 4 * 2**30  # that a call may ask for beyond what is held


class Hung(BaseException):
    """A call did not end; no handler of errors in the library takes it for its own."""


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three classes in an array, some of them in files, and a run of each kind."""
    folder = tmp_path_factory.mktemp("store")
    x = images()
    np.savez(folder / "data.npz", x=x, y=np.arange(120) % 3)
    (folder / "photos").mkdir()
    for i in range(30):
        Image.fromarray(x[i]).save(folder / "photos" / f"{i}.png")
    (folder / "empty").mkdir()
    (folder / "my_parts.py").write_text(OWN_PARTS)
    (folder / "my_model.py").write_text(OWN_MODELS)
    for name, content in OWN_DATA.items():
        (folder / name).write_text(content)
    data = str(folder / "data.npz")
    for model in MODELS:
        words = FIT.replace("fit vae --epochs 1", f"fit {model} --epochs 2")
        if model == "cycle-gan":
            words = words.replace("--latent-dim 2", f"--width 2 --data-b {data}:inverted")
        words = words.replace("--out new", f"--out {folder / model}-run")
        done = CliRunner().invoke(app, [*words.split(), "--data", data])
        assert done.exit_code == 0, done.output
    return folder


def digest(folder: Path) -> dict[str, str]:
    """What each thing in a folder is, by path: the hash of a file, the target of a link."""
    found = {}
    for place, inner, files in os.walk(folder):
        for name in (*inner, *files):
            path = Path(place) / name
            mode = path.lstat().st_mode
            said = f"{stat.S_IFMT(mode):o}"
            if stat.S_ISLNK(mode):
                said += os.readlink(path)
            elif stat.S_ISREG(mode):
                said += hashlib.sha1(path.read_bytes()).hexdigest()
            found[str(path)] = said
    return found


@contextmanager
def bounded() -> Iterator[None]:
    """Ends what hangs, and refuses memory to what asks for more than there may be."""

    def ring(*_: object) -> None:
        raise Hung(f"not done after {SECONDS} s")

    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    former = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, ring)
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, former[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, former)


def furnish(case: Case, store: Path, folder: Path) -> None:
    """Puts what a case names into its folder, and damages it."""
    named = " ".join(case.words)
    for path in store.iterdir():
        if path.name in named:
            if path.is_dir():
                shutil.copytree(path, folder / path.name)
            else:
                shutil.copy(path, folder / path.name)
    case.spoil()


def expect_readable(text: str) -> None:
    """Fails if something printed has control characters, or is a traceback."""
    odd = {c for c in text if not c.isprintable() and c != "\n"}
    assert not odd, text
    assert "Traceback" not in text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_hostile_call(
    case: Case, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    furnish(case, store, tmp_path)
    before = digest(tmp_path)
    with bounded():
        done = CliRunner().invoke(app, list(case.words))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    expect_readable(done.output)
    said = " ".join(done.output.split())
    assert case.says in said, said
    if case.is_fine:
        assert done.exit_code == 0, said
        return
    assert done.exit_code == 2, said
    assert digest(tmp_path) == before
    if done.stderr.startswith("error: "):
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""


def test_there_are_as_many_cases_as_names() -> None:
    assert len(CASES) >= 300
