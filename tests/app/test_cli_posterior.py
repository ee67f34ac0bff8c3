"""`ppl-gen posterior`: a user's own program and data in, a table, a grade and draws out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import arviz
import numpy as np
import pytest
import torch
from hostile import OWN_MODELS
from typer.testing import CliRunner

from ppl_gen.app.cli import app
from ppl_gen.app.commands.posterior import arguments_of

Y = [1.0, 2.0, 1.5, 0.5]


def called(*words: str) -> Any:
    return CliRunner().invoke(app, ["posterior", *words])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_model.py").write_text(OWN_MODELS)
    return tmp_path


@pytest.mark.parametrize("form", ["json", "npz", "csv", "npy"])
def test_data_of_every_form(folder: Path, form: str) -> None:
    place = folder / f"y.{form}"
    y = np.array(Y, dtype=np.float32)
    if form == "json":
        place.write_text(json.dumps({"y": Y}))
    elif form == "npz":
        np.savez(place, y=y)
    elif form == "csv":
        place.write_text("y\n" + "\n".join(map(str, Y)) + "\n")
    else:
        np.save(place, y)
    done = called("my_model.py:model", "--data", str(place), "--engine", "eager", "--out", "d.nc")
    assert done.exit_code == 0, done.output
    assert "good: ESS at least" in done.output
    assert "pathfinder:" in done.output
    drawn = arviz.from_netcdf("d.nc")["posterior"]["z"].to_numpy()
    # Normal of mean Σy / 5 and variance 1/5; 2000 effective draws.
    assert abs(drawn.mean() - 1.0) < 4 * (0.2 / 2000) ** 0.5
    assert abs(drawn.std() - 0.2**0.5) < 0.05


def test_arguments_go_by_their_names() -> None:
    def model(x: Any, y: Any, scale: float = 2.0) -> None:
        """Takes three."""

    held = {"y": torch.ones(2), "x": torch.zeros(2)}
    assert arguments_of(model, held) == (held["x"], held["y"], 2.0)
    with pytest.raises(ValueError, match="got \\['z'\\]"):
        arguments_of(model, {"z": 1})
