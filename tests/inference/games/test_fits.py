"""Games fitted in one call: the same as by step and loop, and what their results say."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from ppl_gen.critics import mlp_critic, patch_critic
from ppl_gen.data import Split, ring
from ppl_gen.inference import (
    GameFit,
    Record,
    adversarial_step,
    cycle_step,
    fit,
    fit_cycle,
    fit_gan,
    losses,
    moving_average,
)
from ppl_gen.models import CycleGAN, cycle_gan, gan
from ppl_gen.priors import Empirical

SHAPE = (1, 8, 8)


def adam(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), 2e-3, betas=(0.0, 0.9), fused=True)


def test_a_gan_is_fitted_as_by_step_average_and_loop() -> None:
    torch.manual_seed(0)
    program, critic = gan((2,), 2, hidden=(8,)), mlp_critic((2,), hidden=(8,))
    other, other_critic = copy.deepcopy((program, critic))
    batches = Split(ring(200, seed=0)[0]).batches(50)
    played = fit_gan(program, critic, batches, losses.hinge, epochs=2, seed=1)

    average = moving_average(other)
    step = adversarial_step(
        other, other_critic, adam(other), adam(other_critic), losses.hinge, r1=0.1, average=average
    )
    torch.manual_seed(1)
    records = fit(step, batches, 2, progress=False)
    assert [record.metrics for record in played.records] == [record.metrics for record in records]
    for one, two in zip(played.program.parameters(), average.module.parameters(), strict=True):
        assert torch.equal(one, two)


def domains(count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(count, *SHAPE, generator=generator)
    return a, a.flip(0).flip(-1)


def test_translators_are_fitted_as_by_step_and_loop_at_a_falling_rate() -> None:
    torch.manual_seed(0)
    a, b = domains()
    program = cycle_gan(a, b, width=4, blocks=1)
    critics = patch_critic(1, width=4, layers=1), patch_critic(1, width=4, layers=1)
    other, other_critics = copy.deepcopy((program, critics))
    played = fit_cycle(program, critics, [(a, b)], epochs=4, seed=1)

    optimizers = [adam(module) for module in (other, *other_critics)]
    step = cycle_step(
        other,
        other_critics,
        optimizers[0],
        (optimizers[1], optimizers[2]),
        losses.non_saturating,
        identity=0.0,
        r1=0.1,
    )
    torch.manual_seed(1)
    for rate in (2e-3, 2e-3, 2e-3, 1e-3):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate
        metrics = step(a, b)
    for one, two in zip(program.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    assert played.last["cycle"] == pytest.approx(float(metrics["cycle"]))
    assert played.perfect == 0


class Mirror(nn.Module):
    """What two linear layers begin at, so that all that moves is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(64) + 0.01)

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(-3) @ self.weight).unflatten(-1, SHAPE)


def test_pairs_are_differences_of_translations_from_what_they_should_be() -> None:
    torch.manual_seed(0)
    a, b = domains()
    program = CycleGAN(Empirical(a), Empirical(b), Mirror(), Mirror())
    critics = patch_critic(1, width=4, layers=1), patch_critic(1, width=4, layers=1)
    known = a[:2], a[:2].flip(-1)
    off = (program.to_b(known[0]) - known[1]).abs().mean()
    off = (off + (program.to_a(known[1]) - known[0]).abs().mean()) / 2
    played = fit_cycle(program, critics, [(a, b)], epochs=150, cycle=0.0, rate=0.01, pairs=known)
    assert played.records[0].metrics["pairs"] == pytest.approx(float(off), rel=1e-5)
    assert played.last["pairs"] < 0.2 * float(off)


def test_pairs_of_another_shape_or_number_are_refused() -> None:
    a, b = domains()
    program = cycle_gan(a, b, width=4, blocks=1)
    critics = patch_critic(1, width=4, layers=1), patch_critic(1, width=4, layers=1)
    for known in ((a[:2], b[:3]), (a[:0], b[:0]), (a[:2, :, :4], b[:2, :, :4])):
        with pytest.raises(ValueError, match=r"expected pairs \(a, b\) of images \(K, 1, 8, 8\)"):
            fit_cycle(program, critics, [(a, b)], epochs=1, pairs=known)
    with pytest.raises(ValueError, match="pair_weight"):
        fit_cycle(program, critics, [(a, b)], epochs=1, pairs=(a, b), pair_weight=-1.0)


def test_a_lost_game_is_said() -> None:
    def played(**metrics: float) -> GameFit:
        return GameFit(None, [Record(1, metrics, 10, 0.1)], perfect=0.0)

    assert played(critic=1.3, generator=0.7, spread=0.9).verdict.passes is None
    lost = played(critic=1e-4, generator=9.0, spread=0.01).verdict
    assert lost.tags == ("no-contest", "alike")
    assert lost.passes is False


def test_what_is_out_of_range_is_refused() -> None:
    x = torch.zeros(4, 2)
    with pytest.raises(ValueError, match="rate above 0"):
        fit_gan(gan((2,), 2), mlp_critic((2,)), [(x,)], epochs=1, rate=0.0)
    with pytest.raises(ValueError, match="epochs"):
        fit_gan(gan((2,), 2), mlp_critic((2,)), [(x,)], epochs=0)
