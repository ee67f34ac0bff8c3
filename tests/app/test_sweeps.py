"""`ppl-gen sweep`: cells side by side, what is missing alone, one table and one picture."""

from __future__ import annotations

import csv
import json
import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cells
import pytest
from chaos import Fault, befall
from command import call

from ppl_gen.app.commands import sweep as sweep_command
from ppl_gen.app.run.lock import locked
from ppl_gen.app.sweeps.cell import Cell
from ppl_gen.app.sweeps.finished import Finished
from ppl_gen.app.sweeps.folder import CELLS
from ppl_gen.app.sweeps.numbers import Number, Spread, shown
from ppl_gen.app.sweeps.picture import against
from ppl_gen.app.sweeps.preset import Preset, known_presets, preset_of
from ppl_gen.app.sweeps.sweep import Failed, Results
from ppl_gen.app.sweeps.table import as_csv

TENTH = ("--scale", 0.1, "--jobs", 1)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open(encoding="utf8") as file:
        return list(csv.DictReader(file))


def preset(measure: Callable[..., Any], settings: Sequence[dict[str, Any]]) -> Preset:
    made = [Cell(measure=measure, settings=each) for each in settings]
    return Preset(shows="a test", figure="none", cells=lambda scope: made, draw=against)


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Callable[[Preset], str]:
    """Gives a preset the name "mine"."""

    def name(made: Preset) -> str:
        monkeypatch.setattr(sweep_command, "preset_of", lambda name: made)
        return "mine"

    return name


def test_numbers_over_seeds() -> None:
    spread = Spread.over([Number(1.0, 0.1), Number(3.0, 0.1), Number(5.0, 0.1)])
    assert spread == Spread(3.0, 2.0 / 3**0.5, 2.0, 3)
    assert Spread.over([Number(1.0, 0.1)]) == Spread(1.0, 0.1, None, 1)
    assert shown(-22.5413, 0.0472) == "-22.541 ± 0.047"
    assert shown(123456789.0, 1200.0) == "1.234568e+08 ± 1.2e+03"
    assert shown(0.5) == "0.5"


def test_rows_are_of_cells_that_differ_by_their_seed_alone(tmp_path: Path) -> None:
    found: list[Finished] = []
    for count in (1, 2):
        for seed in (0, 1):
            cell = Cell(measure=cells.drawn, settings={"count": count, "seed": seed})
            numbers = {"mean": Number(count + seed)}
            found.append(Finished(cell=cell, folder=tmp_path, numbers=numbers, seconds=0.0))
    failed = Failed(Cell(measure=cells.drawn, settings={"count": 3, "seed": 4}), "why")
    results = Results([*found, failed])
    assert [row.settings for row in results.rows] == [{"count": 1}, {"count": 2}, {"count": 3}]
    assert results.row(count=2).numbers["mean"].mean == 2.5
    assert results.varied == ["count"]
    assert as_csv(results).splitlines()[-1] == "3,0,,,,seed 4: why"


def test_a_cell_of_other_settings_is_not_mixed_up(tmp_path: Path) -> None:
    one = Cell(measure=cells.drawn, settings={"count": 1, "seed": 0})
    other = Cell(measure=cells.drawn, settings={"count": 1, "seed": 1})
    another = Cell(measure=cells.fussy, settings={"count": 1, "seed": 0})
    assert len({one.name, other.name, another.name}) == 3
    Finished(cell=one, folder=tmp_path, numbers={"a": Number(1.0)}, seconds=0.0).write()
    assert Finished.read(one, tmp_path) is not None
    assert Finished.read(other, tmp_path) is None
    (tmp_path / "cell.json").write_bytes((tmp_path / "cell.json").read_bytes()[:-5])
    assert Finished.read(one, tmp_path) is None


def test_only_what_is_missing_is_run(tmp_path: Path, named: Callable[[Preset], str]) -> None:
    settings = [{"count": 10, "seed": seed} for seed in range(3)]
    name = named(preset(cells.drawn, settings))
    words = ("sweep", name, "--jobs", 1, "--out", tmp_path / "s")
    assert call(*words)[0] == 0
    table = (tmp_path / "s" / "table.csv").read_bytes()
    done = sorted((tmp_path / "s" / CELLS).iterdir())
    (done[1] / "cell.json").unlink()
    code, said = call(*words)
    assert (code, "2 of them finished before" in said) == (0, True)
    assert (tmp_path / "s" / "table.csv").read_bytes() == table
    calls = [len((cell / "calls.txt").read_text().split()) for cell in done]
    assert calls == [1, 2, 1]
    named(preset(cells.drawn, [*settings, {"count": 10, "seed": 3}]))
    assert "3 of them finished before" in call(*words)[1]
    assert rows_of(tmp_path / "s")[0]["seeds"] == "4"


def test_a_failed_cell_is_said_and_tried_again(
    tmp_path: Path, named: Callable[[Preset], str]
) -> None:
    name = named(preset(cells.fussy, [{"number": number, "seed": 0} for number in range(3)]))
    folder = tmp_path / "s"
    words = ("sweep", name, "--jobs", 1, "--out", folder)
    folder.mkdir()
    (folder / "sweep.json").write_text(json.dumps({"sweep": "mine"}))
    (folder / "forbidden").touch()
    code, said = call(*words)
    assert code == 1
    assert "failed: number 1, seed 0: no 1 here" in said
    assert "1 of 3 cells have failed" in said
    assert [row["failed"] for row in rows_of(folder)] == ["", "seed 0: no 1 here", ""]
    assert not (folder / "picture.png").exists()
    (folder / "forbidden").unlink()
    code, said = call(*words)
    assert (code, "2 of them finished before" in said) == (0, True)
    assert [row["number"] for row in rows_of(folder)] == ["0.0", "1.0", "2.0"]
    assert (folder / "picture.png").exists()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_killed_at_any_moment_it_ends_in_the_same_table(tmp_path: Path) -> None:
    words = ["sweep", "bound", "--scale", "0.1", "--jobs", "1", "--out"]
    assert call(*words, tmp_path / "whole")[0] == 0
    table = (tmp_path / "whole" / "table.csv").read_bytes()
    chance = random.Random(0)
    seen = set()
    for number in range(4):
        folder = tmp_path / str(number)
        fault = Fault(
            signal=signal.SIGKILL,
            change=chance.randrange(2, 30),
            is_after=chance.random() < 0.5,
        )
        child = befall([*words, str(folder)], tmp_path / "out.txt", fault)
        child.join(100)
        assert child.exitcode == -signal.SIGKILL
        before = {path: path.read_bytes() for path in folder.glob(f"{CELLS}/*/cell.json")}
        seen.add(len(before))
        code, said = call(*words, folder)
        assert code == 0, said
        assert (folder / "table.csv").read_bytes() == table
        assert (folder / "picture.png").exists()
        for path, held in before.items():  # its seconds among it
            assert path.read_bytes() == held
    assert len(seen) > 1


def test_one_sweep_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path, "sweep"):
        code, said = call("sweep", "two-kl", *TENTH, "--out", tmp_path)
    assert code == 2
    assert f"the sweep {tmp_path} is in use by process" in said


@pytest.mark.parametrize("name", ["two-kl", "bound"])
def test_presets_at_a_tenth(name: str, tmp_path: Path) -> None:
    code, said = call("sweep", name, *TENTH, "--out", tmp_path / "s")
    assert code == 0, said
    held = json.loads((tmp_path / "s" / "table.json").read_text("utf8"))
    assert len(held["rows"]) == len(rows_of(tmp_path / "s"))
    assert (tmp_path / "s" / "picture.png").stat().st_size > 1000
    for row in held["rows"]:
        exact = row["numbers"].get("KL(q ‖ p)") or row["numbers"]["L(θ, q)"]
        drawn = row["numbers"].get("by draws") or row["numbers"]["L by draws"]
        assert abs(drawn["mean"] - exact["mean"]) < 4 * drawn["error"] + 1e-9


def test_all_presets_are_listed() -> None:
    code, said = call("sweep", "--list")
    assert code == 0
    for name in known_presets():
        made = preset_of(name)
        assert len(made.shows) <= 90
        assert made.shows in said


@pytest.mark.slow
@pytest.mark.parametrize("name", known_presets())
def test_every_preset_runs_on_digits(name: str, tmp_path: Path) -> None:
    start = time.perf_counter()
    code, said = call("sweep", name, "--jobs", 1, "--out", tmp_path / "s")
    assert code == 0, said
    print(f"{name}: {time.perf_counter() - start:.0f} s on one core")
    assert (tmp_path / "s" / "picture.png").exists()


@pytest.mark.long
def test_side_by_side_as_one_by_one(tmp_path: Path, named: Callable[[Preset], str]) -> None:
    settings = [{"count": 10, "seed": seed} for seed in range(4)]
    name = named(preset(cells.drawn, settings))
    for jobs in (1, 2):
        folder = tmp_path / str(jobs)
        assert call("sweep", name, "--jobs", jobs, "--out", folder)[0] == 0
    assert (tmp_path / "1" / "table.csv").read_bytes() == (
        tmp_path / "2" / "table.csv"
    ).read_bytes()


@pytest.mark.slow
def test_a_cell_that_kills_its_process_fails_alone(
    tmp_path: Path, named: Callable[[Preset], str]
) -> None:
    name = named(preset(cells.deadly, [{"number": number} for number in range(4)]))
    code, said = call("sweep", name, "--jobs", 2, "--out", tmp_path / "s")
    assert (code, "1 of 4 cells have failed" in said) == (1, True)
    failed = [bool(row["failed"]) for row in rows_of(tmp_path / "s")]
    assert failed == [False, True, False, False]


PLAN = """
[fit]
model = "vae"
epochs = 1
hidden = "8"
[axes]
latent-dim = [1, 2]
seed = [0, 1]
[evaluate]
particles = 5
"""


@pytest.mark.long
def test_a_file_is_runs_of_fit_and_evaluate(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(PLAN)
    words = ("sweep", tmp_path / "mine.toml", "--jobs", 1, "--out", tmp_path / "s")
    code, said = call(*words)
    assert code == 0, said
    rows = rows_of(tmp_path / "s")
    assert [(row["latent_dim"], row["seeds"]) for row in rows] == [("1", "2"), ("2", "2")]
    values = []
    for seed in (0, 1):
        run = tmp_path / f"run-{seed}"
        options = ("--epochs", 1, "--hidden", "8", "--latent-dim", 2, "--seed", seed)
        assert call("fit", "vae", *options, "--out", run)[0] == 0
        assert call("evaluate", run, "--particles", 5)[0] == 0
        found = json.loads((run / "evaluation.json").read_text("utf8"))
        values.append(found["log_evidence"]["value"])
    assert float(rows[1]["log_evidence"]) == pytest.approx(sum(values) / 2, abs=1e-12)
    # A run that was stopped is gone on with.
    cell = next((tmp_path / "s" / CELLS).glob("*latent_dim-2-seed-1*"))
    table = (tmp_path / "s" / "table.csv").read_bytes()
    for name in ("cell.json", "evaluation.json"):
        (cell / name).unlink()
    assert call(*words)[0] == 0
    assert (tmp_path / "s" / "table.csv").read_bytes() == table
    # One that came to nothing is begun anew.
    shutil.rmtree(cell)
    assert call(*words)[0] == 0
    assert (tmp_path / "s" / "table.csv").read_bytes() == table


BAD_PLANS = {
    "[fits]\n": "unknown table [fits]",
    "[fit]\nlatent-dims = 2": "unknown option 'latent-dims' in [fit]; did you mean 'latent-dim'?",
    "[axes]\nlatent-dims = [2]": "unknown option 'latent-dims' in [axes]; did you mean",
    "[evaluate]\nparticle = 5": "unknown option 'particle' in [evaluate]; did you mean 'particles",
    "[axes]\nlatent-dim = [2, 'three']": "expected latent_dim of type int, got 'three'",
    "[axes]\nlatent-dim = 2": "expected latent-dim in [axes] to be a list of values, got 2",
    "[axes]\nlatent-dim = []": "expected latent-dim in [axes] to be a list of values, got []",
    "[axes]\nlatent-dim = [2, 2]": "a value stands twice in latent-dim of [axes]",
    "[fit]\nmodel = 'vae'\n[axes]\nlatent-dim = [2, 0]": "expected --latent-dim above zero, got 0",
    "[fit]\nmodel = 'vae'\nepochs = '3'": "expected epochs of type int | None, got '3'",
    "[fit]\nmodel = 'vea'": "unknown model 'vea'; did you mean 'vae'?",
    "[fit]\nloss = 'hinge'\nmodel = 'vae'": "--loss is an option of",
    "[fit]\nmodel = 'vae'\ndata = 'nowhere'": "no data set and no folder",
    "[fit]\nmodel = 'vae'\npatience = 5": "expected data to stop on for --patience 5",
    "[fit]\nmodel = 'vae'\n[evaluate]\nparticles = 0": "expected --particles of at least 1",
    "[fit]\nmodel = 'vae'\n[evaluate]\nchains = 2": "--chains belongs to --ais",
    "[fit]\nmodel = 'vae'\n[evaluate]\nais = 1": "expected ais of type bool, got 1",
    "[fit]\nmodel = 'gan'\n[evaluate]\ngaps = true": "expected a run of",
    "[axes]\nmodel = ['vae']\n[fit]\nmodel = 'vae'": "expected model in [fit] or in [axes]",
    "[axes]\nseed = [1]": "expected a model in [fit]",
    "fit = 3": "to hold options, got 3",
    "[fit\n": "is no TOML",
}


@pytest.mark.parametrize("text", BAD_PLANS)
def test_a_bad_file_is_refused_before_anything_runs(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    code, said = call("sweep", path, "--out", tmp_path / "s")
    assert (code, BAD_PLANS[text] in said) == (2, True), said
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected a preset or a file, got neither"),
        (("dimension",), "unknown preset 'dimension'; did you mean 'dimensions'?"),
        (("none.toml",), "no file none.toml"),
        (("two-kl", "--data", "digits"), "the preset two-kl takes no data"),
        (("two-kl", "--scale", 0), "expected a positive, finite --scale"),
        (("two-kl", "--jobs", 0), "expected --jobs of at least 1"),
        (("dimensions", "--data", "nowhere"), "no data set and no folder"),
        (("two-kl", "--out", __file__), "is a file; say another place with --out"),
        (("two-kl", "--out", Path(__file__).parent), "is not the folder of a sweep"),
    ],
)
def test_bad_options_are_refused(words: tuple[Any, ...], message: str) -> None:
    code, said = call("sweep", *words)
    assert (code, message in said) == (2, True), said


def test_a_folder_is_of_one_sweep(tmp_path: Path) -> None:
    assert call("sweep", "two-kl", *TENTH, "--out", tmp_path / "s")[0] == 0
    code, said = call("sweep", "bound", *TENTH, "--out", tmp_path / "s")
    assert (code, "holds the sweep two-kl, got bound" in said) == (2, True)
