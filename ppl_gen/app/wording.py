"""The library's remedies in the words of the command: options for keywords and classes."""

from __future__ import annotations

__all__ = ["in_options"]

# What the library says, and what the command calls it.
_WORDS = {
    "binarize=None with a Gaussian likelihood": "--binarize none with --likelihood gaussian",
    "load them with binarize=None": "say --binarize none",
    "(binarize 'threshold', 'static' or 'dynamic')": "(--binarize threshold, static or dynamic)",
    "(ContinuousBernoulli, Gaussian, Laplace)": (
        "(--likelihood continuous-bernoulli, gaussian or laplace)"
    ),
    "(Gaussian, Laplace)": "(--likelihood gaussian or laplace)",
    "Warm up longer (warmup=), begin elsewhere (init=), reparametrise (non-centred), or raise "
    "target_accept": "Warm up longer (--warmup), or reparametrise (non-centred)",
    "reparametrise (non-centred), or raise target_accept": (
        "reparametrise (non-centred), or warm up longer (--warmup)"
    ),
    "(latent_dim=...), narrower layers or smaller images (image_size=...)": (
        "(--latent-dim), narrower layers (--width) or smaller images (--image-size)"
    ),
    "take fewer or smaller: data, pixels, latents, draws, particles or chains": (
        "take fewer or smaller: --limit, --subset, --batch-size, --image-size, --latent-dim, "
        "--width, --count, --draws, --particles or --chains"
    ),
    "take fewer (limit=...)": "take fewer (--limit)",
    "take a smaller image_size": "take a smaller --image-size",
    "(image_size=..., --image-size)": "(--image-size)",
    "leave_out=..., --leave-out": "--leave-out",
    "label_column=..., --label-column": "--label-column",
    "label_column and leave_out (--label-column, --leave-out)": "--label-column and --leave-out",
    "trust=True": "--trust",
    "take evenly spaced ones (within=3.0), or those of codes of data (codes=encode(program, "
    "x).mean)": "take evenly spaced ones: --within 3",
    "take a smaller chunk": "take fewer --particles",
    "begin from a guide, or take more temperatures": "take more --temperatures",
}


def in_options(said: str) -> str:
    """A message of the library as the command says it.

    Args:
        said: An error, a warning or a verdict.
    """
    for words, options in _WORDS.items():
        said = said.replace(words, options)
    return said
