"""The density of a posterior at many points at once, on the engine, and how often it was asked."""

from __future__ import annotations

__all__ = ["Evaluations"]

from torch import Tensor

from ppl_gen.inference.engine.replay import Engine, Replay
from ppl_gen.inference.latents.potential import Potential


class Evaluations:
    """U and ∂U/∂q of a potential, by the engine that pays; stands where `Energies` are wanted.

    Args:
        potential: U(q) of a posterior.
        engine: How they are computed: "eager" calls the program, "fx" replays its graph,
            "inductor" compiles the graph, "cuda-graph" records it on a CUDA device, "auto" chooses
            by the number of calls. A program that vmap cannot follow is called point by point.

    Attributes:
        count: At how many points the gradient was computed so far.
    """

    def __init__(self, potential: Potential, engine: Engine = "auto") -> None:
        self.count = 0
        self._energies, obstacle = potential.fastest
        if obstacle is not None:
            engine = "eager"
        self._replay = Replay(engine, what="log density")

    def __call__(self, q: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """U (C, B) and ∂U/∂q (C, B, D).

        Args:
            q: Points, (C, B, D).
            *tensors: Those of the potential.
        """
        self.count += len(q)
        energy, gradient = self._replay(self._energies, q, *tensors)
        return energy, gradient
