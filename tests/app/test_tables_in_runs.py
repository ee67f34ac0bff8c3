"""Tables in runs of the command: fitted, drawn in their units, judged, known again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import call

from ppl_gen import load
from ppl_gen.data.formats.tables import write_table

SMALL = ("--latent-dim", 2, "--batch-size", 20, "--epochs", 2, "--device", "cpu")
EAGER = ("--engine", "eager")


def write(path: Path, *, lacking: bool = False, unit: float = 1.0) -> Path:
    """A number, two columns around 1000 with a little noise, and a label of two values."""
    z = np.random.RandomState(0).randn(60)
    noise = np.random.RandomState(1).randn(60)
    rows = np.stack([np.arange(60), unit * (1000 + 50 * z), 1e-3 * (z + 0.1 * noise)], 1)
    if lacking:
        rows[::3, 1] = np.nan
    labels = np.arange(60) % 2
    write_table(path, ["id", "height", "weight", "kind"], np.column_stack([rows, labels]))
    return path


def test_a_table_is_fitted_judged_and_drawn_in_its_units(tmp_path: Path) -> None:
    path = write(tmp_path / "people.csv")
    run = tmp_path / "run"
    asked = ("--leave-out", "id", "--label-column", "kind")
    code, said = call("fit", "vae", "--data", path, *asked, *SMALL, *EAGER, "--out", run)
    assert code == 0, said
    assert "2 classes, columns standardised by the training rows" in said
    assert "likelihood gaussian (for standardised columns; --likelihood says another)" in said
    held = json.loads((run / "config.json").read_text())
    assert (held["label_column"], held["leave_out"]) == ("kind", "id")
    code, said = call("evaluate", run, "--particles", 5)
    assert (code, "test log evidence" in said) == (0, True), said
    out = tmp_path / "draws.csv"
    code, said = call("sample", run, "--count", 50, "--out", out)
    assert code == 0, said
    lines = out.read_text().splitlines()
    assert (lines[0], len(lines)) == ("height,weight", 51)
    drawn = np.loadtxt(out, delimiter=",", skiprows=1)
    assert 500 < drawn[:, 0].min() < drawn[:, 0].max() < 1500
    assert load(run).data.columns.names == ("height", "weight")
    write(path, unit=2.0)
    with pytest.raises(ValueError, match=r"begun: other .*units of columns"):
        load(run)


def test_a_conditional_model_takes_the_label_column(tmp_path: Path) -> None:
    path = write(tmp_path / "people.csv")
    asked = ("--leave-out", "id", "--label-column", "kind", "--out", tmp_path / "run")
    code, said = call("fit", "cvae", "--data", path, *asked, *SMALL, *EAGER)
    assert (code, "2 classes" in said) == (0, True), said


def test_missing_cells_want_a_masked_likelihood(tmp_path: Path) -> None:
    path = write(tmp_path / "people.csv", lacking=True)
    words = ("fit", "vae", "--data", path, *SMALL, *EAGER, "--out", tmp_path / "run")
    code, said = call(*words)
    assert (code, "in 'height'" in said, "--likelihood masked" in said) == (2, True, True), said
    code, said = call(*words, "--likelihood", "masked", "--leave-out", "id,kind")
    assert (code, "likelihood masked-gaussian" in said) == (0, True), said
    assert "16.7% missing" in said


def test_what_does_not_suit_a_table_is_said_in_options(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("a,kind\n" + "".join(f"{i},cat\n" for i in range(30)))
    words = ("fit", "vae", *SMALL, "--out", tmp_path / "run")
    code, said = call(*words, "--data", path)
    assert (code, "leave such columns out (--leave-out kind)" in said) == (2, True), said
    code, said = call(*words, "--data", "digits", "--leave-out", "kind")
    assert (code, "for --label-column and --leave-out, got digits" in said) == (2, True), said
    code, said = call(*words, "--data", path, "--leave-out", "kind", "--binarize", "dynamic")
    assert (code, "--binarize none with --likelihood gaussian" in said) == (2, True), said
    assert not (tmp_path / "run").exists()
