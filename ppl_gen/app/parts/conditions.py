"""What a conditional program can be given beside x, by name."""

from __future__ import annotations

__all__ = ["CONDITIONS", "OF_IMAGES", "condition_of"]

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.parts.part import Part, table_of

# Torch is imported when a condition is made: the help of the command lists their names.
if TYPE_CHECKING:
    from ppl_gen.app.parts.conditioning import Conditioning


def _of(name: str) -> Callable[[Config, Any], Conditioning]:
    """The function of this name of `ppl_gen.app.parts.conditioning`."""

    def make(config: Config, data: Any) -> Conditioning:
        from ppl_gen.app.parts import conditioning

        made: Conditioning = getattr(conditioning, name)(config, data)
        return made

    return make


# `make(config, data)`: a `Conditioning`.
CONDITIONS = table_of(
    Part(
        name="label",
        text="the label of each datum, or its vector of attributes",
        example="cvae --condition label",
        make=_of("on_labels"),
    ),
    Part(
        name="attributes",
        text="thickness, slant and label of an image",
        example="cvae --condition attributes",
        make=_of("on_attributes"),
    ),
    Part(
        name="edges",
        text="the edges of an image",
        example="conv-cgan --condition edges --batch-size 500",
        make=_of("on_edges"),
    ),
    Part(
        name="half",
        text="the left half of an image",
        example="conv-cvae --condition half",
        make=_of("on_half"),
    ),
    Part(
        name="coarse",
        text="an image at a quarter of its side, half of it below 16 pixels",
        example="cvae --condition coarse",
        make=_of("on_coarse"),
    ),
    Part(
        name="pair",
        text="the left one of images side by side, or an array y of images",
        example="cvae --condition pair",
        make=_of("on_pairs"),
    ),
    Part(
        name="caption",
        text="a sentence about an image; that of captions.txt, where it is",
        example="cvae --condition caption",
        make=_of("on_captions"),
    ),
)
# Those that are an image, of which that which is to be drawn is another view.
OF_IMAGES = ("edges", "half", "coarse", "pair")


def condition_of(config: Config, data: Any) -> Conditioning:
    """What the program of a configuration is conditioned on.

    Args:
        config: With a `condition`.
        data: What it names.

    Raises:
        ValueError: If the data do not have what it is to be.
    """
    made: Conditioning = CONDITIONS[config.condition].make(config, data)
    return made
