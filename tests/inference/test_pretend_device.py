"""On a device that is not the processor, nothing mixes the two: evaluators, samplers, distances,
and every program. Steps are in `test_host_waits.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pretend import DEVICE, Device, pretended
from programs import PROGRAMS
from pyro.infer import Trace_ELBO
from scenarios import SCENARIOS
from sound import EVALUATORS, OTHERS
from torch import nn

from ppl_gen import inference
from ppl_gen.contexts import forked
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.program import simulate

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")


@pytest.fixture
def device() -> Iterator[Device]:
    with pretended() as made:
        yield made


def test_what_the_device_refuses(device: Device) -> None:
    x = torch.randn(3, 4, device=DEVICE)
    here = torch.zeros(3, 4)
    refused = [
        lambda: x + here,
        lambda: here + x,
        lambda: here.add_(x.sum()),
        lambda: torch.cat([x, here]),
        lambda: torch.stack([x.sum(), here.sum()]),
        lambda: nn.Linear(4, 2)(x),
        lambda: here[x[:, 0].argsort()],
    ]
    for mixed in refused:
        with pytest.raises(RuntimeError, match="at least two devices, cuda:0 and cpu"):
            mixed()
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        x.numpy()
    assert (x * torch.tensor(2.0)).device == DEVICE  # a number of the processor is taken
    assert not device.waits + device.copies


def test_what_the_device_counts(device: Device) -> None:
    x = torch.randn(3, 4, device=DEVICE)
    waiting = [
        lambda: x.sum().item(),
        lambda: bool((x > 0).any()),
        lambda: x.tolist(),
        lambda: x.cpu(),
        lambda: x[x > 0],
        lambda: x.nonzero(),
        lambda: torch.equal(x, x),
        lambda: torch.linalg.cholesky(x.new_ones(1, 1)),
    ]
    for i, wait in enumerate(waiting):
        wait()
        assert sum(device.waits.values()) == i + 1
    x[x > 0] = 0.0
    assert sum(device.waits.values()) == len(waiting)
    copying = [
        lambda: torch.tensor(1.0, device=DEVICE),
        lambda: x.new_tensor([1.0]),
        lambda: torch.zeros(3).to(DEVICE),
        lambda: x[torch.tensor([0, 2])],
    ]
    for i, copy in enumerate(copying):
        copy()
        assert sum(device.copies.values()) == i + 1


def test_draws_are_the_device_s_own(device: Device) -> None:
    state = torch.get_rng_state()
    with forked(DEVICE, 3):
        first = torch.randn(3, device=DEVICE)
    with forked(DEVICE, 3):
        assert first.tolist() == torch.randn(3, device=DEVICE).tolist()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_seed_of_the_processor_is_none_of_the_device(device: Device) -> None:
    before = device.state
    with forked(torch.device("cpu"), 0):
        torch.rand(3)
    assert torch.equal(device.state, before)


def lies_somewhere(thing: Any) -> bool:
    """Whether something is a tensor or module, or the method of one."""
    return isinstance(getattr(thing, "__self__", thing), torch.Tensor | nn.Module)


# Not those without tensors, nor of an optimiser, which are the steps below.
CALLS = {
    name: call
    for name, call in (EVALUATORS | OTHERS).items()
    if any(map(lies_somewhere, call.given))
    and not isinstance(call.given[-1], torch.optim.Optimizer)
}
# What would go on for long by itself.
QUICKER = {"gaps": {"evidence": inference.Estimate(torch.zeros(8), torch.ones(8))}}


LONG = ("bdmc", "compare")
SLOW = ("posterior",)  # its stages are rows of their own
# Without a seed, and meant to draw. All others leave the device's generator alone.
DRAWING = ("simulate", "reconstruct", "path")
ROWS = [
    pytest.param(
        name, marks=[pytest.mark.long] * (name in LONG) + [pytest.mark.slow] * (name in SLOW)
    )
    for name in CALLS
]


@pytest.mark.parametrize("name", ROWS)
def test_a_call_runs_there(name: str, device: Device) -> None:
    call = CALLS[name]
    given = [device.place(thing) for thing in call.given]
    named = {**call.named, **QUICKER.get(name, {})}
    if "seed" in inspect.signature(call.function).parameters:
        named["seed"] = 0
    before = device.state
    if name == "compress":  # bits of the device would not be those of another
        with pytest.raises(ValueError, match="on the processor"):
            call.function(*given, **named)
        return
    call.function(*given, **named)
    if name not in DRAWING:
        assert torch.equal(device.state, before), "the device's generator has moved on"


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_posterior_is_there(name: str, device: Device) -> None:
    posterior = SCENARIOS[name]()
    assert isinstance(posterior, nn.Module)
    potential = Potential(posterior.to(DEVICE).model, device.place(posterior.data))
    q = potential.starts(2)
    energies, obstacle = potential.fastest
    assert obstacle is None
    energy, gradient = energies(q, *potential.tensors)
    drawn = potential.constrain(q)
    assert {t.device for t in (energy, gradient, *drawn.values())} == {DEVICE}


@pytest.mark.long
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs_there(name: str, device: Device) -> None:
    program, x, context = PROGRAMS[name]()
    program.to(DEVICE)
    x, *context = device.place([x, *context])
    assert simulate(program, len(x), *context).device == DEVICE
    Trace_ELBO(retain_graph=True).loss_and_grads(program.model, program.guide, x, *context)
    assert all(p.grad is None or p.grad.device == DEVICE for p in program.parameters())
