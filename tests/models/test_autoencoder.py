"""Autoencoders: shapes, the principal components, stacks, and what is refused."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from ppl_gen import data
from ppl_gen.inference import iterate, reconstruction_step, squared_error
from ppl_gen.models import (
    Autoencoder,
    autoencoder,
    autoencoder_layers,
    conv_autoencoder,
    pca,
    stacked,
)


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(0)
    return torch.rand(6, 1, 8, 8)


@pytest.mark.parametrize(
    "made",
    [
        lambda: autoencoder((1, 8, 8), 3),
        lambda: autoencoder((1, 8, 8), 80, hidden=(), of_code=nn.Sigmoid),
        lambda: conv_autoencoder((1, 8, 8), 3, hidden=16),
    ],
    ids=["perceptron", "one wide layer", "convolutions"],
)
def test_codes_and_reconstructions_of_any_leading_axes(made: object, images: Tensor) -> None:
    net = made()
    code = net.encoder(images)
    assert code.shape[0] == 6
    assert code.dim() == 2
    assert net(images).shape == images.shape
    torch.testing.assert_close(net(images[None]), net(images)[None])


def test_pca_has_the_least_error_of_linear_autoencoders() -> None:
    """Eckart and Young: what is left is the sum of the squares of the other singular values."""
    x = data.load("digits").train.x.double()
    net = pca(x, 8)
    centred = x.flatten(1) - x.flatten(1).mean(0)
    left = torch.linalg.svdvals(centred)[8:].square().sum() / len(x)
    assert float(squared_error(net(x), x).mean().detach()) == pytest.approx(float(left), rel=1e-9)
    covariance = torch.cov(net.encoder(x).T)
    off = covariance - covariance.diag().diag()
    assert float(off.detach().abs().max()) < 1e-9
    assert bool((covariance.diag().diff() < 0).all())


@pytest.mark.slow
def test_a_linear_autoencoder_finds_the_principal_components_by_gradient() -> None:
    x = data.load("digits").train.x
    exact = pca(x, 8)
    torch.manual_seed(0)
    net = autoencoder((1, 8, 8), 8, hidden=())
    optimizer = torch.optim.Adam(net.parameters(), 0.03)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 3000)
    step = reconstruction_step(net, optimizer, engine="fx")
    for _ in iterate(step, [(x,)], 3000, scheduler=falling):
        pass
    bases = [torch.linalg.qr(each.decoder[0][0].weight.double())[0] for each in (net, exact)]
    cosines = torch.linalg.svdvals(bases[0].T @ bases[1])
    assert float(cosines.min().acos().rad2deg()) < 1
    found = float(squared_error(net(x), x).mean())
    assert found == pytest.approx(float(squared_error(exact(x), x).mean()), rel=1e-3)


def test_a_stack_is_its_parts_one_after_another(images: Tensor) -> None:
    first = autoencoder((1, 8, 8), 20, hidden=())
    second = autoencoder((20,), 5, hidden=())
    deep = stacked([first, second])
    codes = second.encoder(first.encoder(images))
    torch.testing.assert_close(deep.encoder(images), codes)
    torch.testing.assert_close(deep(images), first.decoder(second.decoder(codes)))
    shared = {id(p) for part in (first, second) for p in part.parameters()}
    assert {id(p) for p in deep.parameters()} == shared


def test_layers_of_a_stack_have_activations_where_codes_of_others_are(images: Tensor) -> None:
    deep = stacked(autoencoder_layers((1, 8, 8), (20, 7), activation=nn.Tanh))
    assert deep(images).shape == images.shape
    kinds = [type(part) for part in deep.modules() if not list(part.children())]
    assert kinds.count(nn.Tanh) == 2
    first = autoencoder_layers((1, 8, 8), (20, 7), activation=nn.Tanh)[0]
    assert float(first.encoder(images).detach().abs().max()) < 1
    assert len(autoencoder_layers((5,), (2,))) == 1


class TestBadInput:
    def test_a_stack_without_layers(self) -> None:
        with pytest.raises(ValueError, match="expected the width of one layer or more"):
            autoencoder_layers((5,), ())

    @pytest.mark.parametrize("dim", [0, 7, 65])
    def test_more_principal_components_than_there_are(self, dim: int, images: Tensor) -> None:
        with pytest.raises(ValueError, match=re.escape("expected a code_dim from 1 to 6, as 6")):
            pca(images, dim)

    def test_sizes_out_of_range(self) -> None:
        with pytest.raises(ValueError, match="size"):
            autoencoder((4,), 0)
        with pytest.raises(ValueError, match="code_dim"):
            conv_autoencoder((1, 8, 8), 0)
        with pytest.raises(ValueError, match="8 to 64 pixels"):
            conv_autoencoder((1, 4, 4), 2)
        with pytest.raises(ValueError, match="one autoencoder or more"):
            stacked([])

    def test_an_encoder_for_other_data(self, images: Tensor) -> None:
        net = Autoencoder(nn.Linear(5, 2), nn.Linear(2, 5))
        step = reconstruction_step(net, torch.optim.Adam(net.parameters()))
        with pytest.raises(ValueError, match=r"expected an autoencoder that takes data of shape"):
            step(images)
