"""Test data of another data set, brought to the shape of a run's own."""

from __future__ import annotations

__all__ = ["like_the_run"]

from ppl_gen.app.run.opened import Fitted
from ppl_gen.data import Split, load, parse
from ppl_gen.data.changes import WITHOUT


def like_the_run(fitted: Fitted, name: str, limit: int | None = None) -> Split:
    """The test data of another data set, as the run's own are: of their size, binarised alike.

    Where their shape is another, they are changed as the run's data were, by the suffixes after
    its name and its --image-size.

    Args:
        fitted: The run.
        name: Of the other data, or their path, with suffixes of its own if any.
        limit: How many, from the first; None for all.

    Raises:
        ValueError: If they cannot be read, or are of another shape even then.
    """
    config = fitted.config
    root = config.values.get("root")
    shape = tuple(fitted.data.shape)
    other = load(name, root)
    if tuple(other.shape) != shape and len(shape) == len(other.shape) == 3:
        _, suffixes = parse(config.data)
        _, own_suffixes = parse(name)
        if own_suffixes:
            suffixes = []
        changes = [suffix for suffix in suffixes if not suffix.startswith(WITHOUT)]
        size = config.values.get("image_size") or shape[-1]
        other = load(":".join([name, *changes]), root, image_size=size)
    if tuple(other.shape) != shape:
        raise ValueError(
            f"expected data of shape {shape}, as {fitted.data_name} are, which the run was fitted "
            f"to, got {tuple(other.shape)} of {name}; bring them to it with a suffix, such as "
            f"{name}:8x8"
        )
    alike = other.binarized(fitted.data.binarize)
    return alike.test.fixed(0, limit).to(fitted.device)
