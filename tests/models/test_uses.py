"""What implicit models are used for: conditions of any kind, editing an image, features of a
critic, more labelled data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from programs import digits
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import Tensor, nn

from ppl_gen import data
from ppl_gen.critics import mlp_critic
from ppl_gen.data.attributes import edges, slant, thickness
from ppl_gen.data.words.captions import DIGITS, Captions, TextEncoder
from ppl_gen.inference import (
    adversarial_step,
    fit,
    hmc,
    mmd,
    moment_step,
    moving_average,
    two_sample_test,
)
from ppl_gen.inference.samples.kernels import default_kernel
from ppl_gen.likelihoods import Gaussian
from ppl_gen.models import cgan, gan, gmmn
from ppl_gen.program import Observed, simulate

SHAPE = (1, 8, 8)


def trained(
    program: nn.Module, critic: nn.Module, x: Tensor, *context: Tensor, epochs: int, **options: Any
) -> Any:
    """The moving average of a program after so many epochs under R1 = 0.1."""
    average = moving_average(program)
    optimizers = [
        torch.optim.Adam(m.parameters(), 5e-4, betas=(0.0, 0.9), fused=True)
        for m in (program, critic)
    ]
    step = adversarial_step(program, critic, *optimizers, r1=0.1, average=average, **options)
    batches = data.Split(x, *context).batches(50)
    fit(step, batches, epochs, progress=False)
    return average.module


def judged(x: Tensor) -> Tensor:
    """The classes that a support vector machine, trained on real digits, finds."""
    return torch.as_tensor(_MACHINE.predict(x.flatten(1)))


_MACHINE = SVC(gamma=0.125).fit(digits().x.flatten(1), digits().y)


@pytest.fixture(scope="module")
def by_label() -> Any:
    torch.manual_seed(0)
    critic = mlp_critic(SHAPE, classes=10)
    return trained(cgan(SHAPE, 20, classes=10), critic, digits().x, digits().y, epochs=70)


@pytest.mark.slow
def test_the_samples_for_a_label_are_read_as_that_label(by_label: Any) -> None:
    y = torch.arange(1000) % 10
    assert float((judged(simulate(by_label, 1000, y)) == y).float().mean()) >= 0.9


@pytest.mark.slow
def test_samples_added_to_a_few_labelled_digits_teach_a_classifier(by_label: Any) -> None:
    few = torch.cat([torch.nonzero(digits().y == k)[:2, 0] for k in range(10)])
    real, y = digits().x[few].flatten(1), digits().y[few]
    asked = torch.arange(1000) % 10
    both = torch.cat([real, simulate(by_label, 1000, asked).flatten(1)]), torch.cat([y, asked])
    test = data.load("digits").test
    alone, together = (
        SVC(gamma=0.125).fit(*given).predict(test.x.flatten(1)) for given in ((real, y), both)
    )
    gained = torch.as_tensor((together == test.y.numpy()).astype(float) - (alone == test.y.numpy()))
    assert float(gained.mean()) > 4 * float(gained.std()) / len(gained) ** 0.5


def _attributes(x: Tensor, y: Tensor) -> Tensor:
    """The label in one-hot form, then thickness and slant in units of their standard deviations."""
    measured = torch.stack([thickness(x), slant(x)], -1)
    whole = torch.stack([thickness(digits().x), slant(digits().x)], -1)
    return torch.cat(
        [nn.functional.one_hot(y, 10), (measured - whole.mean(0)) / whole.std(0)], -1
    ).float()


@pytest.fixture(scope="module")
def by_attributes() -> Any:
    torch.manual_seed(0)
    y = _attributes(digits().x, digits().y)
    return trained(
        cgan(SHAPE, 10, attributes=12), mlp_critic(SHAPE, attributes=12), digits().x, y, epochs=60
    )


@pytest.mark.slow
def test_attributes_are_obeyed(by_attributes: Any) -> None:
    test = data.load("digits").test
    asked = _attributes(test.x, test.y).repeat(3, 1)
    drawn = simulate(by_attributes, len(asked), asked)
    got = _attributes(drawn, judged(drawn))
    for column in (10, 11):
        assert float(torch.corrcoef(torch.stack([asked[:, column], got[:, column]]))[0, 1]) > 0.6


@pytest.mark.slow
def test_one_attribute_of_a_given_image_is_edited(by_attributes: Any) -> None:
    test = data.load("digits").test
    x, y = test.x[:20], _attributes(test.x[:20], test.y[:20])
    draws = hmc(
        Observed(by_attributes, Gaussian(0.1)).model,
        x,
        y,
        local=True,
        chains=4,
        draws=50,
        warmup=150,
        seed=0,
    )
    z = draws.samples["z"][:, -1]  # one draw of the latents of each image, for each chain
    leaning = y.clone()
    leaning[:, 11] += 1.5
    with torch.no_grad():
        same, other = by_attributes.decoder(z, y), by_attributes.decoder(z, leaning)
    recovered = (same - x).abs().mean()
    assert float(recovered) < 0.5 * float((x - x.mean(0)).abs().mean())
    moved = (slant(other.flatten(0, 1)) - slant(same.flatten(0, 1))).unflatten(0, (4, 20)).mean(0)
    assert float(moved.mean()) > 4 * float(moved.std()) / len(moved) ** 0.5
    assert float((judged(other.flatten(0, 1)) == test.y[:20].repeat(4)).float().mean()) > 0.8


@pytest.fixture(scope="module")
def unconditioned() -> tuple[Any, Any]:
    """A GAN that is given nothing, and its critic."""
    torch.manual_seed(0)
    critic = mlp_critic(SHAPE)
    return trained(gan(SHAPE, 10), critic, digits().x, epochs=40), critic


@pytest.mark.slow
def test_edges_of_a_digit_are_filled_in(unconditioned: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    x, test = digits().x, data.load("digits").test.x
    critic = mlp_critic(SHAPE, attributes=64, embed=nn.Flatten())
    program = trained(
        cgan(SHAPE, 10, attributes=64, embed=nn.Flatten()), critic, x, edges(x), epochs=50
    )
    drawn = simulate(program, len(test), edges(test))
    other = simulate(unconditioned[0], len(test))
    assert float((drawn - test).abs().mean()) < 0.5 * float((other - test).abs().mean())


@pytest.mark.slow
def test_captions_are_obeyed() -> None:
    torch.manual_seed(0)
    captions = Captions.fitted(digits().x)
    tokens, words = captions.encode(captions.of(digits().x, digits().y)), len(captions.vocabulary)
    program, critic = (
        make(SHAPE, *size, attributes=32, embed=TextEncoder(words, 32))
        for make, size in ((cgan, (20,)), (mlp_critic, ()))
    )
    average = trained(program, critic, digits().x, tokens, epochs=100)

    def drawn(thick: str, lean: str) -> Tensor:
        asked = captions.encode([f"a {thick} {lean} {name}" for name in DIGITS for _ in range(20)])
        return simulate(average, len(asked), asked)

    def above(high: Tensor, low: Tensor) -> bool:
        error = (high.var() / len(high) + low.var() / len(low)).sqrt()
        return bool(high.mean() - low.mean() > 4 * error)

    for lean in ("left-leaning", "upright", "slanted"):
        assert above(thickness(drawn("thick", lean)), thickness(drawn("thin", lean)))
    for thick in ("thin", "thick"):
        assert above(slant(drawn(thick, "slanted")), slant(drawn(thick, "upright")))
        assert above(slant(drawn(thick, "upright")), slant(drawn(thick, "left-leaning")))
    asked = torch.arange(10).repeat_interleave(20)
    assert float((judged(drawn("thick", "upright")) == asked).float().mean()) > 0.8


@pytest.mark.slow
def test_a_critic_s_features_carry_a_linear_classifier(unconditioned: tuple[Any, Any]) -> None:
    critic = unconditioned[1]
    test = data.load("digits").test
    with torch.no_grad():
        seen, held_out = critic.features(digits().x[:500]), critic.features(test.x)
    accuracy = LogisticRegression(max_iter=2000).fit(seen, digits().y[:500]).score(held_out, test.y)
    assert accuracy > 0.9


@pytest.mark.long
@pytest.mark.parametrize("name", [pytest.param("mmd", marks=pytest.mark.slow), "energy"])
def test_a_moment_matching_network_learns_digits_without_a_critic(name: str) -> None:
    from ppl_gen.inference.samples.discrepancies import squared_energy

    torch.manual_seed(0)
    program = gmmn(SHAPE, 10)
    kernel = default_kernel(
        *(t.flatten(1) for t in digits().x[:600].split(300))
    )  # one for before and after
    statistic = partial(mmd, kernel=kernel)
    before = two_sample_test(simulate(program, 300), digits().x[:300], statistic, seed=0)
    options: dict[str, Callable[..., Tensor]] = (
        {} if name == "mmd" else {"discrepancy": squared_energy}
    )
    step = moment_step(program, torch.optim.Adam(program.parameters(), 1e-3), **options)
    fit(step, digits().batches(250), 60, progress=False)
    after = two_sample_test(simulate(program, 300), digits().x[:300], statistic, seed=0)
    assert after.statistic < 0.1 * before.statistic
