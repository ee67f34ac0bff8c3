"""What is wrong with an adversarial game is said before it begins."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from games import sgd, still
from programs import digits
from torch import Tensor, nn

from ppl_gen.critics import conv_critic, mlp_critic
from ppl_gen.inference import adversarial_step, moving_average
from ppl_gen.models import cgan, gan, vae
from ppl_gen.nn import Condition
from ppl_gen.program import simulate


class _Discrete(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.program = vae((1, 8, 8), 2)
        self.model = self.program.model


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "no critic step": (lambda: _step(critic_steps=0), "expected critic_steps of at least 1, got 0"),
    "a negative penalty": (lambda: _step(r1=-1.0), "expected a finite r1 of at least 0, got -1.0"),
    "a penalty that is not finite": (
        lambda: _step(penalty=math.nan),
        "expected a finite penalty of at least 0, got nan",
    ),
    "data of another shape": (
        lambda: _step()(torch.randn(5, 3)),
        r"the shape that the program draws, \(2,\), got \(3,\)",
    ),
    "no data": (lambda: _step()(torch.randn(0, 2)), "N of at least 1"),
    "data that are not finite": (
        lambda: _step()(torch.full((5, 2), math.nan)),
        "expected finite data",
    ),
    "discrete draws": (
        lambda: adversarial_step(_Discrete(), mlp_critic((1, 8, 8)), sgd(still()), sgd(still()))(
            digits().x[:5]
        ),
        r"take Observed\(program, Dirac\(\)\)",
    ),
    "a score for all data at once": (
        lambda: _step(critic=lambda x: x.mean())(torch.randn(5, 2)),
        "expected one row of finite scores for each datum",
    ),
    "no label": (
        lambda: adversarial_step(
            cgan((2,), 2, classes=3), mlp_critic((2,), classes=3), sgd(still()), sgd(still())
        )(torch.randn(5, 2)),
        "expected 1 context tensors",
    ),
    "an optimiser of something else": (
        lambda: adversarial_step(gan((2,), 2), mlp_critic((2,)), sgd(still()), sgd(still()))(
            torch.randn(5, 2)
        ),
        "expected the optimiser of the critic to hold its parameters",
    ),
    "no site x": (
        lambda: _step(program=_Silent())(torch.randn(5, 2)),
        r"at a site 'x', got the sites \['z'\]",
    ),
    "a label of the last datum out of range": (
        lambda: adversarial_step(
            cgan((2,), 2, classes=3), mlp_critic((2,), classes=3), sgd(still()), sgd(still())
        )(torch.randn(5, 2), torch.tensor([0, 1, 2, 0, 3])),
        r"^expected labels in 0, …, 2, or −1 where missing, got 0 to 3$",
    ),
    "an embedding without its size": (
        lambda: mlp_critic((2,), embed=nn.Flatten()),
        "expected attributes, the length",
    ),
    "a critic of labels and attributes": (
        lambda: conv_critic((1, 8, 8), classes=3, attributes=2),
        "expected either classes or attributes, got classes=3 and attributes=2",
    ),
    "a decay of one": (
        lambda: moving_average(still(), 1.0),
        "expected a decay from 0 to below 1, got 1.0",
    ),
    "labels and an embedding": (
        lambda: Condition(nn.Linear(2, 2), classes=3, embed=nn.Flatten()),
        "expected classes or embed, got both",
    ),
    "labels out of range": (
        lambda: simulate(cgan((2,), 2, classes=3), 2, torch.tensor([0, 3])),
        "expected labels in 0, …, 2",
    ),
    "a cgan of nothing": (lambda: cgan((2,), 2), "expected either classes or attributes"),
}


class _Silent(nn.Module):
    def model(self, x: Tensor | None = None, *, n: int = 1) -> None:
        with pyro.plate("data", n):
            pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))


def _step(critic: Any = None, program: Any = None, **options: Any) -> Any:
    program = program or gan((2,), 2, hidden=(4,))
    critic = critic or mlp_critic((2,), hidden=(4,))
    return adversarial_step(program, critic, sgd(still()), sgd(still()), **options)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    run, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        run()


def test_a_label_out_of_range_is_refused_in_any_batch() -> None:
    program, critic = cgan((2,), 2, classes=3), mlp_critic((2,), classes=3)
    step = adversarial_step(program, critic, sgd(program), sgd(critic))
    x = torch.randn(5, 2)
    step(x, torch.tensor([0, 1, 2, 0, 1]))
    with pytest.raises(ValueError, match="got 0 to 3"):
        step(x, torch.tensor([0, 1, 2, 0, 3]))
