"""Recordings without a CUDA device: a function is called again at the memory of its first call.

As CUDA does, a recording computes nothing while it is made, reads and writes the places that its
inputs had then, wherever these have gone, and gives its results in the same places each time.
"""

from __future__ import annotations

__all__ = ["Pretended", "recording"]

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from ppl_gen.inference.engine import captured


class Pretended:
    """Stands for a recording.

    Attributes:
        made: How many were made, trials included.
        outputs: Where the results lie.
    """

    made = 0
    outputs: list[Tensor | None]

    def __init__(self, run: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
        type(self).made += 1
        self._run = run
        self._places = [t.detach() for t in inputs]
        before = [t.clone() for t in self._places]
        state = torch.get_rng_state()
        self.outputs = []
        for t in run(*self._places):
            place = None
            if t is not None:
                place = torch.empty_like(t, requires_grad=False)
                place.copy_(torch.full_like(place, -12345))
            self.outputs.append(place)
        for t, old in zip(self._places, before, strict=True):
            if not torch.equal(t, old):
                t.copy_(old)
        torch.set_rng_state(state)

    def replay(self) -> None:
        for place, t in zip(self.outputs, self._run(*self._places), strict=True):
            if place is not None:
                place.copy_(t)

    @staticmethod
    def warm_up(run: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
        for _ in range(3):
            run(*inputs)


@contextmanager
def recording(recorder: type = Pretended) -> Iterator[type]:
    """Graphs are recorded on the processor, and are not compiled."""
    Pretended.made = 0
    uncompiled = patch("ppl_gen.inference.engine.replay.compiled", lambda graph, inputs: graph)
    with patch.dict(captured.RECORDERS, cpu=recorder), uncompiled:
        yield recorder
