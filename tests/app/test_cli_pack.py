"""`ppl-gen pack` and `unpack`: a run as one file, and back; nothing else is laid down."""

from __future__ import annotations

import io
import json
import shutil
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import call, snapshot

from ppl_gen.app.commands import pack
from ppl_gen.app.packing import archive
from ppl_gen.app.packing.archive import Archive
from ppl_gen.sealed import open_seal, seal

SMALL = ("--latent-dim", 2, "--hidden", 8, "--epochs", 1, "--batch-size", 20, "--device", "cpu")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, without_pictures: None) -> Path:
    """A run that was fitted and judged, with its data beside."""
    folder = tmp_path_factory.mktemp("fitted")
    x = np.random.RandomState(0).rand(60, 4, 4).astype("f4")
    np.save(folder / "x.npy", x)
    code, said = call("fit", "vae", "--data", folder / "x.npy", *SMALL, "--out", folder / "run")
    assert code == 0, said
    code, said = call("evaluate", folder / "run", "--particles", 5, "--collapse")
    assert code == 0, said
    return folder / "run"


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "run"))


@pytest.fixture(scope="module")
def packed(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    shutil.copytree(fitted, folder / "run")
    code, said = call("pack", folder / "run", folder / "run.zip")
    assert code == 0, said
    return folder / "run.zip"


def test_what_was_packed_comes_back_byte_by_byte(run: Path, tmp_path: Path) -> None:
    (run / "thesis.tex").write_text("years of work")
    (run / "compare").mkdir()
    (run / "compare" / "comparison.csv").write_text("coordinate\n")
    code, said = call("pack", run, tmp_path / "run.zip")
    assert code == 0, said
    assert "left out, since no command has written it: thesis.tex" in said
    (run / "thesis.tex").unlink()
    again = tmp_path / "again"
    code, said = call("unpack", tmp_path / "run.zip", "--out", again)
    assert code == 0, said
    assert "all checksums right" in said
    assert "other versions" not in said
    lie = {path.removeprefix(str(run)): held for path, held in snapshot(run).items()}
    assert {path.removeprefix(str(again)): held for path, held in snapshot(again).items()} == lie
    for words in (
        ("evaluate", again, "--particles", 5),
        ("sample", again, "--count", 10),
        ("report", again, "--out", tmp_path / "report.html"),
    ):
        code, said = call(*words)
        assert code == 0, said


def test_the_same_run_makes_the_same_bytes(run: Path, tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        assert call("pack", run, tmp_path / name)[0] == 0
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert zipfile.ZipFile(tmp_path / "one.zip").testzip() is None


def test_the_manifest_says_versions_and_data(packed: Path) -> None:
    held = Archive.read(packed)
    assert held.notes["versions"].keys() == {"Python", "ppl-gen", "torch", "pyro-ppl"}
    assert held.notes["data"].keys() == {"training data", "test data"}
    assert held.notes["model"] == "vae"
    assert {"config.json", "checkpoint.pt", "evaluation.json", "README.md"} <= held.files.keys()


def test_the_card_keeps_what_people_have_written(run: Path, tmp_path: Path) -> None:
    assert call("pack", run, tmp_path / "run.zip")[0] == 0
    card = run / "README.md"
    first = card.read_text(encoding="utf8")
    held = json.loads((run / "evaluation.json").read_text())
    assert "log p(x) of a test datum is" in first
    assert "ppl-gen evaluate run --particles 5" in first
    assert held["log_evidence"]["weights"]
    assert str(run) not in first
    written = "Not for medicine.\n\n" + first.replace("write it here", "| for teaching <b>")
    written = written.replace("# vae on x.npy", "# something else")
    card.write_text(written, encoding="utf8")
    assert call("pack", run, tmp_path / "run.zip", "--overwrite")[0] == 0
    again = card.read_text(encoding="utf8")
    assert again.startswith("Not for medicine.\n\n<!-- ppl-gen: begin")
    assert "| for teaching <b>" in again
    assert "# vae on x.npy" in again
    assert "something else" not in again
    card.write_text("# Mine alone\n", encoding="utf8")
    assert call("pack", run, tmp_path / "run.zip", "--overwrite")[0] == 0
    assert card.read_text(encoding="utf8").endswith("-->\n\n# Mine alone\n")


def test_another_run_is_replaced_only_if_asked(packed: Path, run: Path, tmp_path: Path) -> None:
    (run / "samples.png").write_text("of the other run")
    before = snapshot(run)
    code, said = call("unpack", packed, "--out", run)
    assert code == 2
    assert "exists; say --overwrite, or say another --out" in said
    assert snapshot(run) == before
    code, said = call("unpack", packed, "--out", run, "--overwrite")
    assert code == 0, said
    assert not (run / "samples.png").exists()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("years of work")
    code, said = call("unpack", packed, "--out", tmp_path / "foreign", "--overwrite")
    assert code == 2
    assert "not the folder of a run" in said


def test_other_versions_are_said(run: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pack, "_version_of", lambda name: "0.0")
        assert call("pack", run, tmp_path / "run.zip")[0] == 0
    code, said = call("unpack", tmp_path / "run.zip", "--out", tmp_path / "again")
    assert code == 0
    assert "other versions than it was packed with: ppl-gen 0.0 there" in said


@pytest.mark.parametrize("share", [k / 23 for k in range(23)])
def test_a_damaged_file_is_refused(packed: Path, tmp_path: Path, share: float) -> None:
    """One byte is another, wherever it is: in files, manifest, directory or comment."""
    content = bytearray(packed.read_bytes())
    place = int(share * (len(content) - 1))
    content[place] ^= 0x10
    (tmp_path / "run.zip").write_bytes(content)
    refuse(tmp_path, "run.zip")


@pytest.mark.parametrize("end", [-400, -100, -1])
def test_a_damaged_end_is_refused(packed: Path, tmp_path: Path, end: int) -> None:
    content = bytearray(packed.read_bytes())
    content[end] ^= 0x10
    (tmp_path / "run.zip").write_bytes(content)
    refuse(tmp_path, "run.zip")
    (tmp_path / "run.zip").write_bytes(packed.read_bytes()[:end])
    refuse(tmp_path, "run.zip")


def refuse(folder: Path, says: str) -> None:
    """Fails unless a file is refused, and nothing lies there that did not before."""
    before = snapshot(folder.parent)
    code, said = call("unpack", folder / "run.zip", "--out", folder / "again")
    assert code == 2, said
    assert says in said
    assert not (folder / "again").exists()
    assert snapshot(folder.parent) == before


def rewritten(packed: Path, path: Path, change: Callable[[zipfile.ZipInfo], str]) -> None:
    """An archive whose entries have other names or kinds, its manifest and comment being right."""
    held = Archive.read(packed)
    names = {}
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(path, "w") as new:
        said = json.loads(old.read(archive.MANIFEST))
        for name in held.files:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = archive._MODE << 16
            entry.filename = change(entry)
            names[name] = entry.filename
            new.writestr(entry, old.read(name))
        said["files"] = {names[name]: value for name, value in said["files"].items()}
        write_manifest(new, json.dumps(said).encode())
    seal(path)


def write_manifest(new: zipfile.ZipFile, manifest: bytes, version: int = 1) -> None:
    """Ends an archive; `seal` has still to be called."""
    new.writestr(archive.MANIFEST, manifest)
    new.comment = open_seal(replace(archive.FORMAT, version=version))


@pytest.mark.parametrize(
    "name",
    [
        "../out.json",
        "/tmp/out.json",
        "..",
        "a/../../out.json",
        "a/b/out.json",
        "./metrics.jsonl",
        "C:\\out.json",
        "a\\..\\out.json",
        ".hidden",
        "compare/../x",
        "x\x1b[31m",
        "x ",
        "",
    ],
)
def test_no_file_is_laid_elsewhere(packed: Path, tmp_path: Path, name: str) -> None:
    def change(entry: zipfile.ZipInfo) -> str:
        if entry.filename == "metrics.jsonl":
            return name
        return entry.filename

    rewritten(packed, tmp_path / "run.zip", change)
    refuse(tmp_path, "run.zip")


def test_links_are_refused(packed: Path, tmp_path: Path) -> None:
    def change(entry: zipfile.ZipInfo) -> str:
        if entry.filename == "metrics.jsonl":
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        return entry.filename

    rewritten(packed, tmp_path / "run.zip", change)
    refuse(tmp_path, "metrics.jsonl is a link")


def test_files_that_the_manifest_does_not_name_are_refused(packed: Path, tmp_path: Path) -> None:
    shutil.copy(packed, tmp_path / "run.zip")
    with zipfile.ZipFile(tmp_path / "run.zip", "a") as more:
        more.writestr("more.json", "{}")
    seal(tmp_path / "run.zip")
    refuse(tmp_path, "its files are not those of its manifest")


def test_more_than_was_said_is_not_written(packed: Path, tmp_path: Path) -> None:
    """A file that is larger than its manifest says, as of an archive that fills a disk."""
    with zipfile.ZipFile(tmp_path / "run.zip", "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("config.json", bytes(10**6))
        said = {"format": archive.FORMAT.name, "files": {}}
        said["files"] = {"config.json": {"bytes": 10, "blake2b": "0" * 32}}
        write_manifest(new, json.dumps(said).encode())
    seal(tmp_path / "run.zip")
    refuse(tmp_path, "config.json has 1000000 bytes")


def test_a_file_of_a_newer_version_says_so(packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as new:
        write_manifest(new, b"{}", 99)
    seal(tmp_path / "run.zip")
    refuse(tmp_path, "newer version")


@pytest.mark.long
def test_foreign_files_are_refused(fitted: Path, tmp_path: Path) -> None:
    shutil.copy(fitted / "checkpoint.pt", tmp_path / "run.zip")
    refuse(tmp_path, "expected a 'ppl-gen pack 1' file")
    foreign = io.BytesIO()
    with zipfile.ZipFile(foreign, "w") as other:
        other.writestr("a.txt", "a")
    (tmp_path / "run.zip").write_bytes(foreign.getvalue())
    refuse(tmp_path, "is not what `ppl-gen pack` writes")
    (tmp_path / "run.zip").write_text("no zip file at all")
    refuse(tmp_path, "run.zip")


def test_what_is_no_run_is_not_laid_down(fitted: Path, tmp_path: Path) -> None:
    """An archive whose checksums are right, of something else than a run."""
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "config.json").write_text("{}")
    archive.write(tmp_path / "run.zip", tmp_path / "some", ["config.json"], {})
    refuse(tmp_path, "does not hold a sound run")
    shutil.copy(fitted / "config.json", tmp_path / "some" / "config.json")
    shutil.copy(fitted / "checkpoint.pt", tmp_path / "some" / "checkpoint.pt")
    (tmp_path / "some" / "evaluation.json").write_text("[]")
    names = ["config.json", "checkpoint.pt", "evaluation.json"]
    (tmp_path / "run.zip").unlink()
    archive.write(tmp_path / "run.zip", tmp_path / "some", names, {})
    refuse(tmp_path, "evaluation.json is damaged")


def test_a_run_without_weights_is_not_packed(run: Path, tmp_path: Path) -> None:
    (run / "checkpoint.pt").unlink()
    before = snapshot(run)
    code, said = call("pack", run, tmp_path / "run.zip")
    assert code == 2
    assert "has no checkpoint.pt" in said
    assert snapshot(run) == before


def test_no_link_is_packed(run: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (run / "samples.png").symlink_to(tmp_path / "secret")
    code, said = call("pack", run, tmp_path / "run.zip")
    assert code == 0
    assert "samples.png" not in Archive.read(tmp_path / "run.zip").files
    (run / "README.md").unlink()
    (run / "README.md").symlink_to(tmp_path / "secret")
    code, said = call("pack", run, tmp_path / "two.zip")
    assert code == 2
    assert "README.md is a link" in said
