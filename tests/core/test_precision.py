"""Products of networks are rounded as is said, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.backends import cudnn

from ppl_gen import data
from ppl_gen.inference import classification_step, reconstruction_step, svi_step
from ppl_gen.models import autoencoder, classifier, vae
from ppl_gen.precision import Precision, float32_alone, in_precision, networks_in, tf32

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(4, 3), (2, 4)),
    "convolution": (nn.Conv2d(2, 3, 3), (2, 2, 5, 5)),
    "transposed": (nn.ConvTranspose2d(2, 3, 3), (2, 2, 5, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_products_are_those_of_rounded_numbers(name: str) -> None:
    layer, shape = LAYERS[name]
    x = torch.randn(shape, requires_grad=True)
    with networks_in("bfloat16"):
        got = layer(x)
    rounded = {key: value.bfloat16() for key, value in layer.state_dict().items()}
    expected = torch.func.functional_call(layer, rounded, (x.bfloat16(),)).float()
    assert torch.equal(got, expected)
    assert not torch.equal(got, layer(x))
    (gradient,) = torch.autograd.grad(got.sum(), x)
    assert gradient.dtype == torch.float32


def test_all_else_is_as_it_was() -> None:
    x = torch.randn(3, 3)
    normal = torch.distributions.Normal(x, 1.0)
    product = x @ x
    density = normal.log_prob(x + 1).sum()
    with networks_in("bfloat16"):
        assert torch.equal(x @ x, product)
        assert torch.equal(normal.log_prob(x + 1).sum(), density)
        assert nn.Linear(3, 2).double()(x.double()).dtype == torch.float64
    layer = nn.Linear(3, 2)
    plain = layer(x)
    for precision in ("float32", "tf32"):
        with networks_in(precision):  # type: ignore[arg-type]
            assert torch.equal(layer(x), plain)
        assert in_precision(layer, precision) is layer  # type: ignore[arg-type]


def test_settings_of_torch_are_put_back() -> None:
    before = (torch.get_float32_matmul_precision(), cudnn.allow_tf32)
    with tf32("tf32"):
        assert torch.get_float32_matmul_precision() == "high"
        assert cudnn.allow_tf32
    with float32_alone():
        assert torch.get_float32_matmul_precision() == "highest"
        assert not cudnn.allow_tf32
    with tf32("bfloat16"):
        assert (torch.get_float32_matmul_precision(), cudnn.allow_tf32) == before
    assert (torch.get_float32_matmul_precision(), cudnn.allow_tf32) == before


def _svi(module: nn.Module, **options: Any) -> Any:
    return svi_step(module, torch.optim.SGD(module.parameters(), 0.1), **options)


def _metrics(build: Any, engine: str, precision: Precision) -> tuple[dict[str, Tensor], Any]:
    torch.manual_seed(0)
    module, step = build(engine=engine, precision=precision)
    digits = data.load("digits", binarize="threshold").train
    metrics = [dict(step(digits.x[:8], digits.y[:8])) for _ in range(2)]
    return metrics[-1], list(module.parameters())


def _vae(**options: Any) -> Any:
    program = vae((1, 8, 8), 2, hidden=(8,))
    return program, _svi(program, **options)


def _autoencoder(**options: Any) -> Any:
    made = autoencoder((1, 8, 8), 2, hidden=(8,))
    return made, reconstruction_step(made, torch.optim.SGD(made.parameters(), 0.1), **options)


def _classifier(**options: Any) -> Any:
    made = classifier(autoencoder((1, 8, 8), 4, hidden=(8,)).encoder, 4, 10)
    return made, classification_step(made, torch.optim.SGD(made.parameters(), 0.1), **options)


@pytest.mark.parametrize(
    "build", [_autoencoder, *(pytest.param(b, marks=pytest.mark.long) for b in (_vae, _classifier))]
)
def test_a_step_and_its_graph_round_alike(build: Any) -> None:
    """Less than one part in a hundred apart from float32, and apart from it."""
    eager, weights = _metrics(build, "eager", "bfloat16")
    traced, same = _metrics(build, "fx", "bfloat16")
    plain, _ = _metrics(build, "fx", "float32")
    torch.testing.assert_close(traced, eager)
    assert all(map(torch.equal, weights, same))
    name = next(iter(plain))
    torch.testing.assert_close(traced[name], plain[name], rtol=1e-2, atol=1e-2)
    assert float(traced[name]) != float(plain[name])


@pytest.mark.parametrize("build", [_vae, _autoencoder, _classifier])
def test_an_unknown_precision(build: Any) -> None:
    with pytest.raises(ValueError, match="precision of float32, tf32, bfloat16, got 'half'"):
        build(precision="half")
