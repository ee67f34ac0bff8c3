"""Gaussians on a ring, and how many of them a sample covers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ppl_gen import data
from ppl_gen.data.toys import modes_covered, ring


def test_its_points_are_near_the_mode_of_their_label() -> None:
    loaded = data.load("ring")
    assert (len(loaded.train), len(loaded.test), loaded.shape, loaded.classes) == (
        2000,
        1000,
        (2,),
        8,
    )
    assert torch.equal(loaded.train.x, data.load("ring").train.x)
    assert not torch.equal(loaded.train.x[:1000], loaded.test.x)
    angle = loaded.train.y * torch.pi / 4
    residual = loaded.train.x - 2 * torch.stack([angle.cos(), angle.sin()], -1)
    assert abs(float(residual.std()) - 0.1) < 4 * 0.1 / 8000**0.5  # of 4000 numbers
    error = (2000 * 1 / 8 * 7 / 8) ** 0.5
    assert ((loaded.train.y.bincount() - 250).abs() < 4 * error).all()


def test_coverage_of_its_own_points() -> None:
    covered = modes_covered(ring(20_000, seed=0)[0])
    near = 1 - np.exp(-9 / 2)
    assert covered.modes == 8
    assert abs(covered.share - near) < 4 * (near * (1 - near) / 20_000) ** 0.5


def test_lost_modes_and_strays() -> None:
    x, y = ring(4000, seed=0)
    kept = x[y < 5]
    assert modes_covered(kept).modes == 5
    assert modes_covered(torch.cat([kept, x[y == 6][:3]])).modes == 5  # three strays cover nothing
    assert modes_covered(kept + 1).share < 0.2
    assert modes_covered(*ring(500, 3, 1.0, 0.2, seed=0)[:1], 3, 1.0, 0.2).modes == 3


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        (lambda: ring(0), "n of at least 1, got 0"),
        (lambda: ring(5, scale=0.0), "positive, finite scale, got 0.0"),
        (lambda: modes_covered(torch.ones(5, 3)), r"points \(N, 2\), got \(5, 3\)"),
        (lambda: modes_covered(torch.ones(5, 2), least=0.0), r"least in \(0, 1\], got 3.0 and 0.0"),
    ],
)
def test_bad_input(attempt: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        attempt()
