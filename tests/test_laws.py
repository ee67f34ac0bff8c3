"""Programs × laws, in one table."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from ppl_gen.inference.checks import check
from ppl_gen.models import vae
from programs import PROGRAMS
from torch import Tensor, nn

from ppl_gen.testing import LAWS, _Case, check_program


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_law(name: str, law: str) -> None:
    program, x, context = PROGRAMS[name]()
    LAWS[law](_Case(program, program.guide, x, tuple(context), check(program, program.guide, x, *context)))


def test_all_laws_in_one_call_leave_the_generator_alone(binary: Tensor) -> None:
    program = vae((1, 8, 8), 2)
    state = torch.get_rng_state()
    check_program(program, binary)
    assert torch.equal(torch.get_rng_state(), state)


class _Idle(nn.Module):
    """A likelihood with a parameter that nothing depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.zeros(3))

    def forward(self, logits: Tensor) -> dist.Bernoulli:
        return dist.Bernoulli(logits=logits)


class _Leaky(nn.Module):
    """A likelihood whose logits depend on the other data of the batch."""

    def forward(self, logits: Tensor) -> dist.Bernoulli:
        return dist.Bernoulli(logits=logits - logits.mean(-4, keepdim=True))


class _Forgetful(nn.Module):
    """A likelihood that scores particles otherwise than a single draw."""

    def forward(self, logits: Tensor) -> dist.Bernoulli:
        return dist.Bernoulli(logits=logits + logits.dim())


@pytest.mark.parametrize(
    ("likelihood", "law"),
    [
        (_Idle(), "gradients reach every parameter"),
        (_Leaky(), "data do not see each other"),
        (_Forgetful(), "leading axes are a loop"),
    ],
)
def test_a_broken_program_is_named(likelihood: nn.Module, law: str, binary: Tensor) -> None:
    with pytest.raises(AssertionError, match=f"law broken, '{law}'"):
        check_program(vae((1, 8, 8), 2, likelihood=likelihood), binary)
