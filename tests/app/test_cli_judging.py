"""`ppl-gen evaluate` with all that it can be asked for, and `ppl-gen fit` with other objectives."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from command import QUICK, call

SMALL = ("--limit", 30, "--particles", 200)
ANNEALED = ("--subset", 8, "--temperatures", 30, "--chains", 8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE, a CVAE and a collapsed VAE of digits."""
    folder = tmp_path_factory.mktemp("runs")
    for name, words in {
        "vae": ("vae",),
        "cvae": ("cvae",),
        "collapsed": ("vae", "--beta", 20, "--epochs", 10),
    }.items():
        code, said = call("fit", words[0], "--out", folder / name, *QUICK, *words[1:])
        assert code == 0, said
    return folder


def metrics(run: Path) -> list[dict[str, Any]]:
    """The metrics of a run, epoch by epoch."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["metrics"] for line in lines]


class TestEvaluate:
    @pytest.mark.long
    @pytest.mark.parametrize("name", ["vae", pytest.param("cvae", marks=pytest.mark.slow)])
    def test_everything_at_once(self, runs: Path, name: str) -> None:
        code, said = call(
            "evaluate", runs / name, *SMALL, *ANNEALED, "--ais", "--bdmc", "--gaps", "--collapse"
        )
        assert code == 0, said
        found = json.loads((runs / name / "evaluation.json").read_text())
        assert found["log_evidence"]["data"] == 30
        assert found["ais"]["data"] == found["bdmc"]["data"] == found["gaps"]["data"] == 8
        error = math.hypot(
            found["ais"]["standard_error"], found["ais"]["importance_weighted"]["standard_error"]
        )
        difference = found["ais"]["value"] - found["ais"]["importance_weighted"]["value"]
        assert abs(difference) < 4 * error
        gap, upper, lower = (found["bdmc"][name]["value"] for name in ("gap", "upper", "lower"))
        assert gap == pytest.approx(upper - lower)
        inference, approximation, amortisation = (
            found["gaps"][part]["value"] for part in ("inference", "approximation", "amortisation")
        )
        assert inference == pytest.approx(approximation + amortisation)
        assert len(found["collapse"]["kl"]) == found["collapse"]["latents"] == 2
        for row in (
            "AIS, first 8",
            "BDMC gap, 8 drawn",
            "approximation gap",
            "amortisation gap",
            "mutual information",
        ):
            assert row in said
        for picture in ("evidence.png", "sandwich.png", "gaps.png", "collapse.png"):
            assert (runs / name / picture).stat().st_size > 5000
            assert picture in said

    @pytest.mark.long
    def test_nothing_more_than_was_asked_for(self, runs: Path) -> None:
        code, said = call("evaluate", runs / "collapsed", *SMALL)
        assert code == 0, said
        found = json.loads((runs / "collapsed" / "evaluation.json").read_text())
        assert not {"ais", "bdmc", "gaps", "collapse"} & found.keys()
        assert "AIS" not in said.replace("--ais", "")

    def test_a_collapsed_model_is_called_so(self, runs: Path) -> None:
        code, said = call("evaluate", runs / "collapsed", *SMALL, "--collapse")
        assert code == 0, said
        found = json.loads((runs / "collapsed" / "evaluation.json").read_text())["collapse"]
        assert found["collapsed"]
        assert found["dead"] == 2
        assert "collapsed: 0 of 2 latents are active" in said


class TestFit:
    @pytest.mark.parametrize("objective", ["elbo", "analytic-elbo", "iwae", "dreg"])
    def test_objectives(self, tmp_path: Path, objective: str) -> None:
        run = tmp_path / "run"
        code, said = call(
            "fit", "vae", "--objective", objective, "--particles", 3, "--out", run, *QUICK
        )
        assert code == 0, said
        bound = "IWAE bound" if objective in ("iwae", "dreg") else "ELBO"
        assert bound in said
        assert json.loads((run / "config.json").read_text())["objective"] == objective
        assert call("evaluate", run, *SMALL)[0] == 0

    def test_more_particles_are_a_tighter_bound(self, tmp_path: Path) -> None:
        bounds = []
        for particles in (1, 20):
            run = tmp_path / str(particles)
            call(
                "fit", "vae", "--objective", "iwae", "--particles", particles, "--out", run, *QUICK
            )
            bounds.append(metrics(run)[-1]["iwae"])
        assert bounds[1] > bounds[0]

    def test_annealing_and_free_bits_go_on_where_they_stopped(self, tmp_path: Path) -> None:
        for name, words in {"whole": ["--epochs", 4], "stopped": ["--epochs", 2]}.items():
            options = ["--anneal", 4, "--beta", 2.0, "--free-bits", 0.1]
            code, said = call("fit", "vae", "--out", tmp_path / name, *QUICK, *options, *words)
            assert code == 0, said
            assert "objective" in said
        code, said = call("fit", "vae", "--out", tmp_path / "stopped", "--resume", "--epochs", 4)
        assert code == 0, said
        assert metrics(tmp_path / "whole") == metrics(tmp_path / "stopped")

    def test_a_run_from_before_these_options_is_still_one(self, runs: Path) -> None:
        path = runs / "vae" / "config.json"
        config = json.loads(path.read_text())
        old = dict(config)
        for name in ("objective", "particles", "beta", "anneal", "free_bits", "checksum"):
            del old[name]
        path.write_text(json.dumps(old))
        try:
            assert call("evaluate", runs / "vae", *SMALL)[0] == 0
        finally:
            path.write_text(json.dumps(config))
