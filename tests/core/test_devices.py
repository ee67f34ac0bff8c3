"""Programs and data without values, devices that do not meet, parameters that stand still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pyro.infer import TraceGraph_ELBO
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ppl_gen import inference
from ppl_gen.arguments import expect_devices
from ppl_gen.critics import mlp_critic
from ppl_gen.models import cycle_gan, gan, vae
from ppl_gen.program import reconstruct, simulate

SHAPE = (1, 8, 8)
NO_VALUES = "expected a VAE with values, got parameters on the meta device"
NO_DATA = "expected data with values, got a tensor on the meta device"


def made() -> Any:
    return vae(SHAPE, 2, hidden=(4,))


def implicit() -> Any:
    return gan(SHAPE, 2, hidden=(4,))


def adam(*modules: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for module in modules for p in module.parameters()])


def svi(program: Any, x: Tensor) -> Any:
    return inference.svi_step(program, adam(program))(x)


# Every door that takes a program with a density, and data.
DOORS: dict[str, Callable[[Any, Tensor], Any]] = {
    "svi_step": svi,
    "log_evidence": lambda p, x: inference.log_evidence(p, None, x),
    "elbo": lambda p, x: inference.elbo(p, None, x),
    "ais": inference.ais,
    "gaps": lambda p, x: inference.gaps(p, None, x),
    "collapse": lambda p, x: inference.collapse(p, None, x),
    "hmc": lambda p, x: inference.hmc(p.model, x),
    "nuts": lambda p, x: inference.nuts(p.model, x),
    "compare": lambda p, x: inference.compare(p, None, x),
    "fit_guide": lambda p, x: inference.fit_guide(p, inference.same_family, x),
    "reconstruct": reconstruct,
    "simulate": lambda p, x: simulate(p, 3),
    "sbc": lambda p, x: inference.sbc(p, 20),
    "bdmc": lambda p, x: inference.bdmc(p, 3),
}
WITHOUT_DATA = ("simulate", "sbc", "bdmc")


@pytest.mark.parametrize("name", DOORS)
def test_a_program_without_values_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=NO_VALUES):
        DOORS[name](made().to("meta"), torch.zeros(4, *SHAPE))


@pytest.mark.parametrize("name", [name for name in DOORS if name not in WITHOUT_DATA])
def test_data_without_values_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=NO_DATA):
        DOORS[name](made(), torch.zeros(4, *SHAPE, device="meta"))


def test_a_guide_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match=NO_VALUES):
        inference.log_evidence(made(), made().to("meta").guide, torch.zeros(4, *SHAPE))


def test_samples_without_values_are_refused() -> None:
    with pytest.raises(ValueError, match=NO_DATA):
        inference.mmd(torch.zeros(4, 2), torch.zeros(4, 2, device="meta"))


def test_implicit_programs_and_critics_without_values_are_refused() -> None:
    x = torch.rand(4, *SHAPE)
    for program, critic in ((implicit().to("meta"), mlp_critic(SHAPE)), (implicit(), "meta")):
        if critic == "meta":
            critic = mlp_critic(SHAPE).to("meta")
        step = inference.adversarial_step(program, critic, adam(program), adam(critic))
        with pytest.raises(ValueError, match="with values, got parameters on the meta device"):
            step(x)


@pytest.mark.parametrize("places", [("cpu", "cuda"), ("cuda", "cpu")])
def test_what_lies_on_two_devices_is_refused(places: tuple[str, str]) -> None:
    """Tensors of a CUDA device that has no memory stand for those of one that has."""
    of_program, of_data = places
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.zeros(4, 3, device=of_data)
        y = torch.zeros(4, device=of_program)
        layer = nn.Linear(3, 2, device=of_program)
    with pytest.raises(ValueError, match=f"on the device of Linear, {of_program}.*got {of_data}"):
        expect_devices((layer,), (x,))
    with pytest.raises(ValueError, match="data and context on one device, got cpu and cuda"):
        expect_devices((), (x, y))
    expect_devices((layer,), (y, torch.zeros(())))  # a number goes anywhere


FROZEN = "expected an optimiser of parameters that require a gradient, got [0-9]+ that do not"


@pytest.mark.parametrize("engine", ["eager", "fx"])
def test_svi_of_what_stands_still_is_refused(engine: Any) -> None:
    program = made().requires_grad_(False)
    x = torch.rand(4, *SHAPE).round()
    with pytest.raises(ValueError, match=FROZEN):
        inference.svi_step(program, adam(program), engine=engine)(x)
    with pytest.raises(ValueError, match=FROZEN):
        inference.svi_step(program, adam(program), TraceGraph_ELBO())(x)
    with pytest.raises(ValueError, match="expected a loss with a gradient, got one that no"):
        inference.svi_step(program, adam(nn.Linear(2, 2)))(x)


def test_games_of_what_stands_still_are_refused() -> None:
    x = torch.rand(4, *SHAPE)
    program, critic = implicit(), mlp_critic(SHAPE)
    still = implicit().requires_grad_(False)
    with pytest.raises(ValueError, match=FROZEN):
        inference.moment_step(still, adam(still))(x)
    with pytest.raises(ValueError, match=FROZEN):
        inference.adversarial_step(still, critic, adam(still), adam(critic))(x)
    critic.requires_grad_(False)
    with pytest.raises(ValueError, match=FROZEN):
        inference.adversarial_step(program, critic, adam(program), adam(critic))(x)
    translators = cycle_gan(x, x, width=2).requires_grad_(False)
    critics = (mlp_critic(SHAPE), mlp_critic(SHAPE))
    step = inference.cycle_step(
        translators, critics, adam(translators), (adam(critics[0]), adam(critics[1]))
    )
    with pytest.raises(ValueError, match=FROZEN):
        step(x, x)


def test_learning_without_end_is_refused_before_the_first_step() -> None:
    program = made()
    before = [p.clone() for p in program.parameters()]
    step = inference.svi_step(program, torch.optim.Adam(program.parameters(), float("inf")))
    with pytest.raises(ValueError, match="expected an optimiser with a finite learning rate, got"):
        step(torch.rand(4, *SHAPE).round())
    assert all(map(torch.equal, before, program.parameters()))


@pytest.mark.parametrize("rate", [float("inf"), float("nan"), 0.0, -1.0])
def test_rates_are_finite_and_above_zero(rate: float) -> None:
    x = torch.rand(20, *SHAPE).round()
    expected = f"expected a finite rate above 0, got {rate}"
    with pytest.raises(ValueError, match=expected):
        inference.gaps(made(), None, x, rate=rate)
    with pytest.raises(ValueError, match=expected):
        inference.fit_guide(made(), inference.same_family, x, rate=rate)
    with pytest.raises(ValueError, match=expected):
        inference.classifier_features(x, torch.arange(20) % 2, rate=rate)
