"""Steps of autoencoders: objectives, engines, what noise and penalties do, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from steps import OPTIONS
from torch import Tensor, nn

from ppl_gen import data
from ppl_gen.corruptions import gaussian_noise
from ppl_gen.inference import (
    NotFinite,
    Patience,
    ReconstructionValidation,
    fit,
    greedy_step,
    reconstruction_step,
    squared_error,
)
from ppl_gen.models import Autoencoder, autoencoder, autoencoder_layers, stacked
from ppl_gen.penalties import Contractive, Sparse, squared_jacobian


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
    assert float(step(x)["penalised_error"]) == pytest.approx(error + 0.7 * jacobian)
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


def greedy(first_step: int = 0, engine: str = "eager") -> tuple[list[Autoencoder], Any]:
    """Two layers, and what fits them: three steps each."""
    torch.manual_seed(0)
    layers = autoencoder_layers((1, 8, 8), (9, 4))
    whole = stacked(layers)
    optimizers = [torch.optim.SGD(part.parameters(), 1e-3) for part in (*layers, whole)]
    return layers, greedy_step(layers, optimizers, 3, first_step=first_step, engine=engine)


@pytest.mark.parametrize("engine", ["eager", "fx"])
def test_layers_are_fitted_one_after_another_then_together(engine: str) -> None:
    torch.manual_seed(1)
    x = torch.rand(7, 1, 8, 8)
    layers, step = greedy(engine=engine)
    moved = []
    for index in range(8):
        before = [[p.detach().clone() for p in layer.parameters()] for layer in layers]
        seen = x
        if 3 <= index < 6:
            seen = layers[0].encoder(x)
        part = (*layers, stacked(layers))[min(index // 3, 2)]
        expected = float(squared_error(part(seen), seen).mean().detach())
        assert float(step(x)["error"]) == pytest.approx(expected, rel=1e-4)
        changes = [
            any(not torch.equal(a, b) for a, b in zip(olds, layer.parameters(), strict=True))
            for olds, layer in zip(before, layers, strict=True)
        ]
        moved.append(changes)
    assert moved == [[True, False]] * 3 + [[False, True]] * 3 + [[True, True]] * 2


def test_a_greedy_fit_goes_on_where_another_was() -> None:
    x = torch.rand(7, 1, 8, 8)
    layers, step = greedy()
    others, _ = greedy()
    for index in range(8):
        step(x)
        if index == 4:
            for layer, other in zip(layers, others, strict=True):
                other.load_state_dict(layer.state_dict())
    whole = stacked(others)
    optimizers = [torch.optim.SGD(part.parameters(), 1e-3) for part in (*others, whole)]
    later = greedy_step(others, optimizers, 3, first_step=5, engine="eager")
    for _ in range(3):
        later(x)
    for layer, other in zip(layers, others, strict=True):
        assert all(map(torch.equal, layer.parameters(), other.parameters()))


def test_patience_stops_where_the_error_of_held_out_data_rises() -> None:
    """Twelve data of noise are learned by heart; the kept weights are those of the best epoch."""
    torch.manual_seed(0)
    x, held_out = torch.rand(12, 1, 8, 8), torch.rand(300, 1, 8, 8)
    net = made()
    step = reconstruction_step(net, torch.optim.Adam(net.parameters(), 0.01), engine="eager")
    measure = ReconstructionValidation(net, held_out, x)
    rule = Patience(5, metric=measure.METRIC, falls=True)
    records = fit(step, [(x,)], 400, progress=False, validation=measure, stop=rule)
    found = [record.metrics[measure.METRIC] for record in records]
    assert len(records) < 400
    assert rule.best == 1 + found.index(min(found)) == len(records) - 5
    error = squared_error(net(held_out), held_out).detach()
    assert float(error.mean()) == pytest.approx(min(found), rel=1e-6)
    spread = records[rule.best - 1].metrics[f"{measure.METRIC}_error"]
    assert spread == pytest.approx(float(error.std()) / 300**0.5, rel=1e-5)
    assert records[0].metrics["train_squared_distance"] > 0


class TestBadInput:
    def test_layers_and_optimisers_of_another_number(self) -> None:
        layers, _ = greedy()
        one = torch.optim.SGD(layers[0].parameters(), 1e-3)
        for given, optimizers in ((layers, [one]), ([], [one])):
            with pytest.raises(ValueError, match="expected an optimiser for each of one or more"):
                greedy_step(given, optimizers, 3)
        with pytest.raises(ValueError, match="steps"):
            greedy_step(layers, [one] * 3, 0)

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
