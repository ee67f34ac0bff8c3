"""Games by one graph: the same as move by move, whatever the game."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from games import GAMES, adam, sgd
from torch import Tensor, nn

from ppl_gen.critics import mlp_critic, patch_critic
from ppl_gen.inference import (
    NotFinite,
    adversarial_step,
    bidirectional_step,
    cycle_step,
    moving_average,
)
from ppl_gen.inference.games.cycle import ImagePool
from ppl_gen.models import ali, cycle_gan, gan

Made = tuple[Callable[..., Any], list[nn.Module], tuple[Tensor, ...]]


def _game(name: str, engine: str) -> Made:
    program, critic, context, options = GAMES[name]()
    x = torch.rand(6, 2) if name == "gan of vectors" else torch.rand(6, 1, 8, 8)
    average = moving_average(program, 0.9)
    options = {**options, "average": average, "engine": engine}
    step = adversarial_step(program, critic, adam(program), adam(critic), **options)
    return step, [program, critic, average], (x, *context)


def _bidirectional(engine: str) -> Made:
    program, critic = ali((1, 4, 4), 2, hidden=(4,)), mlp_critic((1, 4, 4), attributes=2, hidden=())
    step = bidirectional_step(
        program, critic, adam(program), adam(critic), critic_steps=2, r1=1.0, engine=engine
    )
    return step, [program, critic], (torch.rand(6, 1, 4, 4),)


def _cycle(engine: str) -> Made:
    a, b = torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8)
    program = cycle_gan(a, b, width=2, blocks=1)
    critics = patch_critic(1, width=2, layers=1), patch_critic(1, width=2, layers=1)
    pools = ImagePool(6, (1, 8, 8)), ImagePool(6, (1, 8, 8))
    optimizers = adam(critics[0]), adam(critics[1])
    step = cycle_step(
        program, critics, adam(program), optimizers, r1=0.1, pools=pools, engine=engine
    )
    return step, [program, *critics, *pools], (a, b)


MAKE: dict[str, Callable[[str], Made]] = {
    **{name: lambda engine, name=name: _game(name, engine) for name in GAMES},
    "bidirectional": _bidirectional,
    "cycle": _cycle,
}

_FEW = ["gan of vectors", "cgan, labels"]


def _played(make: Callable[[str], Made], engine: str, steps: int) -> tuple[Any, list[Tensor]]:
    torch.manual_seed(0)
    step, modules, batch = make(engine)
    found = []
    for _ in range(steps):
        found.append({name: float(value) for name, value in step(*batch).items()})
    state = []
    for module in modules:
        state.extend([*module.parameters(), *module.buffers()])
    return found, [tensor.detach().double() for tensor in (*state, torch.rand(3))]


def _expect_the_same(name: str, engine: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics, state = _played(MAKE[name], engine, 5)
    expected_metrics, expected = _played(MAKE[name], "eager", 5)
    for mine, theirs in zip(metrics, expected_metrics, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-8)
    for mine, theirs in zip(state, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


@pytest.fixture(autouse=True)
def _in_double_precision() -> Iterator[None]:
    """Adam makes steps of their own out of gradients that are zero but for rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", _FEW)
def test_a_graph_makes_the_same_moves(name: str) -> None:
    _expect_the_same(name, "fx")


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in MAKE if name not in _FEW])
def test_a_graph_makes_the_same_moves_in_any_game(name: str) -> None:
    _expect_the_same(name, "fx")


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_a_compiled_graph_makes_the_same_moves(name: str) -> None:
    _expect_the_same(name, "inductor")


def test_a_loss_that_is_not_finite_moves_nobody() -> None:
    program, critic = gan((2,), 3, hidden=(8,)), mlp_critic((2,), hidden=(8,))
    step = adversarial_step(program, critic, adam(program), adam(critic), engine="fx")
    for _ in range(3):
        step(torch.rand(6, 2))
    before = [p.detach().clone() for p in (*program.parameters(), *critic.parameters())]
    with pytest.raises(NotFinite, match="loss of the critic at step 3 is not finite"):
        step(torch.full((6, 2), torch.nan))
    for p, kept in zip((*program.parameters(), *critic.parameters()), before, strict=True):
        assert torch.equal(p, kept)
    step(torch.rand(6, 2))


def test_the_generator_alone_stays_where_only_its_loss_is_not_finite() -> None:
    program, critic = gan((2,), 3, hidden=(8,)), mlp_critic((2,), hidden=(8,))
    weight = torch.nn.Parameter(torch.ones(()), requires_grad=False)
    program.weight = weight
    step = adversarial_step(
        program,
        critic,
        adam(program),
        adam(critic),
        auxiliary=lambda drawn, x: program.weight.log(),
        engine="fx",
    )
    for _ in range(3):
        step(torch.rand(6, 2))
    with torch.no_grad():
        weight.zero_()
    kept = [p.detach().clone() for p in program.parameters()]
    moved = [p.detach().clone() for p in critic.parameters()]
    with pytest.raises(NotFinite, match="loss of the generator at step 3 is not finite"):
        step(torch.rand(6, 2))
    assert all(map(torch.equal, program.parameters(), kept))
    assert not any(map(torch.equal, critic.parameters(), moved))


def test_other_optimisers_than_adam_are_said_to_be_eager() -> None:
    program, critic = gan((2,), 3, hidden=(8,)), mlp_critic((2,), hidden=(8,))
    step = adversarial_step(program, critic, sgd(program), adam(critic), engine="fx")
    with pytest.warns(RuntimeWarning, match="of the generator is neither Adam nor AdamW"):
        step(torch.rand(6, 2))


def test_parameters_that_were_replaced_are_said() -> None:
    program, critic = gan((2,), 3, hidden=(8,)), mlp_critic((2,), hidden=(8,))
    step = adversarial_step(program, critic, adam(program), adam(critic), engine="fx")
    step(torch.rand(6, 2))
    layer = next(m for m in program.modules() if isinstance(m, nn.Linear))
    layer.weight = nn.Parameter(layer.weight.detach() + 1)
    with pytest.raises(ValueError, match="parameters of the generator that the step was built"):
        step(torch.rand(6, 2))


@pytest.mark.long
def test_frozen_weights_and_new_rates_are_minded() -> None:
    found = []
    for engine in ("fx", "eager"):
        torch.manual_seed(0)
        program, critic = gan((2,), 3, hidden=(8,)), mlp_critic((2,), hidden=(8,))
        players = adam(program), adam(critic)
        step = adversarial_step(program, critic, *players, engine=engine)
        x = torch.rand(6, 2)
        step(x)
        frozen = next(program.parameters())
        frozen.requires_grad_(False)
        before = frozen.detach().clone()
        step(x)
        assert torch.equal(frozen, before)
        frozen.requires_grad_(True)
        players[1].param_groups[0]["lr"] = 0.1
        step(x)
        found.append([*program.parameters(), *critic.parameters()])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)
