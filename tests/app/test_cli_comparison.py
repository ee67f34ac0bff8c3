"""`ppl-gen evaluate RUN_1 RUN_2 ...`: explicit and implicit runs of one data set in one table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from command import FEW, call, snapshot

from ppl_gen.app.run.opened import Fitted

FEATURES = ("--features", "pca")
CHEAP = ("--subset", 6, "--temperatures", 30, "--chains", 4)
MODELS: dict[str, tuple[object, ...]] = {
    "vae": ("vae",),
    "grey": ("vae", "--likelihood", "gaussian"),
    "cvae": ("cvae",),
    "gan": ("gan",),
    "ring": ("gan", "--data", "ring"),
    "cycle-gan": ("cycle-gan", "--data-b", "digits:inverted", "--width", 4),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, words in MODELS.items():
        code, said = call("fit", *words, "--out", folder / name, *FEW)
        assert code == 0, said
    return folder


@pytest.fixture(scope="module")
def compared(runs: Path) -> tuple[dict[str, Any], str]:
    """Four runs of digits, binarised and grey, with labels and without."""
    folders = [runs / name for name in ("vae", "grey", "cvae", "gan")]
    code, said = call("evaluate", *folders, *FEATURES, *CHEAP)
    assert code == 0, said
    return json.loads((runs / "comparison" / "comparison.json").read_text()), said


@pytest.mark.slow
def test_a_table_of_all_runs(runs: Path, compared: tuple[dict[str, Any], str]) -> None:
    result, said = compared
    assert list(result["runs"]) == ["vae", "grey", "cvae", "gan"]
    for columns in result["runs"].values():
        assert list(columns) == [
            *("given", "fitted_to", "epoch", "log_evidence", "measure", "parameters"),
            *(
                "MMD²",
                "polynomial MMD²",
                "Fréchet",
                "precision",
                "recall",
                "density",
                "coverage",
                "C2ST",
                "nats",
            ),
        ]
        assert columns["nats"]["standard_error"] > 0
    assert [columns["given"] for columns in result["runs"].values()] == [None, None, "label", None]
    assert said.count("given the label") == 1
    assert "cvae, given the label" in said
    assert "not all runs are given the same" in said
    assert "under noise of 0.1, by AIS from the prior, 4 chains of 30 temperatures" in said
    assert (runs / "comparison" / "comparison.png").stat().st_size > 5000


@pytest.mark.slow
def test_nats_of_other_data_stand_in_rows_of_their_own(
    compared: tuple[dict[str, Any], str],
) -> None:
    """The VAE and the CVAE were fitted to binary pixels, the others to grey ones."""
    result, said = compared
    binary, grey = "binary pixels (dynamic)", "data as they are"
    assert [run["fitted_to"] for run in result["runs"].values()] == [binary, grey, binary, grey]
    rows = {}
    for kind in (binary, grey):
        (found,) = re.findall(rf"│ nats, {re.escape(kind)} (│.*?│) [│└]", said)
        rows[kind] = [cell.strip() for cell in found.strip("│").split("│")]
    shown = [[cell != "–" for cell in row] for row in rows.values()]
    assert shown == [[True, False, True, False], [False, True, False, True]]
    assert "not to be held against each other" in said


@pytest.mark.long
def test_parameters_are_those_of_a_draw(runs: Path, compared: tuple[dict[str, Any], str]) -> None:
    """All of a GAN's; of a VAE's the decoder's, not those of the encoder or of the likelihood's
    noise.
    """
    for name in ("gan", "vae", "grey"):
        reached = Fitted.open(runs / name, "cpu").program
        if name != "gan":
            reached = reached.decoder
        expected = sum(parameter.numel() for parameter in reached.parameters())
        assert compared[0]["runs"][name]["parameters"] == expected


@pytest.mark.long
def test_nats_are_those_of_the_run_by_itself(
    runs: Path, compared: tuple[dict[str, Any], str]
) -> None:
    """The same noise, data and chains: a column of the table and `evaluate RUN --epsilon` are one
    number.
    """
    for name in ("vae", "gan"):
        few = ("--particles", 2) if name == "vae" else ()
        code, said = call("evaluate", runs / name, "--epsilon", 0.1, *few, *CHEAP)
        assert code == 0, said
        alone = json.loads((runs / name / "evaluation.json").read_text())["noise"]
        assert alone["value"] == pytest.approx(compared[0]["runs"][name]["nats"]["value"], rel=1e-5)


@pytest.mark.long
def test_nothing_is_written_over(
    runs: Path, compared: tuple[dict[str, Any], str], tmp_path: Path
) -> None:
    words = ("evaluate", runs / "gan", runs / "grey", *FEATURES, *CHEAP)
    before = snapshot(runs)
    code, said = call(*words)
    assert code == 2
    assert "has results (comparison.json, comparison.png); say --overwrite" in said
    assert snapshot(runs) == before
    code, said = call(*words, "--out", tmp_path / "there")
    assert code == 0
    assert "not all runs" not in said
    assert "│ nats │" in said
    assert call(*words, "--out", tmp_path / "there", "--overwrite")[0] == 0
    result = json.loads((tmp_path / "there" / "comparison.json").read_text())
    assert list(result["runs"]) == ["gan", "grey"]


BAD = {
    "other data": (("gan", "ring"), (), "expected runs of the same data, got digits"),
    "two domains": (
        ("gan", "cycle-gan"),
        (),
        "expected a run that draws data for a comparison, got a cycle-gan",
    ),
    "one run twice": (("gan", "gan"), (), "expected different runs"),
    "too few data": (
        ("gan", "grey"),
        ("--limit", 9),
        "expected at least 10 test data to compare runs on, got 9",
    ),
    "no noise": (("gan", "grey"), ("--epsilon", -1), "expected --epsilon above zero"),
    "options of one run": (
        ("gan", "grey"),
        ("--moments", "--two-sample", "--bdmc", "--gaps", "--collapse", "--ais"),
        "--ais, --bdmc, --gaps, --collapse, --moments, --two-sample: for one run alone, got 2 to "
        "compare",
    ),
    "numbers of one run": (
        ("gan", "grey"),
        ("--particles", 1000, "--permutations", 500),
        "--particles, --permutations: for one run alone, got 2 to compare; leave it out",
    ),
    "unknown features": (("gan", "grey"), ("--features", "pac"), "did you mean 'pca'?"),
    "a place for one": (
        ("gan",),
        (),
        "--out: for a comparison of several runs, got one run; leave it out",
    ),
    "overwriting one": (
        ("gan",),
        ("--overwrite",),
        "--out, --overwrite: for a comparison of several runs",
    ),
    "a file is in the way": (("gan", "grey"), ("--out", "{runs}/gan/config.json"), "is a file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_said_and_nothing_is_touched(name: str, runs: Path, tmp_path: Path) -> None:
    names, words, said = BAD[name]
    before = snapshot(runs)
    options = [str(w).format(runs=runs) for w in words]
    out = [] if "--out" in options else ["--out", tmp_path / "out"]
    folders = [runs / n for n in names]
    code, printed = call("evaluate", *folders, *options, *out)
    assert (code, printed.startswith("error: ")) == (2, True), printed
    assert said in printed
    assert snapshot(runs) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("again", ["{run}", "{run}/.", "{run}/../vae", "{link}"])
def test_a_run_that_is_given_twice_is_refused(runs: Path, tmp_path: Path, again: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(runs / "vae")
    second = again.format(run=runs / "vae", link=link)
    code, said = call("evaluate", runs / "vae", second, "--out", tmp_path / "out", *CHEAP)
    assert (code, "expected different runs, got" in said) == (2, True), said
    assert "which are one; name it once" in said
    assert not (tmp_path / "out").exists()
