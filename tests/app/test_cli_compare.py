"""`ppl-gen compare`: table, verdict, pictures, netCDF; bad input is refused before work starts."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest
import torch
from command import call
from PIL import Image
from typer.testing import CliRunner

from ppl_gen.app.cli import app
from ppl_gen.app.commands.compare import TOYS
from ppl_gen.app.run import comparison
from ppl_gen.app.run.comparison import PRODUCTS

FAST = ["--draws", "150", "--warmup", "150", "--steps", "600", "--engine", "fx"]


@pytest.mark.long
def test_a_toy_gives_table_verdict_pictures_and_draws(tmp_path: Path) -> None:
    import arviz

    code, said = call("compare", "ppca", "--out", tmp_path, *FAST)
    assert code == 0, said
    assert "hmc, draws 300/300: acceptance 0." in said
    assert "8 coordinates: " in said
    assert "The guide is too sure of 8 of 8 coordinates" in said
    assert {p.name for p in tmp_path.iterdir()} == set(PRODUCTS)
    assert Image.open(tmp_path / "forest.png").size > (300, 300)
    table = pandas.read_csv(tmp_path / "comparison.csv", index_col="coordinate")
    assert table.shape[0] == 8
    assert (table["sd ratio"] < 0.6).all()
    tree = arviz.from_netcdf(tmp_path / "posterior.nc")
    assert tree["posterior"]["z"].shape == (64, 150, 4, 2)
    assert tree["guide"]["z"].shape[-2:] == (4, 2)


@pytest.mark.slow
def test_a_full_covariance_guide_is_good_enough(tmp_path: Path) -> None:
    code, said = call(
        "compare",
        "linear-regression",
        "--guide",
        "full-covariance",
        "--out",
        tmp_path,
        *FAST,
        "--steps",
        1500,
    )
    assert code == 0, said
    assert "3 coordinates: good" in said


FEW = ("--steps", 300, "--draws", 100, "--warmup", 100)


@pytest.mark.slow
def test_divergences_of_the_centred_funnel_are_reported(tmp_path: Path) -> None:
    code, said = call("compare", "funnel-centred", "--out", tmp_path, *FEW)
    assert code == 0, said
    assert "divergences" in said.split("10 coordinates: ")[1].split(" - ")[0]


@pytest.mark.long
def test_nuts_is_a_sampler_too(tmp_path: Path) -> None:
    words = ["--sampler", "nuts", "--chains", 2, "--draws", 100, "--warmup", 100, "--steps", 100]
    code, said = call("compare", "sign-flip", "--out", tmp_path, *words)
    assert code == 0, said
    assert "2 chains of 100 draws" in said


@pytest.mark.long
def test_a_run_is_compared_datum_by_datum(tmp_path: Path) -> None:
    run = tmp_path / "run"
    call("fit", "vae", "--out", run, "--epochs", 2, "--latent-dim", 2, "--device", "cpu")
    code, said = call(
        "compare", run, "--limit", 3, "--chains", 4, "--draws", 60, "--warmup", 60, "--engine", "fx"
    )
    assert code == 0, said
    assert "6 coordinates: " in said
    assert "per datum, mean of 3" in said
    assert "vae on digits, epoch 2: mean (sd)" in said
    assert (run / "compare" / "posterior.nc").is_file()
    found = comparison.read(run)
    assert found is not None
    assert (found["epoch"], found["options"]["chains"]) == (2, 4)
    assert found["findings"]
    code, said = call("report", run, "--out", tmp_path / "report.html")
    assert code == 0, said
    page = (tmp_path / "report.html").read_text(encoding="utf8")
    assert f"ppl-gen compare {run} --chains 4 --draws 60 --warmup 60 --limit 3" in page
    code, said = call("compare", run, "--limit", 3)
    assert (code, "has results" in said) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOYS)
def test_every_toy_is_compared(name: str, tmp_path: Path) -> None:
    code, said = call("compare", name, "--out", tmp_path)
    assert code == 0, said
    expected = {
        "ppca": "under-dispersed",
        "sign-flip": "mode-seeking",
        "funnel-centred": "divergences",
    }
    assert expected.get(name, "coordinates: ") in said


BAD = {
    "unknown": (["compare", "ppac"], "unknown posterior or run 'ppac'; did you mean 'ppca'?"),
    "sampler": (
        ["compare", "ppca", "--sampler", "hcm"],
        "unknown sampler 'hcm'; did you mean 'hmc'?",
    ),
    "guide": (["compare", "ppca", "--guide", "meanfield"], "did you mean 'mean-field'?"),
    "draws": (["compare", "ppca", "--draws", "0"], "expected draws of at least 1, got 0"),
    "chains": (["compare", "ppca", "--chains", "0"], "expected chains of at least 1, got 0"),
    "engine": (["compare", "ppca", "--engine", "jit"], "expected an engine of 'auto'"),
    "fit engine": (["fit", "vae", "--engine", "jit"], "expected an engine of 'auto'"),
    "one draw": (["compare", "ppca", "--draws", "1"], "expected draws of at least 2, got 1"),
    "limit on a toy": (
        ["compare", "ppca", "--limit", "3", "--device", "cpu"],
        "--limit, --device: for a run, got a toy posterior; leave it out",
    ),
    "steps on a run": (
        ["compare", "{there}/run", "--steps", "9"],
        "--steps: for a toy posterior, got a run, which has a fitted guide of its own",
    ),
    "guide on a run": (
        ["compare", "{there}/run", "--guide", "mean-field"],
        "--guide: for a toy posterior, got a run",
    ),
    "engine of nuts": (
        ["compare", "ppca", "--sampler", "nuts", "--engine", "fx"],
        "--engine: for the sampler hmc, got nuts, which is Pyro's; leave it out",
    ),
    "results there": (
        ["compare", "ppca", "--out", "{there}"],
        "say --overwrite, or another place with --out",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_before_work_starts(name: str, tmp_path: Path) -> None:
    (tmp_path / "posterior.nc").write_text("kept")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    words, said = BAD[name]
    result = CliRunner().invoke(app, [w.format(there=tmp_path) for w in words])
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert (tmp_path / "posterior.nc").read_text() == "kept"


@pytest.mark.long
def test_the_engine_is_decided_once_and_kept(tmp_path: Path) -> None:
    """From 100 steps on a run is traced; what was decided goes on when it is resumed."""
    from ppl_gen.app.run.folder import Run

    words = ["--out", tmp_path / "run", "--latent-dim", 2, "--device", "cpu", "--batch-size", 50]
    code, said = call("fit", "vae", "--epochs", 4, *words)
    assert (code, "engine fx" in said) == (0, True)
    code, said = call("fit", "vae", "--resume", "--epochs", 5, *words)
    assert (code, "engine fx" in said) == (0, True)
    assert Run.open(tmp_path / "run").config.engine == "fx"
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["epoch"] == 5
