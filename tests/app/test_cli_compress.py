"""`ppl-gen compress` and `decompress`: arrays come back, and what is wrong is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ppl_gen.app.cli import app
from ppl_gen.inference import Compressed

FIT = "fit vae --epochs 1 --batch-size 20 --latent-dim 2 --hidden 8 --device cpu"


def called(line: str, *places: object) -> Any:
    return CliRunner().invoke(app, [*line.split(), *map(str, places)])


def binary(n: int = 60, *shape: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 2, (n, *(shape or (5, 5)))).astype(np.uint8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, without_pictures: None) -> Path:
    """Two runs on the same binary images, one on grey bytes, and a Gaussian one."""
    folder = tmp_path_factory.mktemp("runs")
    np.save(folder / "own.npy", binary())
    np.save(folder / "grey.npy", 85 * (binary() + binary()[::-1] + binary()[:, ::-1]))
    more = {
        "run": "--data own.npy",
        "other": "--seed 1 --data own.npy",
        "grey": "--binarize none --likelihood categorical --data grey.npy",
        "gaussian": "--binarize none --likelihood gaussian --data grey.npy",
    }
    for name, options in more.items():
        line = options.replace("--data ", f"--data {folder}/")
        done = called(f"{FIT} {line} --out", folder / name)
        assert done.exit_code == 0, done.output
    return folder


def bits(runs: Path, folder: Path, x: np.ndarray | None = None) -> Path:
    """A compressed file of some data."""
    np.save(folder / "x.npy", binary(30) if x is None else x)
    done = called("compress", runs / "run", folder / "x.npy", folder / "x.bits")
    assert done.exit_code == 0, done.output
    return folder / "x.bits"


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x,
        lambda x: x[:, None].astype(np.float32),
        lambda x: x.astype(bool),
        lambda x: 255 * x[..., None],
        lambda x: x.astype(">i8"),
    ],
)
def test_an_array_comes_back(
    runs: Path, tmp_path: Path, convert: Callable[[np.ndarray], np.ndarray]
) -> None:
    x = convert(binary(30))
    held = bits(runs, tmp_path, x)
    done = called("decompress", runs / "run", held, tmp_path / "back.npy")
    assert done.exit_code == 0, done.output
    back = np.load(tmp_path / "back.npy")
    assert back.dtype == x.dtype
    assert np.array_equal(back, x)


def test_grey_levels_come_back(runs: Path, tmp_path: Path) -> None:
    x = np.load(runs / "grey.npy")[:20]
    np.savez(tmp_path / "x.npz", x=x)
    done = called("compress", runs / "grey", tmp_path / "x.npz", tmp_path / "x.bits")
    assert done.exit_code == 0, done.output
    called("decompress", runs / "grey", tmp_path / "x.bits", tmp_path / "back.npy")
    assert np.array_equal(np.load(tmp_path / "back.npy"), x)


def test_the_run_s_own_test_data_as_they_are_scored(runs: Path, tmp_path: Path) -> None:
    done = called("compress", runs / "run", runs / "own.npy", tmp_path / "x.bits")
    assert "6 data of" in done.output
    for said in ("bits back", "−ELBO / ln 2", "bz2, 8 pixels to a byte", "PNG", "JPEG-2000"):
        assert said in done.output
    assert "initial ones" in done.output
    held = Compressed.from_bytes((tmp_path / "x.bits").read_bytes())
    assert held.count == 6
    called("decompress", runs / "run", tmp_path / "x.bits", tmp_path / "back.npy")
    rows = np.random.RandomState(0).permutation(60)[:6]
    assert np.array_equal(np.load(tmp_path / "back.npy")[:, 0], binary()[rows])


def test_a_limit(runs: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", binary(30))
    words = ("compress --limit 4 --precision 8", runs / "run", tmp_path / "x.npy", tmp_path / "y")
    assert called(*words).exit_code == 0
    assert "y exists" in called(*words).output
    assert called(words[0] + " --overwrite", *words[1:]).exit_code == 0
    held = Compressed.from_bytes((tmp_path / "y").read_bytes())
    assert (held.count, held.precision) == (4, 8)


def refused(done: Any, says: str, *missing: Path) -> None:
    assert done.exit_code == 2, done.output
    assert says in " ".join(done.output.split()), done.output
    for path in missing:
        assert not path.exists()


def test_what_is_no_data_of_the_run(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.bits"
    cases = {
        "expected data of shape (1, 5, 5)": binary(30, 6, 6),
        "expected": np.full((30, 5, 5), 0.5, np.float32),
        "single precision": np.full((30, 5, 5), 1 / 3),
    }
    for says, x in cases.items():
        np.save(tmp_path / "x.npy", x)
        refused(called("compress", runs / "run", tmp_path / "x.npy", out), says, out)
    np.savez(tmp_path / "x.npz", y=binary())
    refused(called("compress", runs / "run", tmp_path / "x.npz", out), "expected an array x", out)
    np.save(tmp_path / "x.npy", binary())
    line = ("compress", runs / "gaussian", tmp_path / "x.npy", out)
    refused(called(*line), "expected a likelihood of independent entries that lists", out)


def test_files_that_are_not_the_run_s(runs: Path, tmp_path: Path) -> None:
    held = bits(runs, tmp_path)
    out = tmp_path / "back.npy"
    whole = held.read_bytes()
    line = ("decompress", runs / "other", held, out)
    refused(called(*line), "expected the program that the data were compressed with", out)
    elsewhere = replace(Compressed.from_bytes(whole), arithmetic=bytes(8))
    for content, says in (
        (whole[:-20], "cut short, or damaged"),
        (whole[:10], "expected compressed data"),
        (elsewhere.to_bytes(), "put out the same numbers to the last bit"),
    ):
        held.write_bytes(content)
        refused(called("decompress", runs / "run", held, out), says, out)
    held.write_bytes(whole)
    refused(called("decompress", runs / "run", held, tmp_path / "back.npz"), ".npy file")
    out.write_text("mine")
    refused(called("decompress", runs / "run", held, out), "back.npy exists; say --overwrite")
    assert out.read_text() == "mine"


@pytest.mark.parametrize("note", ["", "by hand", '["O",[5,5],1]', '["|u1",[5,6],1]'])
def test_what_was_compressed_in_python(runs: Path, tmp_path: Path, note: str) -> None:
    held = bits(runs, tmp_path)
    bare = replace(Compressed.from_bytes(held.read_bytes()), note=note)
    held.write_bytes(bare.to_bytes())
    assert called("decompress", runs / "run", held, tmp_path / "back.npy").exit_code == 0
    back = np.load(tmp_path / "back.npy")
    assert back.shape == (30, 1, 5, 5)
    assert back.dtype == np.float32
