"""The adversarial step: one side at a time, parts that combine, and games that end where they
should.
"""

from __future__ import annotations

import math
import warnings

import pyro.distributions as dist
import pytest
import torch
from games import GAMES, adam, sgd
from programs import digits
from torch import Tensor, nn

from ppl_gen.critics import conv_critic, mlp_critic, spectral
from ppl_gen.data.toys import modes_covered, ring
from ppl_gen.inference import NotFinite, adversarial_step, fit, moving_average
from ppl_gen.inference.games.game import spread_of
from ppl_gen.models import CGAN, cgan, dcgan, gan
from ppl_gen.nn import Condition
from ppl_gen.program import simulate


class _Witness:
    """Copies the state of both sides whenever the critic is called: trained where its parameters
    want gradients.
    """

    def __init__(self, program: nn.Module, critic: nn.Module) -> None:
        self.program, self.critic = program, critic
        self.seen: list[tuple[bool, dict[str, Tensor], dict[str, Tensor]]] = []
        critic.register_forward_pre_hook(lambda *_: self.look())

    def look(self) -> None:
        states = [
            {k: v.clone() for k, v in m.state_dict().items()} for m in (self.program, self.critic)
        ]
        self.seen.append(
            (all(p.requires_grad for p in self.critic.parameters()), states[0], states[1])
        )


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(v, other[k]) for k, v in one.items())


def test_while_one_side_moves_the_other_standsstill_to_the_last_bit() -> None:
    program, critic = (
        dcgan((1, 8, 8), 4, width=8),
        spectral(conv_critic((1, 8, 8), width=8, normalise=True)),
    )
    step = adversarial_step(program, critic, adam(program), adam(critic), critic_steps=3, r1=0.1)
    x = digits().x[:20]
    step(x)
    witness = _Witness(program, critic)
    step(x)
    witness.look()
    criticised = [program_state for moving, program_state, _ in witness.seen[:-2]]
    tracked = "decoder.1.net.1.num_batches_tracked"
    # The draw that the generator learns from counts in its batch normalisation; those that only the
    # critic sees do not.
    last = [state for state in criticised if state[tracked] == criticised[-1][tracked]]
    assert all(_same(criticised[0], state) for state in criticised[: -len(last)])
    assert all(_same(last[0], state) for state in last)
    learned = {k for k, _ in program.named_parameters()}
    assert all(_same({k: criticised[0][k] for k in learned}, state) for state in criticised)
    before, after = witness.seen[-2], witness.seen[-1]
    assert not before[0]  # the generator's turn
    assert _same(before[2], after[2])
    assert not _same({k: before[1][k] for k in learned}, after[1])
    assert not _same(witness.seen[0][2], before[2])


def test_a_moving_average_is_its_formula() -> None:
    program = gan((2,), 2, hidden=(4,))
    average = moving_average(program, decay=0.5)
    expected = [p.detach().clone() for p in program.parameters()]
    for n in range(5):
        with torch.no_grad():
            for p in program.parameters():
                p += torch.randn_like(p)
        average.update_parameters(program)
        weight = 0.0 if n == 0 else min(0.5, (1 + n) / (10 + n))
        expected = [
            weight * e + (1 - weight) * p.detach()
            for e, p in zip(expected, program.parameters(), strict=True)
        ]
    for mine, theirs in zip(average.module.parameters(), expected, strict=True):
        torch.testing.assert_close(mine.data, theirs)
    assert simulate(average.module, 3).shape == (3, 2)


def test_the_spread_is_that_of_the_coordinates_in_which_data_differ() -> None:
    data = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
    still = torch.tensor([[1.0, 0.0], [1.0, 9.0]])  # alike where data differ, and the reverse
    assert float(spread_of(still, data)) == 0.0
    assert float(spread_of(3 * data, data)) == pytest.approx(3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(spread_of(still[:1], data[:1])) == 1.0
        assert float(spread_of(still, torch.ones(2, 2))) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_eight_modes_on_a_ring_are_all_found(seed: int) -> None:
    torch.manual_seed(seed)
    program, critic = gan((2,), 2, hidden=(128, 128)), mlp_critic((2,), hidden=(128, 128))
    average = moving_average(program)
    step = adversarial_step(program, critic, adam(program), adam(critic), r1=0.1, average=average)
    for _ in range(3000):
        step(ring(256)[0])
    found = modes_covered(simulate(average.module, 4000))
    assert found.modes == 8
    assert found.share >= 0.9


@pytest.mark.parametrize("name", GAMES)
def test_parts_combine_freely(name: str) -> None:
    program, critic, context, options = GAMES[name]()
    x = torch.randn(6, 2) if name == "gan of vectors" else digits().x[:6]
    step = adversarial_step(program, critic, adam(program), adam(critic), **options)
    # A bias that moves all scores alike has no gradient under some losses.
    moved = {
        n: p
        for part in (program, critic)
        for n, p in part.named_parameters()
        if p.dim() > 1 and "encoder" not in n
    }
    before = {n: p.detach().clone() for n, p in moved.items()}
    records = fit(step, [(x, *context)], 2, progress=False)
    assert all(math.isfinite(v) for v in records[-1].metrics.values())
    assert {"critic", "generator", "spread"} <= records[-1].metrics.keys()
    assert [n for n, p in moved.items() if torch.equal(p, before[n])] == []


def test_labels_that_the_program_does_not_take_are_left_out() -> None:
    program, critic = gan((1, 8, 8), 3), mlp_critic((1, 8, 8))
    metrics = adversarial_step(program, critic, adam(program), adam(critic))(
        digits().x[:6], digits().y[:6]
    )
    assert math.isfinite(float(metrics["critic"]))


@pytest.mark.long
def test_the_label_reaches_generator_and_critic() -> None:
    program = cgan((2,), 1, classes=2, hidden=(32,))
    critic, average = mlp_critic((2,), classes=2, hidden=(32,)), moving_average(program, 0.99)
    step = adversarial_step(
        program, critic, adam(program, 5e-3), adam(critic, 5e-3), r1=0.1, average=average
    )
    centres = torch.tensor([[-1.0, 0.0], [1.0, 0.5]])
    for _ in range(600):
        y = torch.randint(2, (128,))
        step(centres[y] + 0.1 * torch.randn(128, 2), y)
    drawn = simulate(average.module, 1000, torch.arange(1000) % 2)
    nearest = torch.cdist(drawn, centres).argmin(-1)
    assert float((nearest == torch.arange(1000) % 2).float().mean()) > 0.95


@pytest.mark.long
def test_a_lost_game_is_said_once() -> None:
    program, critic = gan((2,), 2, hidden=(8,)), mlp_critic((2,), hidden=(32,))
    step = adversarial_step(program, critic, sgd(program), adam(critic, 1e-2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2100):
            step(10 + torch.randn(64, 2))
    assert [w.category for w in caught] == [RuntimeWarning]
    assert "the critic tells all draws from data" in str(caught[0].message)
    assert "r1=1" in str(caught[0].message)


def test_draws_that_are_all_alike_are_said() -> None:
    program, critic = gan((2,), 2, hidden=(8,)), mlp_critic((2,), hidden=(8,))
    nn.init.zeros_(program.decoder[0][-1].weight)
    step = adversarial_step(program, critic, sgd(program), sgd(critic))
    with pytest.warns(RuntimeWarning, match="the draws are all alike"):
        for _ in range(1050):
            step(torch.randn(64, 2))


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    program, critic = gan((2,), 2, hidden=(8,)), mlp_critic((2,), hidden=(8,))
    bad = (lambda real, drawn: drawn.mean() - real.mean(), lambda drawn: drawn.mean() / 0.0)
    before = {k: v.clone() for k, v in program.state_dict().items()}
    with pytest.raises(NotFinite, match="loss of the generator at step 0"):
        adversarial_step(program, critic, adam(program), adam(critic), bad)(torch.randn(5, 2))
    assert _same(before, program.state_dict())


def test_a_program_of_one_s_own_is_a_gan() -> None:
    made = CGAN(
        lambda y: dist.Uniform(-torch.ones(2), torch.ones(2)).to_event(1),
        Condition(nn.Linear(5, 2), 3),
    )
    assert simulate(made, 4, torch.tensor([0, 1, 2, -1])).shape == (4, 2)


@pytest.mark.cuda
@pytest.mark.parametrize("side", [8, 64])
def test_a_game_runs_on_cuda(side: int) -> None:
    shape = (3, side, side)
    program, critic = dcgan(shape, 10, width=8).cuda(), conv_critic(shape, width=8).cuda()
    average = moving_average(program)
    step = adversarial_step(
        program, critic, adam(program), adam(critic), r1=0.1, penalty=1.0, average=average
    )
    for _ in range(60):
        metrics = step(torch.rand(16, *shape, device="cuda"))
    assert all(value.is_cuda and bool(torch.isfinite(value)) for value in metrics.values())
    assert simulate(average.module, 4).is_cuda
