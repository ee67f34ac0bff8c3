"""What nats are of: the data that a run was fitted to, and the measure of its own likelihood.

Log densities with respect to different measures, or of different data, differ by more than the
models do: they are never put into one row.
"""

from __future__ import annotations

__all__ = ["fitted_to", "measure_of"]

from ppl_gen.app.config import Config
from ppl_gen.app.run.opened import Fitted
from ppl_gen.contexts import forked
from ppl_gen.program import simulate_sites
from ppl_gen.sites import unwrapped


def fitted_to(config: Config) -> str:
    """The data that a run was fitted to, in words: "binary pixels (dynamic)".

    Args:
        config: Of the run.
    """
    if "binarize" not in config or config.binarize is None:
        return "data as they are"
    if config.binarize == "dequantize":
        return "dequantised data"
    return f"binary pixels ({config.binarize})"


def measure_of(fitted: Fitted) -> str:
    """What the log evidence of a run under its own likelihood is of, in words.

    Args:
        fitted: A run with a likelihood.

    Returns:
        The data, and "probabilities" (the counting measure) or "densities" (Lebesgue's), such as
        "probabilities of binary pixels (dynamic)".
    """
    context = fitted.context(fitted.data.test.fixed(0, 1))
    with forked(fitted.device, 0):
        site = simulate_sites(fitted.program, 1, *context)["x"]
    kind = "densities"
    if unwrapped(site["fn"]).support.is_discrete:
        kind = "probabilities"
    return f"{kind} of {fitted_to(fitted.config)}"
