"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text(encoding="utf8")


def test_the_python_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The loop is shortened; everything else is taken to the letter."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL)).replace(
        "epochs=60", "epochs=20"
    )
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "epoch 20: ELBO -2" in printed
    assert re.search(r"-2\d\.\d+ ± 0\.0\d+ nats per datum", printed)


def test_every_file_it_speaks_of_exists() -> None:
    named = re.findall(r"[`(]((?:notebooks|tests|ppl_gen|models|inference)/[\w/.]*)", README)
    assert named
    assert all((TOP / name).exists() for name in named), [
        name for name in named if not (TOP / name).exists()
    ]


def test_every_file_of_the_map_exists() -> None:
    """Contributing names files by their ends, `app/cli.py` or `replay.py`."""
    said = (TOP / "CONTRIBUTING.md").read_text(encoding="utf8")
    named = set(re.findall(r"`([\w/]+\.py)`", said))
    files = [path.relative_to(TOP).as_posix() for path in TOP.glob("*/**/*.py")]
    assert len(named) > 40
    for name in named:
        assert any(f"/{file}".endswith(f"/{name}") for file in files), name
