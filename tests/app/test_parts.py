"""Parts by name: what the tables list can be typed, fitted, saved and opened."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from command import call

import ppl_gen
from ppl_gen.app import configure
from ppl_gen.app.cli import app
from ppl_gen.app.cli.arguments import names_given
from ppl_gen.app.config import Config
from ppl_gen.app.parts.listed import LISTED
from ppl_gen.app.parts.part import Part
from ppl_gen.app.recipes import recipe_of
from ppl_gen.data import load

ROWS = [(table.option, part) for table in LISTED.values() for part in table.parts.values()]
FEW = 200  # data that are fitted and scored
NAMES = [f"{option}-{part.name}" for option, part in ROWS]


@cache
def fit_command() -> Any:
    """The command as its parser sees it."""
    return typer.main.get_command(app).commands["fit"]


@cache
def data_of(place: str, binarize: str | None, given: str | None) -> Any:
    """Some of the data of a configuration, read once for all."""
    whole = load(place, given=given)
    few = [replace(s, x=s.x[:FEW], y=s.y[:FEW]) for s in (whole.train, whole.test)]
    return replace(whole, train=few[0], test=few[1]).binarized(binarize)


def read(config: Config) -> Any:
    """The data of a configuration."""
    given = "pairs" if getattr(config, "condition", None) == "pair" else None
    return data_of(config.data, config.binarize, given)


def decided(config: Config) -> Config:
    """With the likelihood that suits the data, where there is one and none was typed."""
    if "likelihood" not in config:
        return config
    return configure.decide_likelihood(config, read(config.changed(binarize=None)))


def typed(line: str) -> Config:
    """The configuration that a line after `ppl-gen fit` means."""
    context = fit_command().make_context("fit", shlex.split(line))
    given = names_given(context)
    words = dict(context.params)
    return configure.configure(words.pop("model"), words, given & words.keys() - {"out"})


@pytest.mark.parametrize(("option", "part"), ROWS, ids=NAMES)
def test_an_example_names_its_part(option: str, part: Part) -> None:
    assert getattr(typed(part.example), option) == part.name
    assert len(part.text) <= 70


@pytest.mark.long
@pytest.mark.parametrize(("option", "part"), ROWS, ids=NAMES)
def test_an_example_can_be_fitted(option: str, part: Part) -> None:
    """One step of the fit of each, as the command makes it."""
    config = decided(typed(part.example).changed(batch_size=100, epochs=1))
    recipe = recipe_of(config)
    fitting = recipe.prepare(config, read(config), torch.device("cpu"))
    step = fitting.begin(0, "eager")
    fitting.pace(1)
    for metric in step(*next(iter(fitting.batches))).values():
        assert bool(torch.isfinite(torch.as_tensor(metric)).all())
    assert fitting.is_finite()


@pytest.mark.parametrize(
    "line",
    [
        "cvae --prior mixture",
        "cvae --prior vamp",
        "cvae --prior flow",
        "cgan --prior mixture",
        "cgan --prior flow --condition edges",
        "dcgan --prior uniform --latent-dim 100",
        "gan --prior flow",
        "gmmn --prior hypersphere",
    ],
)
def test_a_prior_of_other_models(line: str) -> None:
    """Given a label or an image where the model is; by draws alone where it is a GAN."""
    config = decided(typed(line).changed(batch_size=100, epochs=1))
    recipe = recipe_of(config)
    fitting = recipe.prepare(config, read(config), torch.device("cpu"))
    prior = fitting.program.prior
    before = [p.detach().clone() for p in prior.parameters()]
    step = fitting.begin(0, "eager")
    fitting.pace(1)
    step(*next(iter(fitting.batches)))
    assert fitting.is_finite()
    for old, new in zip(before, prior.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_an_average_of_guides_wants_a_guide() -> None:
    config = typed("gan --prior vamp")
    with pytest.raises(ValueError, match="a model with a guide for --prior vamp, got gan"):
        recipe_of(config).prepare(config, read(config), torch.device("cpu"))


def test_parts_are_listed_with_their_examples() -> None:
    code, said = call("parts")
    assert code == 0
    for _, part in ROWS:
        assert f"{part.name} {part.text} ppl-gen fit {part.example}" in said
    assert "likelihoods" not in call("parts", "priors")[1]


OWN_PARTS = """
import pyro.distributions as dist
import torch
from torch import nn

from ppl_gen.guides import DiagonalGaussian


class MyPrior(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(dim))

    def forward(self, *context):
        return dist.Normal(self.loc, 1.0).to_event(1)


def my_likelihood(loc):
    return dist.StudentT(4.0, loc, 0.3)


def my_guide(net, dim):
    return DiagonalGaussian(net(2 * dim))
"""


@pytest.mark.parametrize("name", ["edges", "half", "coarse"])
def test_a_condition_is_that_of_the_stored_image(name: str) -> None:
    """Not of a binarised draw of it: a program is judged under what it was fitted under."""
    config = typed(f"cvae --condition {name} --binarize dynamic")
    recipe = recipe_of(config)
    data = recipe.data(config)
    condition = recipe.condition(config, data)
    assert condition is not None
    assert condition.shown is not None
    few = data.test.fixed(0, 5)
    assert set(few.x.unique().tolist()) == {0.0, 1.0}
    (given,) = condition.context(few)
    torch.testing.assert_close(given, condition.of(data.test.x[:5], None))
    assert condition.shown(given).shape == few.x.shape


@pytest.mark.long
def test_parts_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fitted, saved, opened, judged and gone on with, unless their file has changed."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "my_parts.py"
    file.write_text(OWN_PARTS)
    words = ["fit", "vae", "--out", "run"]
    for option, name in (("prior", "MyPrior"), ("likelihood", "my_likelihood")):
        words += [f"--{option}", f"my_parts.py:{name}"]
    words += ["--guide", "my_parts:my_guide", "--batch-size", 500, "--device", "cpu"]
    code, said = call(*words, "--epochs", 1, "--engine", "eager")
    assert code == 0, said
    monkeypatch.chdir("/")
    run = tmp_path / "run"
    fitted = ppl_gen.load(run, trust=True)
    assert fitted.config.prior == f"{file}:MyPrior"
    assert fitted.config.guide == f"{file}:my_guide"
    assert bool(fitted.program.prior.loc.any())  # its weights are trained, and held
    code, said = call("evaluate", run, "--particles", 20, "--limit", 20, "--trust")
    assert (code, "log evidence" in said) == (0, True), said
    code, said = call("fit", "vae", "--out", run, "--resume", "--epochs", 2, "--trust")
    assert code == 0, said
    file.write_text(OWN_PARTS.replace("4.0", "5.0"))
    for line in (("evaluate", run), ("fit", "vae", "--out", run, "--resume", "--epochs", 3)):
        code, said = call(*line, "--trust")
        assert (code, "has changed since the run was begun" in said) == (2, True), said
    file.unlink()
    assert "put it (back) there" in call("evaluate", run, "--trust")[1]


def test_code_that_a_folder_names_is_not_run_untrusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even that of a package which the file is in, and which no checksum knows."""
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "strange"
    package.mkdir()
    (package / "parts.py").write_text(OWN_PARTS)
    np.savez("data.npz", x_train=np.eye(8, dtype="f4"), x_test=np.eye(8, dtype="f4"))
    mine = ("--prior", "strange.parts:MyPrior")
    words = ("fit", "vae", "--data", "data.npz", "--likelihood", "bernoulli", "--out", "run")
    words += (
        "--epochs",
        "1",
        "--batch-size",
        "4",
        "--latent-dim",
        "2",
        "--device",
        "cpu",
        "--engine",
        "eager",
    )
    code, said = call(*words, *mine)
    assert code == 0, said
    for name in ("strange.parts", "strange"):
        del sys.modules[name]  # as in another process
    (package / "__init__.py").write_text("open('was_run', 'w').close()")
    refused = (
        ("evaluate", "run", "--limit", 4, "--particles", 2),
        ("evaluate", "run", "run"),
        ("sample", "run"),
        ("reconstruct", "run"),
        ("compare", "run"),
        ("translate", "run", "digits", "--from", "a", "--to", "there"),
        ("fit", "vae", "--out", "run", "--resume", "--epochs", 2),
    )
    for line in refused:
        code, said = call(*line)
        assert code == 2, said
        assert "expected --trust for a run that names code to be run, got run with" in said
        assert "--prior strange.parts:MyPrior; look at that code, and say --trust" in said
    with pytest.raises(ValueError, match=r"expected trust=True .*strange\.parts:MyPrior; look"):
        ppl_gen.load("run")
    assert not (tmp_path / "was_run").exists()
    code, said = call(*refused[-1], *mine)  # named now
    assert code == 0, said
    assert (tmp_path / "was_run").exists()
    code, said = call(*refused[0], "--trust")
    assert code == 0, said
