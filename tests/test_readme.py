"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text(encoding="utf8")

SHORTER = {
    "epochs=60": "epochs=20",
    "draws=200, warmup=200": "draws=50, warmup=50",
    "draws=300, warmup=300": "draws=100, warmup=100",
    "temperatures=100": "temperatures=30",
    "steps=100": "steps=20",
}


@pytest.mark.long
def test_the_python_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Loops, chains and paths are shortened; everything else is taken to the letter."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    for long, short in SHORTER.items():
        assert long in code
        code = code.replace(long, short)
    monkeypatch.chdir(tmp_path)  # they write files
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "epoch 20: ELBO -2" in printed
    assert re.search(r"-2\d\.\d+ ± 0\.0\d+ nats per datum", printed)


def test_every_file_it_speaks_of_exists() -> None:
    named = re.findall(r"\b(?:notebooks|tests|ppl_gen|models|inference)/[\w/.]*\w", README)
    assert len(named) > 15
    assert [name for name in named if not (TOP / name).exists()] == []


def test_every_file_of_the_map_exists() -> None:
    said = (TOP / "CONTRIBUTING.md").read_text(encoding="utf8")
    named = re.findall(r"`((?:tests|ppl_gen|models|inference)/[\w/.]*)`", said)
    assert len(named) > 50
    assert [name for name in named if not (TOP / name).exists()] == []
    assert not re.search(r"`\w+\.py`", said), "a file without its folder"
