"""How often the processor waits for the device, and copies to it: a table that only goes down.

Counted on a device that is none (`pretend`), where programs are called operation by operation. Of
compiled code only the graph is missing there, which waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from pretend import Device, pretended
from sound import OTHERS
from steps import STEPS
from torch import Tensor

from ppl_gen import inference
from ppl_gen.models import vae

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")


class Counted(NamedTuple):
    """Waits for the device, and copies of numbers or tensors to it."""

    waits: float
    copies: float = 0.0


@pytest.fixture
def device() -> Iterator[Device]:
    with pretended() as made:
        yield made


def counted(device: Device) -> Counted:
    return Counted(sum(device.waits.values()), sum(device.copies.values()))


def expect(device: Device, name: str, got: Counted, known: Counted) -> None:
    """Fails, with the lines that wait, unless the counts are those known."""
    if got == known:
        return
    lines = "\n".join(f"{count} × {line}" for line, count in device.where.most_common(20))
    if got.waits > known.waits or got.copies > known.copies:
        pytest.fail(f"{name} waits more often: {got} instead of {known}\n{lines}")
    pytest.fail(f"{name} waits less often, which is to stay so: write {got} for {known}")


# By the kind of a step, the part of its name before the comma; and of steps that differ. Most look
# once for each update, whether loss and gradient are finite.
OF_KIND = {
    "svi": Counted(1),
    "adversarial": Counted(2),
    "bidirectional": Counted(2),
    "cycle": Counted(3),
    "moments": Counted(2),
    "reconstruction": Counted(1),
    "greedy": Counted(1),
    "classification": Counted(2),
}
OF_STEP = {
    # Called as they are, Pyro's objectives turn densities into numbers.
    "svi, ELBO": Counted(7),
    "svi, ELBO of three particles": Counted(7),
    "svi, clipped": Counted(7),
    "svi, some labels": Counted(9),
    "svi, mean-field ELBO": Counted(5),
    "svi, enumerated ELBO": Counted(6),
    "svi, graph ELBO": Counted(2),
    "svi, Rényi ELBO": Counted(2),
    # Of two and of five updates of the critic.
    "adversarial, a cvae's mean": Counted(3),
    "adversarial, wasserstein": Counted(6),
}
# The first step looks at everything. A graph is compared with its function at steps 2, 4 and 8; a
# pool of translations is not asked once it is full, after two; two layers come before their stack.
STEPS_BEFORE = {"svi, replayed": 8, "cycle": 2, "greedy": 3}
STEPS_COUNTED = 2


@pytest.mark.parametrize("name", STEPS)
def test_a_step_runs_there_and_waits(name: str, device: Device) -> None:
    step, batch = STEPS[name](device.place)
    for _ in range(STEPS_BEFORE.get(name, 1)):
        step(*batch)
    device.forget()
    for _ in range(STEPS_COUNTED):
        step(*batch)
    got = Counted(*[count / STEPS_COUNTED for count in counted(device)])
    expect(device, name, got, OF_STEP.get(name, OF_KIND[name.split(",")[0]]))


# A whole call each. One look is whether all values are finite; the others are for the answer.
OF_STATISTIC = {
    "mmd": Counted(2),  # a bandwidth, of pairs that differ
    "two_sample_test": Counted(3),
    "moments": Counted(3),
    "PCA": Counted(3),
}
STATISTICS = {
    name: call
    for name, call in OTHERS.items()
    if call.function.__module__.startswith("ppl_gen.inference.samples")
    and not name.startswith("classifier")  # what scikit-learn and training wait for
}


@pytest.mark.parametrize("name", STATISTICS)
def test_waits_of_a_statistic(name: str, device: Device) -> None:
    call = STATISTICS[name]
    given = [device.place(thing) for thing in call.given]
    call.function(*given, **call.named)
    expect(device, name, counted(device), OF_STATISTIC.get(name, Counted(1)))


def _program(device: Device) -> tuple[Any, Tensor]:
    return device.place(vae((1, 4, 4), 2, hidden=(4,))), device.place(torch.ones(4, 1, 4, 4))


def _ais(device: Device, count: int) -> None:
    program, x = _program(device)
    small = {"chains": 2, "leapfrogs": 1, "engine": "eager"}
    inference.ais(program, x, guide=program.guide, temperatures=count, **small)


def _line(x: Tensor) -> None:
    """A posterior whose numbers are all of the device."""
    z = pyro.sample("z", dist.Normal(x.new_zeros(2), x.new_ones(2)).to_event(1))
    pyro.sample("x", dist.Normal(z, torch.ones_like(z)).to_event(1), obs=x)


def _hmc(device: Device, count: int) -> None:
    x = device.place(torch.ones(2))
    small = {"chains": 2, "trajectory": 0.05, "engine": "eager"}
    inference.hmc(_line, x, draws=count // 2, warmup=count // 2, seed=0, **small)


def _gaps(device: Device, count: int) -> None:
    program, x = _program(device)
    known = inference.Estimate(torch.zeros(4), torch.ones(4))
    inference.gaps(program, None, x, particles=2, steps=count, evidence=device.place(known))


def _log_evidence(device: Device, count: int) -> None:
    program, x = _program(device)
    inference.log_evidence(program, None, x, particles=count, chunk=4)


# What grows with a number, and by how much for one more: a temperature; an iteration, of which half
# are warm-up; a step of two refits; a particle.
OF_ONE_MORE: dict[str, tuple[Callable[[Device, int], None], int, Counted]] = {
    "ais": (_ais, 4, Counted(0)),
    "hmc": (_hmc, 40, Counted(0.6)),
    "gaps": (_gaps, 4, Counted(2)),
    "log_evidence": (_log_evidence, 4, Counted(0)),
}


@pytest.mark.long
@pytest.mark.parametrize("name", OF_ONE_MORE)
def test_waits_of_one_more(name: str, device: Device) -> None:
    call, count, known = OF_ONE_MORE[name]
    call(device, count)
    few = counted(device)
    device.forget()
    call(device, 2 * count)
    many = counted(device)
    got = Counted(*[(b - a) / count for a, b in zip(few, many, strict=True)])
    expect(device, name, got, known)
