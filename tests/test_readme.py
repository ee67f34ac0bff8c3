"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf8")


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
    top = Path(__file__).parents[1]
    named = re.findall(r"[`(]((?:notebooks|tests|ppl_gen|models|inference)/[\w/.]*)", README)
    assert named
    assert all((top / name).exists() for name in named), [
        name for name in named if not (top / name).exists()
    ]
