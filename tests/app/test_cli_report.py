"""`ppl-gen report`: one page that needs nothing else, says what was found, and warns."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import CHEAP, call, change_checkpoint, held, snapshot

from ppl_gen.app.report.findings import warnings
from ppl_gen.app.report.markup import Html, tag, worded
from ppl_gen.app.report.numbers import spelled
from ppl_gen.app.report.subject import Subject
from ppl_gen.app.run.evaluation import FILE

SMALL = ("--latent-dim", 2, "--hidden", 8, "--epochs", 2, "--batch-size", 20, "--device", "cpu")
EMPTY = ("img", "meta", "use", "br")


class Page(HTMLParser):
    """What stands in a page; fails where elements are not closed in the order of their opening.

    Attributes:
        elements: Each element that is opened, with its attributes.
        words: The text outside of styles.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self._said: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    @property
    def words(self) -> str:
        return " ".join(" ".join(self._said).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self._said.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a name."""
        return [attributes for name, attributes in self.elements if name == tag]


def report(out: Path, *runs: Path) -> Page:
    """The page of some runs."""
    code, said = call("report", *runs, "--out", out, "--overwrite")
    assert code == 0, said
    return Page(out.read_text(encoding="utf8"))


def change(run: Path, name: str, **numbers: Any) -> None:
    """Writes other numbers into an entry of evaluation.json."""
    path = run / FILE
    entries = json.loads(path.read_text())
    entries.setdefault(name, dict(entries["log_evidence"])).update(numbers)
    path.write_text(json.dumps(entries))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "grey.npy"
    np.save(path, np.random.RandomState(0).rand(120, 4, 4).astype("f4"))
    return path


@pytest.fixture(scope="module")
def fitted(images: Path, tmp_path_factory: pytest.TempPathFactory, without_pictures: None) -> Path:
    """A run that was fitted, with a picture of its samples."""
    run = tmp_path_factory.mktemp("fitted") / "run"
    code, said = call("fit", "vae", "--data", images, *SMALL, "--validation", 0.1, "--out", run)
    assert code == 0, said
    assert call("sample", run)[0] == 0
    return run


@pytest.fixture(scope="module")
def judged(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, judged as well."""
    run = tmp_path_factory.mktemp("judged") / "run"
    shutil.copytree(fitted, run)
    asked = ("--particles", 20, "--collapse", "--moments", "--two-sample", *CHEAP)
    code, said = call("evaluate", run, *asked)
    assert code == 0, said
    return run


@pytest.fixture
def run(judged: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(judged, tmp_path / "run"))


def test_a_page_needs_nothing_but_itself(judged: Path, tmp_path: Path) -> None:
    before = snapshot(judged)
    page = report(tmp_path / "report.html", judged)
    assert snapshot(judged) == before
    text = (tmp_path / "report.html").read_text(encoding="utf8")
    assert not re.search(r"https?://|url\((?!#)|@import|<script|<link|<iframe", text)
    images = page.named("img")
    assert len(images) >= 4
    for image in images:
        assert image["alt"]
        assert image["src"].startswith("data:image/png;base64,")
    drawings = page.named("svg")
    assert drawings
    assert all(drawing["aria-label"] and drawing["role"] == "img" for drawing in drawings)
    for _, attributes in page.elements:
        for name in ("src", "srcset", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    assert page.named("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.named(
        "meta"
    )
    assert "prefers-color-scheme: dark" in text


def test_headings_stand_in_order_and_places_are_there(judged: Path, tmp_path: Path) -> None:
    page = report(tmp_path / "report.html", judged)
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    places = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(places)) == len(places)
    assert {place["href"] for place in page.named("a")} <= {f"#{place}" for place in places}


def test_every_number_stands_there_with_its_command(judged: Path, tmp_path: Path) -> None:
    page = report(tmp_path / "report.html", judged)
    entries = json.loads((judged / FILE).read_text())
    for quantity in ("log_evidence", "elbo"):
        entry = entries[quantity]
        assert spelled(entry["value"], entry["standard_error"]) in page.words
    for name in ("MMD²", "coverage"):
        entry = entries["two_sample"][name]
        assert spelled(entry["value"], entry["standard_error"]) in page.words
    for name, kind in entries["moments"]["kinds"].items():
        assert f"{name} {kind['compared']} {kind['off']} {kind['farthest']}" in page.words
    for quantity, entry in entries.items():
        for number in re.findall(r"-?\d+\.\d{6,}", json.dumps(entry)):
            assert number in page.words, quantity
    assert f"ppl-gen evaluate {judged} --particles 20" in page.words
    assert f"ppl-gen evaluate {judged} --two-sample --features pca --permutations 20" in page.words
    assert f"ppl-gen evaluate {judged} --collapse" in page.words
    assert f"ppl-gen sample {judged}" in page.words
    assert "ppl-gen fit vae --data" in page.words
    assert "reconstruction: E[log p(x | z)]" in page.words
    assert "KL(q(z | x) ‖ p(z))" in page.words


def test_the_verdict_stands_on_top(judged: Path, tmp_path: Path) -> None:
    page = report(tmp_path / "report.html", judged)
    entry = json.loads((judged / FILE).read_text())["log_evidence"]
    said = spelled(entry["value"], entry["standard_error"])
    place = page.words.index(f"log p(x) of a test datum is {said} nats")
    assert place < page.words.index("Options that are not the usual ones")


@pytest.mark.parametrize(
    ("tag", "quantity", "numbers"),
    [
        ("heavy-tails", "log_evidence", {"k_hat_above_limit": 0.25}),
        ("collapsed", "collapse", {"collapsed": True, "verdict": ["collapsed: 0 of 2"]}),
        ("wide-sandwich", "bdmc", {"gap": {"value": 3.0, "standard_error": 0.1}}),
        ("crossed", "bdmc", {"gap": {"value": -3.0, "standard_error": 0.1}}),
        ("stale", "elbo", {"weights": "00000000"}),
        ("stale", "log_evidence", {"epoch": 1}),
        ("moments-off", "moments", {"matched": False}),
        ("told-apart", "two_sample", {"MMD²": {"value": 1.0, "p_value": 0.001}}),
    ],
)
def test_what_speaks_against_a_result_is_said(
    run: Path, tag: str, quantity: str, numbers: dict[str, Any]
) -> None:
    change(run, "collapse", collapsed=False, verdict=["in use: 2 of 2"])
    change(run, "moments", matched=True)
    change(run, "log_evidence", k_hat_above_limit=0.0)
    for name in ("MMD²", "polynomial MMD²", "energy distance", "Fréchet distance"):
        change(run, "two_sample", **{name: {"value": 0.0, "p_value": 0.5}})
    assert found(run) == []
    change(run, quantity, **numbers)
    assert found(run) == [tag]


def found(run: Path) -> list[str]:
    """The tags of what speaks against a run."""
    return [finding.tag for finding in warnings(Subject.read(run, "run"))]


def test_a_warning_stands_on_top_and_in_its_section(run: Path, tmp_path: Path) -> None:
    change(run, "log_evidence", k_hat_above_limit=0.25, k_hat_limit=0.67)
    words = report(tmp_path / "report.html", run).words
    said = "Pareto k̂ is above 0.67 for 25.0% of the data"
    assert words.count(said) == 2
    assert words.index(said) < words.index("Options that are not the usual ones")
    assert f"Warnings heavy-tails . {said}" in words
    assert f"take ppl-gen evaluate {run} --ais" in words


def test_chains_that_have_not_converged_are_said(run: Path, tmp_path: Path) -> None:
    weights = json.loads((run / FILE).read_text())["elbo"]["weights"]
    (run / "compare").mkdir()
    entry = {"findings": [["undecided", "MCMC is not to be trusted"]], "passes": None}
    entry |= {"r_hat_largest": 1.3, "ess_smallest": 8.0, "epoch": 2, "weights": weights}
    (run / "compare" / "verdict.json").write_text(json.dumps(entry))
    page = report(tmp_path / "report.html", run)
    assert "undecided . Against MCMC: MCMC is not to be trusted." in page.words
    assert "not-converged . R̂ of the chains is up to 1.3, above 1.01" in page.words
    assert f"ppl-gen compare {run} --warmup 2000 --overwrite" in page.words
    (run / "compare" / "verdict.json").write_text("[]")
    code, said = call("report", run, "--out", tmp_path / "new.html")
    assert code == 2
    assert "verdict.json is damaged" in said


def test_a_picture_of_other_weights_says_so(run: Path, tmp_path: Path) -> None:
    assert "(of other weights than now)" not in report(tmp_path / "a.html", run).words
    program = held(run)["program"]
    name = next(iter(program))
    program[name] = program[name] + 1
    change_checkpoint(run, program=program)
    page = report(tmp_path / "b.html", run)
    assert "Samples drawn from vae on grey.npy, epoch 2 (of other weights than now)" in page.words
    assert "of other weights than now: ppl-gen evaluate" in page.words
    assert " stale " in page.words


def test_a_run_that_was_only_fitted_says_what_is_missing(fitted: Path, tmp_path: Path) -> None:
    page = report(tmp_path / "report.html", fitted)
    assert "not judged yet" in page.words
    assert f"not evaluated yet; that is ppl-gen evaluate {fitted}" in page.words
    assert f"Not there yet; made by ppl-gen reconstruct {fitted}" in page.words
    assert f"made by ppl-gen evaluate {fitted} --collapse" in page.words
    assert f"made by ppl-gen compare {fitted}" in page.words


def test_a_run_that_was_interrupted_says_how_to_go_on(fitted: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(fitted, tmp_path / "run"))
    change_checkpoint(run, epoch=1, stopping=None)
    page = report(tmp_path / "report.html", run)
    on = f"ppl-gen fit vae --out {run} --resume"
    assert f"after epoch 1 of 2, or is still running; go on with {on}" in page.words
    (run / "checkpoint.pt").unlink()
    page = report(tmp_path / "report.html", run)
    assert f"without weights; go on with {on}" in page.words


def test_other_data_than_those_of_the_fit_are_said(
    images: Path, tmp_path: Path, without_pictures: None
) -> None:
    data = tmp_path / "x.npy"
    shutil.copy(images, data)
    run = tmp_path / "run"
    assert call("fit", "pca", "--data", data, "--latent-dim", 2, "--out", run)[0] == 0
    assert "other-data" not in report(tmp_path / "a.html", run).words
    np.save(data, np.load(data)[::-1])
    assert "other-data . The numbers are of former data" in report(tmp_path / "b.html", run).words
    data.unlink()
    page = report(tmp_path / "c.html", run)
    assert "other-data" not in page.words
    assert "its data could not be looked at" in page.words


def test_runs_stand_beside_each_other(
    judged: Path, images: Path, tmp_path: Path, without_pictures: None
) -> None:
    """A GAN has no nats, and the page says so; other data are named."""
    gan = tmp_path / "<b>gan & co"
    x = tmp_path / "x.npy"
    np.save(x, np.load(images)[::-1])
    code, said = call("fit", "gan", "--data", x, *SMALL, "--out", gan)
    assert code == 0, said
    page = report(tmp_path / "report.html", judged, gan)
    assert "b" not in [name for name, _ in page.elements]
    assert "Report: run, <b>gan & co" in page.words
    assert "different test data (grey.npy, x.npy)" in page.words
    assert "Without a likelihood, and so without nats: <b>gan & co" in page.words
    assert "under a little noise it has one: ppl-gen evaluate" in page.words
    assert "--epsilon 0.1" in page.words
    assert "It has no guide, and reconstructs nothing" in page.words


def test_a_page_is_not_written_over(judged: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "report.html"
    assert call("report", judged, "--out", out)[0] == 0
    before = out.read_bytes()
    code, said = call("report", judged, "--out", out)
    assert code == 2
    assert "say --overwrite" in said
    assert out.read_bytes() == before
    code, said = call("report", judged, judged / "." / "..", "--out", tmp_path / "two.html")
    assert code == 2
    code, said = call("report", judged, judged.parent / "run", "--out", tmp_path / "two.html")
    assert code == 2
    assert "expected different runs" in said


def test_elements_escape_what_is_not_html() -> None:
    assert tag("p", "<i>", Html("<b></b>"), class_='"') == (
        '<p class="&quot;">&lt;i&gt;<b></b></p>'
    )
    assert worded("a < b: `x < y`.") == "a &lt; b: <code>x &lt; y</code>."
    assert tag("img", alt="a\x1b", src=None) == '<img alt="a\\x1b">'


def test_a_number_has_as_many_digits_as_its_error_allows() -> None:
    assert spelled(-22.54123, 0.00512) == "−22.5412 ± 0.0051"
    assert spelled(1234.5678, 12.3) == "1235 ± 12"
    assert spelled(0.5) == "0.5"
    assert spelled(1.0, float("nan")) == "1"
