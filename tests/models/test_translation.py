"""CycleGAN between domains of digits: nothing is paired, and what comes out is still the same
digit.
"""

from __future__ import annotations

import pytest
from translation import READERS, Translated, translate

from ppl_gen import data


def _expect(done: Translated, direction: str, least: float) -> None:
    for reader in READERS:
        read = done.read[direction, reader]
        assert read.after >= least, (direction, reader, read)
        assert read.after - read.before > 4 * read.error


@pytest.mark.slow
def test_inverted_digits_are_read_once_they_are_translated() -> None:
    done = translate(
        "digits", "digits:inverted", seed=0, steps=600, width=32, cycle=10.0, identity=0.0
    )
    assert done.errors.ratio < 0.2
    for direction in ("a → b", "b → a"):
        _expect(done, direction, 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_two_real_domains_of_digits(seed: int) -> None:
    try:
        data.load("mnist:8x8")
    except ValueError:
        pytest.skip("MNIST is not at hand: set PPL_GEN_DATA to the folder that holds MNIST/raw")
    done = translate("digits", "mnist:8x8", seed=seed, steps=2500)
    assert done.errors.ratio < 0.2
    read = done.read["b → a", "network"]
    assert read.after - read.before > 4 * read.error
    for gained in (("b → a", "support vectors"), ("a → b", "network")):
        assert done.read[gained].after > done.read[gained].before
