"""Whether the networks of a program take leading axes, on which particles and chains lie."""

from __future__ import annotations

__all__ = ["expect_leading_axes"]

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from ppl_gen.contexts import evaluating, forked, owner, reason
from ppl_gen.program import log_density, propose
from ppl_gen.protocols import Guide, Program
from ppl_gen.sites import is_auxiliary, latent_sites

# How many draws of the latents are scored at once.
_DRAWS = 3
# Scores are the same up to this share of their size: other shapes are summed in another order.
_ROUNDING = 1e-3


def expect_leading_axes(
    program: Program, guide: Guide, nesting: int, data: Sequence[Tensor]
) -> None:
    """Raises ValueError unless several draws of the latents are scored as each of them alone.

    A network of images (ConvTranspose2d) or a layer that counts axes from the left (Unflatten(1,
    ...)) takes the axis of particles for that of the data. It fails, or reshapes across data
    without a word. The error names the network and `ppl_gen.nn.Batched`, which wraps it. Neither
    the random state nor any buffer is changed.

    Args:
        program: Any program whose sites fit those of its guide.
        guide: q(z | x, c).
        nesting: The number of axes that the plates take.
        data: A few data, (x, *context).
    """
    model = program.model
    with forked(data[0].device, 0), evaluating(program, guide):
        with _watched(data[0].shape[0]) as networks:
            try:
                latents = propose(guide, _DRAWS, nesting, *data).latents
                together = log_density(model, latents, *data).joint
            except Exception as error:
                if not _scores_one(program, guide, data):
                    return  # whoever runs it says what is wrong
                said = f"{type(error).__name__}: {reason(error)}"
                raise ValueError(_message(program, guide, networks, said)) from error
        if not latents:
            return
        alone = _scored_in_turn(model, latents, data)
        again = _scored_in_turn(model, latents, data)
    if _is_same(together, alone) or not _is_same(again, alone):
        return  # the latter of a density that is random, which has no score at all
    said = "their log densities are not those of each alone"
    raise ValueError(_message(program, guide, networks, said))


def _scores_one(program: Program, guide: Guide, data: Sequence[Tensor]) -> bool:
    """Whether a single draw of the guide, without an axis of particles, can be scored."""
    try:
        sites = latent_sites(poutine.trace(guide).get_trace(*data))
        latents = {name: site["value"] for name, site in sites.items() if not is_auxiliary(site)}
        log_density(program.model, latents, *data)
    except Exception:
        return False
    return True


def _scored_in_turn(model: Any, latents: Mapping[str, Tensor], data: Sequence[Tensor]) -> Tensor:
    """log p(x, z) of each draw by itself, (K, N)."""
    scores = []
    for k in range(_DRAWS):
        one = {name: z[k] for name, z in latents.items()}
        scores.append(log_density(model, one, *data).joint)
    return torch.stack(scores)


def _is_same(scores: Tensor, others: Tensor) -> bool:
    """Whether scores have the same shape and, but for rounding, the same values.

    Where one is not a number, a program has run away, which is said elsewhere.
    """
    if scores.shape != others.shape:
        return False
    known = ~(scores.isnan() | others.isnan())
    scores = scores[known]
    others = others[known]
    finite = others[others.isfinite()]
    size = 1.0
    if finite.numel():
        size += float(finite.abs().mean())
    return torch.allclose(scores, others, rtol=0.0, atol=_ROUNDING * size)


class _Networks:
    """The outermost modules that are called, with the shapes that they take and give.

    Args:
        count: The number of data.

    Attributes:
        running: The modules that were begun and have not returned, the outermost first, with the
            shapes of their inputs.
        given: Those that were given (particles, data, ...).
        reshaping: Those of them that gave other leading axes.
    """

    def __init__(self, count: int) -> None:
        self.leading = (_DRAWS, count)
        self.running: list[tuple[nn.Module, tuple[int, ...]]] = []
        self.given: list[tuple[nn.Module, tuple[int, ...]]] = []
        self.reshaping: list[tuple[nn.Module, tuple[int, ...]]] = []

    def begin(self, module: nn.Module, args: Any) -> None:
        """A module is called."""
        shape: tuple[int, ...] = ()
        if args and torch.is_tensor(args[0]):
            shape = tuple(args[0].shape)
        self.running.append((module, shape))

    def end(self, module: nn.Module, args: Any, output: Any) -> None:
        """A module returns."""
        call = self.running.pop()
        if self.running or call[1][:2] != self.leading or not torch.is_tensor(output):
            return
        self.given.append(call)
        if tuple(output.shape[:2]) != self.leading:
            self.reshaping.append(call)

    @property
    def suspect(self) -> tuple[nn.Module, tuple[int, ...]] | None:
        """What failed, else what reshaped, else the only one called; with its input's shape."""
        for call in (*self.running, *self.reshaping):
            if call[1][:2] == self.leading:
                return call
        if len({module for module, _ in self.given}) == 1:
            return self.given[0]
        return None


@contextmanager
def _watched(count: int) -> Iterator[_Networks]:
    """Watches the modules that are called meanwhile."""
    networks = _Networks(count)
    before = register_module_forward_pre_hook(networks.begin)
    after = register_module_forward_hook(networks.end)
    try:
        yield networks
    finally:
        before.remove()
        after.remove()


def _message(program: Program, guide: Guide, networks: _Networks, said: str) -> str:
    """What is wrong, with the network to be wrapped."""
    wrapped = (
        "count axes from the right and keep those of plates, as z.sum(-2, keepdim=True) does, or "
        "wrap the network in ppl_gen.nn.Batched"
    )
    if networks.suspect is not None:
        module, shape = networks.suspect
        name = _name_of(module, program, guide)
        axes = len(shape) - len(networks.leading)
        wrapped = f"wrap the network: {name} = ppl_gen.nn.Batched({name}, axes={axes})"
    return (
        "expected a program that takes leading axes, on which particles lie: one draw of the "
        f"latents of each datum is scored, {_DRAWS} at once are not ({said}); {wrapped}"
    )


def _name_of(module: nn.Module, program: Program, guide: Guide) -> str:
    """The path of a module in the program or its guide, or else its class."""
    for what, part in (("program", program), ("guide", owner(guide))):
        if isinstance(part, nn.Module):
            for path, other in part.named_modules():
                if other is module:
                    return f"{what}.{path}"
    return type(module).__name__
