"""Bars where there is a terminal, lines where there is none."""

from __future__ import annotations

import pytest

from ppl_gen import progress


def test_a_line_for_each_tenth(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LEAST_SECONDS", 0.0)
    assert sum(progress.track(range(1000), "counting")) == 499_500
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" %")[0] for line in lines] == [
        f"counting: {percent}" for percent in range(10, 101, 10)
    ]


def test_what_is_short_or_not_to_be_shown_prints_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LEAST_SECONDS", 3600.0)
    assert list(progress.track("ab", "spelling")) == ["a", "b"]
    monkeypatch.setattr(progress, "_LEAST_SECONDS", 0.0)
    assert list(progress.track(iter("ab"), "spelling", total=2, shown=False)) == ["a", "b"]
    with progress.Bar() as bar:
        bar.add_task("of unknown length", total=None)
    assert capsys.readouterr().out == ""
