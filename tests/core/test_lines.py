"""The likelihood of lines: a mass, the draws of that mass, and what is hidden in fitting."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from ppl_gen.likelihoods import Lines


def _net(**options: float) -> Lines:
    torch.manual_seed(0)
    return Lines(3, 3, hidden=6, embedding=4, **options).eval()


def _all_lines() -> Tensor:
    """The 15 lines of up to three tokens of two kinds."""
    x = torch.tensor(list(itertools.product(range(3), repeat=3)))
    return x[_net()(torch.zeros(6)).support.check(x)]


def test_it_is_a_mass_over_lines() -> None:
    lines = _all_lines()
    assert len(lines) == 1 + 2 + 4 + 8
    d = _net()(torch.randn(5, 6))
    mass = d.log_prob(lines[:, None]).exp()
    assert mass.shape == (15, 5)
    torch.testing.assert_close(mass.sum(0), torch.ones(5))


def test_draws_follow_the_mass() -> None:
    d = _net()(3 * torch.randn(6))
    lines = _all_lines()
    n = 4000
    drawn = d.sample((n,))
    assert bool(d.support.check(drawn).all())
    share = (drawn[:, None] == lines).all(-1).double().mean(0)
    mass = d.log_prob(lines).exp().double()
    error = (mass * (1 - mass) / n).sqrt()
    assert bool(((share - mass).abs() < 4 * error + 1e-3).all())


def test_the_mode_is_the_likeliest_token_at_each_place() -> None:
    d = _net()(3 * torch.randn(4, 6))
    mode = d.mode
    assert bool(d.support.check(mode).all())
    lines = _all_lines()
    mass = d.log_prob(lines[:, None]).exp().detach()
    for i in range(4):
        by_first = [float(mass[lines[:, 0] == k, i].sum()) for k in range(3)]
        assert int(mode[i, 0]) == by_first.index(max(by_first))


def test_what_stands_behind_the_end_adds_no_nats() -> None:
    """The same line under a net of the same weights that takes longer ones."""
    short = _net()
    torch.manual_seed(0)
    long = Lines(3, 5, hidden=6, embedding=4).eval()
    context = torch.randn(6)
    x = torch.tensor([2, 1, 0])
    torch.testing.assert_close(
        short(context).log_prob(x), long(context).log_prob(torch.tensor([2, 1, 0, 0, 0]))
    )


def test_words_are_dropped_in_training_alone() -> None:
    net = _net(word_dropout=0.5)
    x = torch.tensor([[1, 2, 1]]).expand(50, 3)
    context = torch.zeros(50, 6)
    assert float(net(context).log_prob(x).std()) < 1e-6
    net.train()
    assert float(net(context).log_prob(x).std()) > 1e-3


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((1, 5), {}, "with the end of a line, of at least 2, got 1"),
        ((3, 0), {}, "expected length of at least 1, got 0"),
        ((3, 5), {"hidden": 0}, "expected hidden units of at least 1, got 0"),
        ((3, 5), {"word_dropout": 1.0}, "expected word_dropout from 0 to below 1, got 1.0"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: tuple[int, int], options: dict[str, float], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Lines(*arguments, **options)
