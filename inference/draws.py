"""What a sampler returns: draws by site, with the diagnostics that say whether to believe them."""

from __future__ import annotations

__all__ = ["Draws"]

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """Draws from a posterior.

    Attributes:
        samples: By site, each (chains, draws, *shape of the site), in the site's support; sites of pyro.deterministic as well.
        log_density: log p(x, z) + log |∂z/∂q| at each draw, (chains, draws), or (chains, draws, N) where local; in nats.
        divergent: Whether the transition to each draw diverged, of the shape of log_density.
        acceptance: The acceptance probability of the transition to each draw, of the shape of log_density.
        seconds: Wall time of warm-up and sampling together, without tracing and compilation.
        preparation_seconds: Wall time of tracing and compilation.
        dims: For each site, the name of the plate of each of its axes, "" for an axis in none.
        sampler: The name of the sampler.
        settings: What adaptation arrived at (step size, trajectory length, ...), and what was asked for.
        remarks: What went wrong or deserves a look, in words: chains that never moved, an interrupted run.
    """

    samples: dict[str, Tensor]
    log_density: Tensor
    divergent: Tensor
    acceptance: Tensor
    seconds: float
    preparation_seconds: float = 0.0
    dims: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sampler: str = ""
    settings: dict[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
