"""The text VAE: its decoder without a latent, paths from line to line, and its command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command import call
from torch import Tensor

from ppl_gen.data import Vocabulary
from ppl_gen.inference import elbo, log_evidence, svi_step
from ppl_gen.models import language_model, text_vae, vae
from ppl_gen.paths import path
from ppl_gen.program import reconstruct, simulate

LETTERS = Vocabulary(("a", "b", "c"))
X = LETTERS.encode(["ab", "abcab", "", "cc"], 5)


def _small(**options: Any) -> Any:
    torch.manual_seed(0)
    return text_vae(4, 5, 2, hidden=12, embedding=6, **options)


def test_a_model_without_latents_has_its_evidence() -> None:
    torch.manual_seed(0)
    program = language_model(4, 5, hidden=12, embedding=6)
    expected = program.likelihood(program.start.expand(4, -1)).log_prob(X).detach()
    for estimate in (log_evidence(program, None, X, particles=3), elbo(program, None, X)):
        torch.testing.assert_close(estimate.value.float(), expected)
    step = svi_step(program, torch.optim.Adam(program.parameters(), 1e-2), engine="eager")
    before = float(step(X)["elbo"])
    for _ in range(10):
        after = float(step(X)["elbo"])
    assert after > before


def test_lines_are_drawn_and_reconstructed() -> None:
    program = _small()
    torch.manual_seed(0)
    assert simulate(program, 3).shape == (3, 5)
    assert bool(program.likelihood(torch.zeros(12)).support.check(reconstruct(program, X)).all())


def test_a_path_goes_from_mean_to_mean() -> None:
    program = _small()
    lines = path(program, X[:2], steps=11)
    assert lines.shape == (11, 5)
    with torch.no_grad():
        ends = program.likelihood(program.decoder(program.encoder(X[:2]).mean)).mode
    assert torch.equal(lines[[0, -1]], ends)


def test_a_path_of_images_is_one_of_means(binary: Tensor) -> None:
    program = vae((1, 8, 8), 2, hidden=(8,))
    shown = path(program, binary[:2], steps=3)
    with torch.no_grad():
        middle = program.encoder(binary[:2]).mean.mean(0)
        expected = program.decoder(middle).sigmoid()
    torch.testing.assert_close(shown[1], expected)
    with pytest.raises(ValueError, match="expected two data, the ends of a path, got 3"):
        path(program, binary[:3])
    with pytest.raises(ValueError, match="expected steps of at least 2, got 1"):
        path(program, binary[:2], steps=1)


@pytest.mark.long
def test_engines_agree() -> None:
    found = []
    for engine in ("eager", "fx"):
        program = _small(word_dropout=0.3)
        step = svi_step(program, torch.optim.Adam(program.parameters(), 1e-2), engine=engine)
        for _ in range(3):
            metrics = step(X)
        found.append(float(metrics["elbo"]))
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_lines_outside_of_the_vocabulary_are_refused() -> None:
    program = _small()
    with pytest.raises(ValueError, match="lines of tokens 0 to 3, with 0 behind the last"):
        elbo(program, None, X + 3)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((1, 5, 2), "with the end of a line, of at least 2, got 1"),
        ((4, 5, 0), "expected latent_dim of at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused(asked: tuple[int, int, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        text_vae(*asked)


@pytest.mark.long
def test_the_command_fits_judges_and_writes_lines(tmp_path: Path) -> None:
    lines = [f"{a} {b} {c}." for a in ("one", "two") for b in "xyz" for c in ("is", "was")]
    (tmp_path / "lines.txt").write_text("\n".join(3 * lines))
    run = tmp_path / "run"
    code, said = call(
        *("fit", "text-vae", "--data", tmp_path / "lines.txt", "--level", "words"),
        *("--out", run, "--epochs", 1, "--hidden", 8, "--latent-dim", 2, "--batch-size", 33),
        *("--word-dropout", 0.1, "--device", "cpu"),
    )
    assert code == 0, said
    assert len((run / "path.txt").read_text().splitlines()) == 2 + 11 + 2
    code, said = call("evaluate", run, "--particles", 4, "--device", "cpu")
    assert (code, "words of a line, its end included" in said) == (0, True), said
    found = json.loads((run / "evaluation.json").read_text())
    assert found["nats_per_token"]["level"] == "words"
    code, said = call("sample", run, "--count", 3, "--out", tmp_path / "drawn.txt")
    assert (code, len((tmp_path / "drawn.txt").read_text().splitlines())) == (0, 3), said
    assert call("reconstruct", run)[0] == 0
    for words in (("--moments",), ("--epsilon", 0.1)):
        code, said = call("evaluate", run, *words)
        assert (code, "got lines of text" in said) == (2, True), said
    code, said = call("sample", run, "--out", tmp_path / "drawn.png")
    assert (code, ".txt" in said) == (2, True), said
