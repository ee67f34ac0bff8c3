"""The command, called in this process by the tests of the app."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from ppl_gen.app.cli import app

QUICK = ["--epochs", "2", "--latent-dim", "2", "--device", "cpu"]
FEW = ("--epochs", 2, "--batch-size", 500, "--device", "cpu")
CHEAP = ("--permutations", 20, "--features", "pca")


def call(*words: object) -> tuple[int, str]:
    """The exit code and all that was printed, with white space folded."""
    result = CliRunner().invoke(app, [str(w) for w in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.output.split())


def snapshot(folder: Path) -> dict[str, bytes]:
    """The bytes of every file in a folder, by path."""
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
