"""Guides: each family in each builder, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ppl_gen import guides
from ppl_gen.models import conv_vae, cvae, vae
from ppl_gen.nn import mlp


def test_the_default_family_makes_the_network_of_means_and_log_scales():
    torch.manual_seed(0)
    program = vae((5,), 2, hidden=(4,))
    torch.manual_seed(0)
    encoder = mlp([5, 4, 4], nn.Tanh)
    decoder = mlp([2, 4, 5], nn.Tanh)
    x = torch.rand(3, 5)
    assert torch.equal(program.encoder(x).mean, encoder(x)[:, :2])
    assert torch.equal(program.decoder(torch.ones(2)), decoder(torch.ones(2)))


@pytest.mark.parametrize(
    "build",
    [
        lambda **options: vae((5,), 2, **options),
        lambda **options: cvae((5,), 2, classes=3, **options),
        lambda **options: conv_vae((1, 8, 8), 2, **options),
    ],
    ids=["vae", "cvae", "conv_vae"],
)
def test_a_builder_says_what_is_no_family_of_guides(build):
    made_already = guides.DiagonalGaussian(nn.Linear(5, 4))
    with pytest.raises(ValueError, match=r"a function of \(net, dim\).*got DiagonalGaussian"):
        build(guide=made_already)
    with pytest.raises(ValueError, match="got str"):
        build(guide="diagonal")
    with pytest.raises(ValueError, match="to return a guide, got NoneType"):
        build(guide=lambda net, dim: None)
