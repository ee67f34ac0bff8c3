"""What a picture says inside of the weights that it is of: words of its PNG."""

from __future__ import annotations

__all__ = ["Origin", "origin", "origin_of"]

from typing import NamedTuple

from PIL import Image

_EPOCH = "ppl-gen epoch"
_WEIGHTS = "ppl-gen weights"


class Origin(NamedTuple):
    """The weights that a picture is of.

    Attributes:
        epoch: The number of epochs that they had been fitted for.
        weights: A checksum of them.
    """

    epoch: int
    weights: str


def origin(epoch: int, weights: str) -> dict[str, str]:
    """The words that a picture of these weights is written with.

    Args:
        epoch: The number of epochs that they have been fitted for.
        weights: A checksum of them.
    """
    return {_EPOCH: str(epoch), _WEIGHTS: weights}


def origin_of(picture: Image.Image) -> Origin | None:
    """The weights that a picture says it is of; None where it says nothing.

    Pictures of former versions say nothing.

    Args:
        picture: An opened PNG.
    """
    epoch = picture.info.get(_EPOCH)
    weights = picture.info.get(_WEIGHTS)
    if not isinstance(epoch, str) or not isinstance(weights, str) or not epoch.isdecimal():
        return None
    return Origin(int(epoch), weights)
