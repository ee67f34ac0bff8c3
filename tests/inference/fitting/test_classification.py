"""Classifiers: their cross-entropy, engines, what an encoder is worth, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen.inference import classification_step, fit
from ppl_gen.models import autoencoder, classifier


def made() -> nn.Module:
    torch.manual_seed(0)
    return classifier(autoencoder((1, 4, 4), 5, hidden=(6,)).encoder, 5, 3)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(9, 1, 4, 4), torch.arange(9) % 3


def test_a_step_descends_the_cross_entropy(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    net = made()
    expected = F.cross_entropy(net(x), y)
    gradient = torch.autograd.grad(expected, net[1].weight)[0]
    before = net[1].weight.detach().clone()
    step = classification_step(net, torch.optim.SGD(net.parameters(), 0.1))
    assert float(step(x, y)["cross_entropy"]) == pytest.approx(float(expected.detach()))
    torch.testing.assert_close(net[1].weight.detach(), before - 0.1 * gradient)


def test_engines_make_the_same_steps(batch: tuple[Tensor, Tensor]) -> None:
    found = []
    for engine in ("eager", "fx"):
        net = made()
        step = classification_step(net, torch.optim.Adam(net.parameters(), 0.01), engine=engine)
        records = fit(step, [batch], 5, progress=False)
        found.append([record.metrics["cross_entropy"] for record in records])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0][-1] < found[0][0]


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ((torch.rand(4, 1, 4, 4),), "expected batches (x, y)"),
        ((torch.rand(4, 1, 3, 3), torch.zeros(4).long()), "expected a classifier that takes"),
        ((torch.rand(4, 1, 4, 4), torch.zeros(4)), "expected labels of shape (4,), whole"),
        ((torch.rand(4, 1, 4, 4), torch.zeros(3).long()), "expected labels of shape (4,), whole"),
        ((torch.rand(4, 1, 4, 4), torch.full((4,), 3)), "expected labels from 0 to 2, got 3"),
        ((torch.rand(4, 1, 4, 4), torch.full((4,), -1)), "expected labels from 0 to 2, got -1"),
    ],
    ids=["no labels", "other data", "floats", "too few", "too large", "missing"],
)
def test_bad_batches(batch: tuple[Any, ...], said: str) -> None:
    net = made()
    step = classification_step(net, torch.optim.Adam(net.parameters()))
    with pytest.raises(ValueError, match=re.escape(said)):
        step(*batch)


def test_a_network_without_logits() -> None:
    net = nn.Linear(4, 4)
    step = classification_step(net, torch.optim.Adam(net.parameters()))
    with pytest.raises(ValueError, match=r"expected a classifier that gives logits \(N, K\)"):
        step(torch.rand(4, 1, 4, 4), torch.zeros(4).long())
    with pytest.raises(ValueError, match="classes"):
        classifier(net, 4, 0)
