"""Where draws can be is read off their last operation, and data elsewhere are warned of."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from games import adam
from torch import Tensor, nn

from ppl_gen.critics import mlp_critic, patch_critic
from ppl_gen.inference import adversarial_step, cycle_step, moment_step
from ppl_gen.inference.reach import reach
from ppl_gen.likelihoods import Dirac, Gaussian
from ppl_gen.models import cycle_gan, dcgan, gan, gmmn, vae
from ppl_gen.program import Observed
from ppl_gen.protocols import Program, Step

SHAPE = (1, 8, 8)
UNIT = (0.0, 1.0)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (torch.sigmoid, UNIT),
        (nn.Tanh(), (-1.0, 1.0)),
        (lambda v: v.relu().unflatten(1, (2, 2)).movedim(1, 2), (0.0, math.inf)),
        (lambda v: nn.functional.softplus(v).double()[:, :3], (0.0, math.inf)),
        (nn.Softmax(-1), UNIT),
        (nn.Linear(4, 2), None),
        (lambda v: 2 * v.sigmoid() - 1, None),
    ],
)
def test_the_last_operation_says_where_draws_are(
    last: Callable[[Tensor], Tensor], expected: tuple[float, float] | None
) -> None:
    drawn = last(torch.randn(3, 4, requires_grad=True))
    assert reach(drawn) == expected
    assert reach(drawn.detach()) is None


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (gan(SHAPE, 2), UNIT),
        (gan((2,), 2), None),
        (dcgan((1, 9, 13), 2, width=4), UNIT),
        (Observed(vae(SHAPE, 2), Dirac()), UNIT),
        (vae(SHAPE, 2, likelihood=Gaussian()), None),
    ],
)
def test_programs_of_images_draw_from_0_to_1(
    program: Program, expected: tuple[float, float] | None
) -> None:
    assert reach(program.model(None, n=2)) == expected


def _by_a_critic() -> Step:
    program = gan(SHAPE, 2, hidden=(8,))
    critic = mlp_critic(SHAPE, hidden=(8,))
    return adversarial_step(program, critic, adam(program), adam(critic))


def _by_moments() -> Step:
    program = gmmn(SHAPE, 2, hidden=(8,))
    return moment_step(program, adam(program))


@pytest.mark.parametrize("made", [_by_a_critic, _by_moments])
def test_data_that_no_draw_can_be_like_are_warned_of_once(made: Callable[[], Step]) -> None:
    x = torch.rand(6, *SHAPE)
    step = made()
    with pytest.warns(RuntimeWarning, match=r"draws, from 0 to 1 by its last layer, got \d+% of"):
        step(2 * x - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(2 * x - 1)
        made()(x)
        made()(1.005 * x)


def test_translators_are_warned_of_by_name() -> None:
    a, b = torch.rand(6, *SHAPE), 2 * torch.rand(6, *SHAPE) - 1
    program = cycle_gan(a, b, width=4, blocks=1)
    critics = (patch_critic(1, width=4, layers=1), patch_critic(1, width=4, layers=1))
    step = cycle_step(program, critics, adam(program), (adam(critics[0]), adam(critics[1])))
    with pytest.warns(RuntimeWarning, match="expected data where to_b draws") as said:
        step(a, b)
    assert len(said) == 1
