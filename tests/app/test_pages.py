"""The commands that README and the site show are run, page by page, in order, on small data."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import call
from PIL import Image

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"
# Options of each command that make its work small, if it has not said otherwise.
SMALL = {
    "fit": {"--epochs": "1"},
    "evaluate": {"--limit": "12", "--particles": "30"},
    "compare": {"--draws": "30", "--warmup": "30", "--steps": "30", "--chains": "4"},
    "sweep": {"--scale": "0.01"},
}
# Those of options of `evaluate` that are asked for.
SMALL_CHAINS = {"--temperatures": "10", "--chains": "4", "--subset": "4"}
SMALL_TESTS = {"--permutations": "39"}
# What is shown and not run here.
NOT_RUN = {
    "--engine cuda-graph": "needs a CUDA device",
    "MODEL --": "stands for any model",
    "sweep dimensions --data mnist": "takes hours at the settings of its source",
}


def photographs(path: Path) -> None:
    path.mkdir(parents=True)
    random = np.random.RandomState(0)
    for i in range(150):
        pixels = random.randint(0, 256, (40, 36, 3)).astype("u1")
        Image.fromarray(pixels).save(path / f"{i}.png")


def small_pictures(path: Path) -> None:
    path.mkdir()
    random = np.random.RandomState(0)
    for i in range(120):
        Image.fromarray(random.randint(0, 256, (8, 8, 3)).astype("u1")).save(path / f"{i}.png")


def counts(path: Path) -> None:
    np.save(path, np.random.RandomState(0).poisson(3.0, (200, 6)))


def table(path: Path) -> None:
    rows = ["id,height,weight,kind"]
    for i in range(200):
        rows.append(f"{i},{150 + i % 40},{50 + i % 31},{'ab'[i % 2]}")
    path.write_text("\n".join(rows))


def arrays(path: Path) -> None:
    path.mkdir()
    random = np.random.RandomState(0)
    np.save(path / "x.npy", random.rand(200, 6).astype("f4"))
    np.save(path / "y.npy", random.randint(0, 3, 200))


def lines(path: Path) -> None:
    words = ("a", "bold", "cat", "dreams", "each")
    path.write_text("\n".join(" ".join(words[: 2 + i % 4]) for i in range(200)))


def model(path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page_text("how-to/your-own-model.md"), re.DOTALL)
    stated = [block for block in blocks if block.startswith("# my_model.py")]
    path.write_text(stated[0])


def arguments(path: Path) -> None:
    shown = re.search(r"```json\n(.*?)```", page_text("how-to/your-own-model.md"), re.DOTALL)
    assert shown
    json.loads(shown[1])
    path.write_text(shown[1])


def parts(path: Path) -> None:
    path.write_text(
        "from ppl_gen.priors import StandardNormal\n\n\nclass MyPrior(StandardNormal):\n    pass\n"
    )


def sweep(path: Path) -> None:
    path.write_text(
        '[fit]\nmodel = "vae"\nepochs = 1\n\n[axes]\nlatent-dim = [1, 2]\n\n'
        "[evaluate]\nlimit = 10\nparticles = 20\n"
    )


def run_of(kind: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        code, said = call("fit", kind, "--epochs", 1, "--batch-size", 500, "--out", path)
        assert code == 0, said

    return make


# What pages speak of, and what makes a small one.
MADE = {
    "photos": photographs,
    "photos/": photographs,
    "a/": small_pictures,
    "b/": small_pictures,
    "folder/": arrays,
    "counts.npy": counts,
    "people.csv": table,
    "lines.txt": lines,
    "my_model.py": model,
    "data.json": arguments,
    "my_parts.py": parts,
    "my.toml": sweep,
    "runs/vae": run_of("vae"),
    "runs/gan": run_of("gan"),
}


def page_text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf8")


def commands_of(page: Path) -> list[list[str]]:
    """The words of each command of a page; options of data in tables are those of a VAE."""
    found = []
    for line in page.read_text(encoding="utf8").splitlines():
        shown = re.findall(r"^    ppl-gen (.*)", line)
        if line.startswith("|"):
            shown += re.findall(r"`ppl-gen (fit .*?)`", line)
            shown += [f"fit vae {options}" for options in re.findall(r"`(--data .*?)`", line)]
        for words in shown:
            if not any(left_out in words for left_out in NOT_RUN):
                found.append(shlex.split(words, comments=True))
    return found


def shortened(words: list[str]) -> list[str]:
    """The same with MNIST as digits, and with small numbers."""
    words = ["digits" if word == "mnist" else word for word in words if word != "--download"]
    small = dict(SMALL.get(words[0], {}))
    if {"--ais", "--bdmc", "--gaps"} & {*words}:
        small |= SMALL_CHAINS
    if "--profile" in words:
        small["--epochs"] = "10"
    if "--prior-after" in words:
        small |= {"--epochs": "2", "--prior-after": "1"}
    if {"--moments", "--two-sample"} & {*words}:
        small |= SMALL_TESTS
    kept = [words[0]]
    for before, word in itertools.pairwise(words):
        if word not in small and before not in small:
            kept.append(word)
    if "--list" in kept or (words[0] == "sweep" and words[1].endswith(".toml")):
        return kept
    return [*kept, *[each for pair in small.items() for each in pair]]


def prepare(words: list[str]) -> None:
    """Makes what a command speaks of and what is not there yet."""
    outputs = {after for word, after in itertools.pairwise(words) if word == "--out"}
    for word in words:
        name = word.split(":")[0]
        if name in MADE and name not in outputs and not Path(name).exists():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            MADE[name](Path(name))


PAGES = [TOP / "README.md", *sorted(DOCS.rglob("*.md"))]


# A sweep takes minutes where cores are busy; the commands of benchmarks are the start page's, at
# other numbers.
SLOW = {"benchmarks.md", "sweeps.md"}


def pages() -> list[Any]:
    found = []
    for page in PAGES:
        mark = pytest.mark.slow if page.name in SLOW else pytest.mark.long
        if commands_of(page):
            found.append(pytest.param(page, marks=mark, id=page.name))
    return found


@pytest.mark.parametrize("page", pages())
def test_the_commands_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    torch.manual_seed(0)
    for words in commands_of(page):
        prepare(words)
        code, said = call(*shortened(words))
        assert code == 0, f"ppl-gen {shlex.join(words)}\n{said}"
