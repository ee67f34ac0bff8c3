"""What a precision other than float32 costs, in nats of test data."""

from __future__ import annotations

__all__ = ["effect_of_precision"]

from ppl_gen.app.run.opened import Fitted
from ppl_gen.inference import elbo
from ppl_gen.precision import float32_alone, networks_in, tf32

_DATA = 1000
_PARTICLES = 10


def effect_of_precision(fitted: Fitted) -> list[str]:
    """The ELBO of test data in float32 and in the precision of a run, and their difference.

    Both are of the same random numbers, so that what differs is the precision alone. Nothing is
    said of a run in float32.

    Args:
        fitted: The run.

    Returns:
        Lines to print.
    """
    precision = fitted.config.values.get("precision", "float32")
    if precision == "float32":
        return []
    test = fitted.data.test.fixed(0, _DATA)
    data = (test.x, *fitted.context(test))
    with float32_alone():
        exact = elbo(fitted.program, None, *data, particles=_PARTICLES, seed=0).value
    with tf32(precision), networks_in(precision):
        rounded = elbo(fitted.program, None, *data, particles=_PARTICLES, seed=0).value
    difference = rounded - exact
    error = difference.std() / len(difference) ** 0.5
    lines = [
        f"ELBO of {len(exact)} test data: {float(exact.mean()):.4f} nats per datum in float32, "
        f"{float(rounded.mean()):.4f} in {precision}; difference {float(difference.mean()):.5f} ± "
        f"{float(error):.5f} (of pairs)"
    ]
    if precision == "tf32" and fitted.device.type == "cpu":
        lines.append("tf32 is a mode of CUDA devices: on a processor it is without effect")
    return lines
