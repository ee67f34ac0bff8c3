"""What guide and model compute alike is computed once in a step, with the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from ppl_gen.inference import IWAE, svi_step
from ppl_gen.models import draw, hierarchical_vae
from ppl_gen.sharing import shared, sharing


def _draw() -> tuple[Any, nn.Module]:
    program = draw((1, 8, 8), 2, steps=3, hidden=12)
    return program, program.decoder


def _top_down() -> tuple[Any, nn.Module]:
    program = hierarchical_vae((1, 8, 8), (4, 3), hidden=(8, 8), top_down=True)
    return program, program.layers[0]


# A program whose guide goes through a part of its model, and how often the model calls that part.
PROGRAMS = {"draw": (_draw, 3), "top-down": (_top_down, 1)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_step_calls_a_shared_part_as_often_as_the_model_alone(name: str, binary: Tensor) -> None:
    make, expected = PROGRAMS[name]
    program, part = make()
    step = svi_step(program, torch.optim.Adam(program.parameters()), engine="eager")
    step(binary)  # with the checks of a first batch
    calls = []
    part.register_forward_hook(lambda *called: calls.append(None))
    step(binary)
    assert len(calls) == expected
    program.model(binary)
    assert len(calls) == 2 * expected


@pytest.mark.parametrize("elbo", [Trace_ELBO, lambda: IWAE(3)], ids=["ELBO", "IWAE"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_loss_and_gradient_are_those_of_two_passes(
    name: str, elbo: Callable[[], Any], binary: Tensor
) -> None:
    torch.manual_seed(0)
    program, _ = PROGRAMS[name][0]()
    objective = elbo()
    if isinstance(objective, IWAE):
        objective.max_plate_nesting = 1

    def differentiated() -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        loss = objective.differentiable_loss(program.model, program.guide, binary)
        return loss, *torch.autograd.grad(loss, list(program.parameters()))

    apart = differentiated()
    with sharing():
        together = differentiated()
    for a, b in zip(apart, together, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_other_draws_are_computed_anew(binary: Tensor) -> None:
    """A model at draws of its own gives what it gives alone, though a guide ran before it."""
    program, _ = _draw()
    with sharing():
        guided = poutine.trace(program.guide).get_trace(binary)
        latents = {name: guided.nodes[name]["value"] for name in ("z1", "z2", "z3")}
        other = {name: z + 1 for name, z in latents.items()}
        model = poutine.condition(program.model, other)
        together = poutine.trace(model).get_trace(binary).log_prob_sum()
    alone = poutine.trace(model).get_trace(binary).log_prob_sum()
    assert torch.equal(together, alone)
    replayed = poutine.replay(program.model, trace=guided)
    assert not torch.equal(poutine.trace(replayed).get_trace(binary).log_prob_sum(), alone)


def test_equal_values_are_not_the_same_tensor() -> None:
    calls = []

    def part(x: Tensor) -> Tensor:
        calls.append(x)
        return 2 * x

    x = torch.ones(2)
    with sharing():
        assert shared(part, x) is shared(part, x)
        with torch.no_grad():  # a result without a gradient stands in for none that has one
            shared(part, x)
        shared(part, x.clone())
        assert len(calls) == 3
    assert shared(part, x) is not shared(part, x)
