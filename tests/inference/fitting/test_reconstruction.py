"""Steps of autoencoders: objectives, engines, what noise and penalties do, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ppl_gen import data
from ppl_gen.corruptions import gaussian_noise, masking
from ppl_gen.inference import NotFinite, fit, reconstruction_step, squared_error
from ppl_gen.models import Autoencoder, autoencoder
from ppl_gen.penalties import Contractive, Sparse, squared_jacobian

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "denoising": {"corruption": masking(0.4)},
    "sparse": {"penalty": Sparse(0.1)},
    "contractive": {"penalty": Contractive(0.1)},
    "both, clipped": {
        "corruption": gaussian_noise(0.1),
        "penalty": Contractive(0.1, draws=2),
        "clip": 0.5,
    },
}


def made(**options: Any) -> Autoencoder:
    torch.manual_seed(0)
    return autoencoder((1, 8, 8), 4, hidden=(12,), activation=nn.Tanh, **options)


def stepped(
    net: Autoencoder, x: Tensor, engine: str, **options: Any
) -> tuple[list[float], list[Tensor]]:
    """The objective of four steps, and the parameters after them."""
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    step = reconstruction_step(net, optimizer, engine=engine, **options)
    torch.manual_seed(1)
    losses = [float(next(iter(step(x).values()))) for _ in range(4)]
    return losses, [p.detach() for p in net.parameters()]


@pytest.mark.parametrize("name", OPTIONS)
def test_engines_make_the_same_steps(name: str) -> None:
    torch.manual_seed(0)
    x = torch.rand(7, 1, 8, 8)
    eager = stepped(made(), x, "eager", **OPTIONS[name])
    traced = stepped(made(), x, "fx", **OPTIONS[name])
    torch.testing.assert_close(traced, eager)
    assert eager[0][0] != eager[0][-1]


def test_the_objective_is_error_and_penalty() -> None:
    torch.manual_seed(0)
    x = torch.rand(5, 1, 8, 8)
    net = autoencoder((1, 8, 8), 4, hidden=(), of_code=nn.Sigmoid)
    optimizer = torch.optim.SGD(net.parameters(), 0.0)
    error = float((net(x) - x).square().sum() / 5)
    jacobian = float(squared_jacobian(net.encoder, x, net.encoder(x)).mean())
    assert float(reconstruction_step(net, optimizer)(x)["error"]) == pytest.approx(error)
    step = reconstruction_step(net, optimizer, penalty=Contractive(0.7))
    assert float(step(x)["objective"]) == pytest.approx(error + 0.7 * jacobian)
    absolute = reconstruction_step(
        net, optimizer, error=lambda made, x: (made - x).abs().flatten(1).sum(1)
    )
    assert float(absolute(x)["error"]) == pytest.approx(float((net(x) - x).abs().sum() / 5))


def fitted(x: Tensor, **options: Any) -> Autoencoder:
    torch.manual_seed(0)
    net = autoencoder((1, 8, 8), 100, hidden=(), of_code=nn.Sigmoid)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    step = reconstruction_step(net, optimizer, engine="fx", **options)
    fit(step, data.Split(x).batches(100), 60)
    return net


@pytest.mark.long
def test_noise_and_contraction_do_what_they_are_for() -> None:
    """Denoising takes noise out of unseen data; both codes move less than a plain one's."""
    digits = data.load("digits")
    train = digits.train.x
    test = digits.test.x
    noise = gaussian_noise(0.3)
    torch.manual_seed(2)
    noisy = noise(test)
    kinds = {
        "plain": fitted(train),
        "denoising": fitted(train, corruption=noise),
        "contractive": fitted(train, penalty=Contractive(0.3)),
    }
    errors = {name: squared_error(net(noisy), test) for name, net in kinds.items()}
    gain = errors["plain"] - errors["denoising"]
    assert float(gain.mean()) > 4 * float(gain.std()) / len(gain) ** 0.5
    moved = {}
    for name, net in kinds.items():
        code = net.encoder(test)
        moved[name] = (net.encoder(noisy) - code).norm(dim=1) / code.norm(dim=1)
    for name in ("denoising", "contractive"):
        less = moved["plain"] - moved[name]
        assert float(less.mean()) > 4 * float(less.std()) / len(less) ** 0.5, name


def test_sparse_codes_are_smaller() -> None:
    x = data.load("digits").train.x[:200]
    sizes = {}
    for name, penalty in {"plain": None, "sparse": Sparse(0.5)}.items():
        net = made()
        step = reconstruction_step(net, torch.optim.Adam(net.parameters(), 0.01), penalty=penalty)
        fit(step, [(x,)], 100)
        sizes[name] = float(net.encoder(x).abs().mean())
    assert sizes["sparse"] < 0.5 * sizes["plain"]


class TestBadInput:
    def test_what_is_no_data(self) -> None:
        net = made()
        step = reconstruction_step(net, torch.optim.Adam(net.parameters()))
        for x in (torch.zeros(0, 1, 8, 8), torch.full((3, 1, 8, 8), float("nan")), [1.0]):
            with pytest.raises(ValueError, match="expected"):
                step(x)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"corruption": lambda x: x[:, :, :4]}, "expected the corruption to return a tensor"),
            ({"corruption": lambda x: x @ torch.ones(3, 3)}, "expected a corruption that takes"),
            ({"error": lambda made, x: (made - x).square().mean()}, "error and penalty to return"),
            ({"penalty": lambda encoder, x, code: code}, "expected an error and a penalty of data"),
        ],
        ids=["corruption's shape", "corruption's size", "error of all", "penalty per value"],
    )
    def test_callables_of_another_shape(self, options: dict[str, Callable[..., Any]], said: str):
        net = made()
        step = reconstruction_step(net, torch.optim.Adam(net.parameters()), **options)
        with pytest.raises(ValueError, match=said):
            step(torch.rand(3, 1, 8, 8))

    def test_a_decoder_of_another_shape(self) -> None:
        net = Autoencoder(nn.Flatten(), nn.Identity())
        net.extra = nn.Linear(1, 1)
        step = reconstruction_step(net, torch.optim.Adam(net.parameters()))
        with pytest.raises(ValueError, match="expected the decoder to return a tensor of shape"):
            step(torch.rand(3, 1, 8, 8))

    @pytest.mark.parametrize("clip", [0.0, -1.0])
    def test_clip_out_of_range(self, clip: float) -> None:
        net = made()
        with pytest.raises(ValueError, match="expected clip above 0"):
            reconstruction_step(net, torch.optim.Adam(net.parameters()), clip=clip)

    @pytest.mark.parametrize("engine", ["eager", "fx"])
    def test_a_loss_that_is_not_finite_changes_nothing(self, engine: str) -> None:
        net = made()
        step = reconstruction_step(
            net, torch.optim.SGD(net.parameters(), 1.0), error=_broken, engine=engine
        )
        before = [p.clone() for p in net.parameters()]
        with pytest.raises(NotFinite, match="the error at step 0 is not finite"):
            step(torch.rand(3, 1, 8, 8))
        assert all(map(torch.equal, before, net.parameters()))


def _broken(made: Tensor, x: Tensor) -> Tensor:
    return (made - x).flatten(1).sum(1) / 0.0
