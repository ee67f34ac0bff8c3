"""Pictures of the bound and its terms."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from ppl_gen import plots

TERMS = {"elbo": -30.0, "log_likelihood": -25.0, "kl": 5.0}


def records(count: int, *parts: str) -> list[Any]:
    found = []
    for epoch in range(1, count + 1):
        metrics = {}
        for part in parts:
            for term, value in TERMS.items():
                metrics[f"{part}_{term}"] = value / epoch
                metrics[f"{part}_{term}_error"] = 0.1
        found.append(SimpleNamespace(epoch=epoch, metrics=metrics))
    return found


def test_each_term_has_a_panel_with_both_parts() -> None:
    figure = plots.bound.terms(records(12, "train", "validation"), best=7)
    figure.canvas.draw()
    assert len(figure.axes) == 3
    for axes, value in zip(figure.axes, TERMS.values(), strict=True):
        train, held_out, kept = axes.get_lines()
        assert list(train.get_ydata()) == [value / epoch for epoch in range(1, 13)]
        assert list(held_out.get_ydata()) == list(train.get_ydata())
        assert set(kept.get_xdata()) == {7}
        low, high = axes.get_ylim()
        assert max(abs(low), abs(high)) < abs(value)  # the first epoch is out of view


def test_what_was_not_measured_is_left_out() -> None:
    some = records(3, "validation")
    some[1].metrics["validation_kl"] = math.nan
    figure = plots.bound.terms(some)
    figure.canvas.draw()
    assert [len(axes.get_lines()) for axes in figure.axes] == [1, 1, 1]


@pytest.mark.parametrize("some", [[], records(2), records(2, "train")])
def test_records_without_validation_are_refused(some: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"got none of its metrics; say fit\(\.\.\., validation"):
        plots.bound.terms(some)
