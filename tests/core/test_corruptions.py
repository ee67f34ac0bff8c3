"""Corruptions: how much of the data they change, and into what."""

from __future__ import annotations

import pytest
import torch

from ppl_gen.corruptions import gaussian_noise, masking, salt_and_pepper

N = 20_000


def test_noise_has_its_scale() -> None:
    torch.manual_seed(0)
    noise = gaussian_noise(0.3)(torch.ones(N)) - 1
    assert abs(float(noise.mean())) < 4 * 0.3 / N**0.5
    assert abs(float(noise.std()) - 0.3) < 4 * 0.3 / (2 * N) ** 0.5


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_values_is_destroyed(share: float) -> None:
    torch.manual_seed(0)
    x = torch.full((N,), 0.7)
    error = 4 * (share * (1 - share) / N) ** 0.5
    masked = masking(share)(x)
    assert abs(float((masked == 0).double().mean()) - share) <= error
    assert bool(((masked == 0) | (masked == x)).all())
    salted = salt_and_pepper(share)(x)
    assert abs(float((salted != x).double().mean()) - share) <= error
    assert abs(float((salted == 1).double().mean()) - share / 2) <= 4 * (share / 4 / N) ** 0.5
    assert bool(((salted == 0) | (salted == 1) | (salted == x)).all())


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_shares_out_of_range(share: float) -> None:
    for corruption in (masking, salt_and_pepper):
        with pytest.raises(ValueError, match="share"):
            corruption(share)
    with pytest.raises(ValueError, match="scale"):
        gaussian_noise(-1.0)
