"""What trained models can do: on digits always, on MNIST among the longer checks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from sklearn.svm import SVC
from torch import nn

from ppl_gen import data
from ppl_gen.data import Dataset
from ppl_gen.inference import Estimate, fit, log_evidence, svi_step
from ppl_gen.likelihoods import Dirac
from ppl_gen.models import CVAE, conv_vae, cvae, vae
from ppl_gen.program import Observed, simulate


def trained(
    program: nn.Module, dataset: Dataset, batch: int, epochs: int, limit: int | None = None
) -> Estimate:
    """Fits a program with Adam at 1e-3 and returns the test log evidence, given the label for a
    CVAE.
    """
    optimizer = torch.optim.Adam(program.parameters(), 1e-3, fused=True)
    fit(svi_step(program, optimizer), dataset.train.batches(batch), epochs, progress=False)
    test = dataset.test.fixed(0, limit)
    context = [test.y] if isinstance(program, CVAE) and test.y is not None else []
    return log_evidence(program, None, test.x, *context, particles=1000, seed=0)


@pytest.fixture(scope="module")
def digits() -> tuple[Dataset, CVAE, Estimate, Estimate]:
    """A VAE's and a CVAE's test evidence at equal budget, and the CVAE."""
    torch.manual_seed(0)
    dataset = data.load("digits", binarize="threshold")
    plain = trained(vae((1, 8, 8), 10), dataset, 50, 40)
    program = cvae((1, 8, 8), 10, classes=10)
    return dataset, program, trained(program, dataset, 50, 40), plain


@pytest.mark.slow
def test_the_label_is_worth_nats(digits: tuple[Dataset, CVAE, Estimate, Estimate]) -> None:
    """Datum by datum, on the same pixels, log p(x | y) exceeds log p(x) by far more than its
    errors.
    """
    _, _, given_label, plain = digits
    assert better(given_label, plain)


@pytest.mark.slow
@pytest.mark.parametrize("noiseless", [True, False])
def test_samples_for_a_label_are_read_as_that_label(
    digits: tuple[Dataset, CVAE, Estimate, Estimate], noiseless: bool
) -> None:
    """By a support vector machine that has seen real digits only and reads 96 % of the test set
    correctly.
    """
    dataset, program, _, _ = digits
    reader = SVC(C=10).fit(dataset.train.x.flatten(1), dataset.train.y)
    assert reader.score(dataset.test.x.flatten(1), dataset.test.y) > 0.95
    y = torch.arange(1000) % 10
    drawn = simulate(Observed(program, Dirac()) if noiseless else program, 1000, y)
    assert reader.score(drawn.flatten(1), y) >= 0.9


@pytest.fixture(scope="module")
def reference(mnist: Callable[..., Dataset]) -> tuple[Dataset, Estimate]:
    """MNIST, and the MLP VAE's evidence: 784-200-200-50 tanh, 20 epochs, batch 100, Adam 1e-3, the
    first 1000 test digits.
    """
    torch.manual_seed(0)
    dataset = mnist(binarize="dynamic")
    return dataset, trained(vae(dataset.shape, 50), dataset, 100, 20, 1000)


def better(one: Estimate, other: Estimate) -> bool:
    """Whether one exceeds the other, datum by datum on the same pixels, by more than four standard
    errors.
    """
    gain = one.value - other.value
    print(f"\n{one} against {other} nats: {float(gain.mean()):+.2f}")
    return float(gain.mean()) > 4 * float(gain.std()) / len(gain) ** 0.5


@pytest.mark.slow
def test_mnist_reaches_the_reference(reference: tuple[Dataset, Estimate]) -> None:
    assert float(reference[1].mean().value) >= -97.0


@pytest.mark.slow
def test_the_label_is_worth_nats_on_mnist(reference: tuple[Dataset, Estimate]) -> None:
    dataset, mlp = reference
    assert better(trained(cvae(dataset.shape, 50, classes=10), dataset, 100, 20, 1000), mlp)


@pytest.mark.slow
def test_convolutions_are_better_on_mnist(reference: tuple[Dataset, Estimate]) -> None:
    dataset, mlp = reference
    assert better(trained(conv_vae(dataset.shape, 50), dataset, 100, 20, 1000), mlp)


@pytest.mark.cuda
def test_every_model_trains_on_cuda() -> None:
    dataset = data.load("digits", binarize="dynamic").to("cuda")
    for program in (vae((1, 8, 8), 4), cvae((1, 8, 8), 4, classes=10), conv_vae((1, 8, 8), 4)):
        assert torch.isfinite(trained(program.cuda(), dataset, 100, 3).value).all()
