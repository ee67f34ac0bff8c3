"""evaluation.json: quantities are added, nothing is lost, and files of former versions are read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from command import QUICK, call

from ppl_gen.app.run.evaluation import FILE, Evaluation

QUICKLY = ("--particles", 5, "--limit", 20)


def entry(epoch: int, weights: str = "a", **options: Any) -> dict[str, Any]:
    return {"value": 1.0, "epoch": epoch, "weights": weights, "current": True, "options": options}


@pytest.mark.long
def test_a_second_evaluation_keeps_what_the_first_has_found(tmp_path: Path) -> None:
    """Other quantities stay as they are; a score with other options moves into `earlier`."""
    run = tmp_path / "run"
    call("fit", "vae", "--out", run, *QUICK)
    code, said = call("evaluate", run, *QUICKLY, "--collapse")
    assert code == 0, said
    first = json.loads((run / FILE).read_text())
    assert {"log_evidence", "elbo", "collapse"} == first.keys()
    assert first["log_evidence"]["options"] == {"seed": 0, "limit": 20, "particles": 5}
    assert first["log_evidence"]["time"].startswith("20")
    assert "kept there" not in said
    code, said = call("evaluate", run, "--particles", 6, "--limit", 20, "--moments")
    assert code == 0, said
    second = json.loads((run / FILE).read_text())
    assert second["collapse"] == first["collapse"]
    assert second["log_evidence"]["options"]["particles"] == 6
    assert second["log_evidence"]["earlier"] == [first["log_evidence"]]
    assert "kept there from before: collapse (of epoch 2)" in said


def test_the_same_again_replaces_and_other_weights_are_kept(tmp_path: Path) -> None:
    found = Evaluation(tmp_path, {})
    found.add("ais", entry(1, chains=4))
    found.add("ais", entry(1, chains=4))
    assert "earlier" not in found.entries["ais"]
    found.add("ais", entry(1, chains=8))
    found.add("ais", entry(2, weights="b", chains=8))
    assert [old["epoch"] for old in found.entries["ais"]["earlier"]] == [1, 1]
    assert found.mark(2, "b")
    assert [old["current"] for old in found.entries["ais"]["earlier"]] == [False, False]
    assert not found.mark(2, "b")
    assert found.mark(2, "c")  # as many epochs, another fit
    assert not found.entries["ais"]["current"]


def test_a_file_of_a_former_version_is_read(tmp_path: Path) -> None:
    former = {
        **{"data": 30, "seed": 0, "epoch": 7, "unit": "nats per datum"},
        **{"log_evidence": -22.5, "standard_error": 0.01, "elbo": -23.0},
        **{"elbo_standard_error": 0.02, "particles": 1000, "elbo_particles": 100},
        "ais": {"log_evidence": -22.4, "standard_error": 0.1, "data": 8},
        "codes_read_as": [[1, 2], [3, 4]],
    }
    (tmp_path / FILE).write_text(json.dumps(former))
    entries = Evaluation.read(tmp_path).entries
    assert list(entries) == ["log_evidence", "elbo", "ais", "codes_read_as"]
    assert {found["epoch"] for found in entries.values()} == {7}
    assert (entries["log_evidence"]["value"], entries["elbo"]["value"]) == (-22.5, -23.0)
    assert entries["elbo"]["standard_error"] == 0.02
    assert entries["log_evidence"]["options"] == {"seed": 0, "particles": 1000}
    assert (entries["ais"]["value"], entries["ais"]["data"]) == (-22.4, 8)
    assert entries["codes_read_as"]["counts"] == [[1, 2], [3, 4]]


def test_a_damaged_file_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"log_evidence": ')
    with pytest.raises(ValueError, match=r"is damaged.*move it away"):
        Evaluation.read(tmp_path)


@pytest.mark.parametrize(
    "written",
    [
        {"ais": 3},
        {"ais": [1]},
        {"ais": entry(1) | {"earlier": 3}},
        {"ais": entry(1) | {"earlier": [None]}},
        {"ais": entry(1) | {"pictures": "a.png"}},
        {"ais": entry(1) | {"pictures": ["../a.png"]}},
        {"ais": entry(1) | {"earlier": [entry(1) | {"pictures": ["/a.png"]}]}},
    ],
)
def test_what_someone_else_wrote_is_refused(tmp_path: Path, written: object) -> None:
    """Pictures of former weights are renamed: none outside of the run's folder."""
    (tmp_path / FILE).write_text(json.dumps(written))
    with pytest.raises(ValueError, match=r"not what `ppl-gen evaluate` writes .*move it away"):
        Evaluation.read(tmp_path)


def test_a_folder_or_a_pipe_is_refused(tmp_path: Path) -> None:
    for make in (os.mkdir, os.mkfifo):
        path = tmp_path / make.__name__ / FILE
        path.parent.mkdir()
        make(path)
        with pytest.raises(ValueError, match="move it away"):
            Evaluation.read(path.parent)
