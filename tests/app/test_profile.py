"""`ppl-gen fit --profile`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command import call, held, same
from rich.console import Console

from ppl_gen.app.commands.profile import LEAST_STEPS, Profile, expect_one_process
from ppl_gen.ranks import ALONE, Ranks

PARTS = (
    "batches",
    "loss and gradient",
    "update of the optimiser",
    "Python around them",
    "between epochs",
)
FIT = ("fit", "vae", "--latent-dim", 2, "--device", "cpu", "--batch-size", 50, "--epochs", 4)


@pytest.mark.long
@pytest.mark.parametrize("engine", ["eager", "fx"])
def test_five_lines_and_a_trace_and_the_same_run(tmp_path: Path, engine: str) -> None:
    asked = (*FIT, "--engine", engine)
    code, said = call(*asked, "--out", tmp_path / "profiled", "--profile")
    assert code == 0, said
    found = [re.search(rf"{part} +([\d.]+) % +(\d+) µs a step", said) for part in PARTS]
    assert all(found), said
    shares = [float(match[1]) for match in found if match]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert shares[1] > 0
    assert shares[2] > 0
    assert shares[4] > 0

    trace = json.loads((tmp_path / "profiled" / "trace.json").read_text(encoding="utf8"))
    steps = [event for event in trace["traceEvents"] if event.get("name") == "ppl-gen: step"]
    assert 0 < len(steps) < 100
    assert any("aten::addmm" in event.get("name", "") for event in trace["traceEvents"])

    assert call(*asked, "--out", tmp_path / "plain")[0] == 0
    for name in ("program", "optimizers", "rng"):
        assert same(held(tmp_path / "profiled")[name], held(tmp_path / "plain")[name])


@pytest.mark.long
def test_a_fit_that_goes_on_is_profiled_if_enough_is_left(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call(*FIT, "--out", run)[0] == 0
    again = ("fit", "vae", "--device", "cpu", "--out", run, "--resume", "--profile")
    code, said = call(*again, "--epochs", 5)
    assert code == 2
    assert f"expected at least {LEAST_STEPS} steps with --profile" in said
    assert "got 30; take more --epochs" in said
    code, said = call(*again, "--epochs", 8)
    assert code == 0, said
    assert (run / "trace.json").exists()


def test_several_processes_are_refused() -> None:
    expect_one_process(ALONE)
    with pytest.raises(ValueError, match="one process with --profile, got 2; leave torchrun out"):
        expect_one_process(Ranks(0, 2))


def test_a_fit_that_stops_early_says_so(tmp_path: Path) -> None:
    """As a rule that sees validation data may end it."""
    console = Console(record=True, width=200)
    profile = Profile([(1,), (2,)], 2)
    assert list(profile) == [(1,), (2,)]
    assert len(profile) == 2
    profile.finish(tmp_path, console)
    assert "the fit was over after 2 steps: no profile" in console.export_text()
    assert list(tmp_path.iterdir()) == []
