"""`make bench`: one table, one JSON, one picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

TOP = Path(__file__).parents[1]
BENCH = TOP / "tests" / "benchmarks" / "bench.py"


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs the command from the top of the checkout."""
    return subprocess.run(
        [sys.executable, str(BENCH), *words],
        cwd=TOP,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_rows_and_a_sweep_end_in_a_table_a_json_and_a_picture(tmp_path: Path) -> None:
    asked = ("SVI step, small", "GAN step, digits, R1", "sweep, particles")
    done = bench("--scale", "tiny", "--rows", *asked, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench.json").read_text(encoding="utf8"))

    assert found["about"]["threads"] == 1
    assert found["about"]["matmul_rate"] > 0
    of_row = {(row["row"], row["contestant"]): row for row in found["rows"]}
    assert {row for row, _ in of_row} == set(asked[:2])
    for row in asked[:2]:
        assert of_row[row, "PyTorch by hand"]["seconds"] > 0
        assert of_row[row, "PyTorch by hand"]["rate"] > 0
    eager = of_row["SVI step, small", "ppl-gen, eager"]
    assert eager["seconds"] > 0
    assert eager["first"] > 0
    assert eager["unit"] == "step"
    assert of_row["SVI step, small", "ppl-gen, fx"]["ratio"] == 1

    (curve, *_) = found["sweeps"]
    assert curve["sizes"] == [100, 400]
    assert len(curve["seconds"]) == 2
    assert curve["exponent"] == pytest.approx(curve["exponent"])  # is a number
    assert "exponent" in done.stdout

    assert matplotlib.image.imread(tmp_path / "bench.png").shape[0] > 100


@pytest.mark.slow
def test_a_row_that_nobody_knows_is_told_with_those_that_are() -> None:
    done = bench("--rows", "speed of light")
    assert done.returncode == 2
    assert "expected rows of SVI step, small, " in done.stderr
    assert "got 'speed of light'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_who_fails_or_is_missing_is_a_line_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH.parent))
    from speed.contest import Contest, Job, hold, installed

    def missing() -> Job:
        installed("a_package_that_nobody_has")
        raise AssertionError

    def failing() -> Job:
        raise RuntimeError("its versions clash")

    contest = Contest(
        what="nothing",
        unit="call",
        ways={
            "one": lambda: Job(run=lambda: sum(range(1000)), note=lambda total: f"{total}"),
            "two": lambda: Job(run=lambda: sum(range(100_000)), units=lambda _: 0.5),
            "missing": missing,
            "failing": failing,
        },
        rounds=3,
    )
    scores = hold(contest)
    assert list(scores) == ["one", "two", "missing", "failing"]
    assert scores["one"].note == "499500"
    assert scores["one"].ratio == 1
    assert scores["one"].rate is None
    assert scores["missing"].note == "not installed"
    assert scores["missing"].seconds is None
    assert scores["failing"].note == "failed: its versions clash"


def test_flops_are_those_of_products_forwards_and_backwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCH.parent))
    import torch
    from speed.machine import flops_of, peak_of

    x, weight = torch.ones(3, 5), torch.ones(5, 7, requires_grad=True)
    flops, _ = flops_of(lambda: (x @ weight).sum().backward())
    assert flops == 2 * (2 * 3 * 5 * 7)

    held = []
    peak = peak_of(lambda: held.append(torch.ones(2**23)))
    if peak is not None:
        assert 2**25 <= peak < 2**26
