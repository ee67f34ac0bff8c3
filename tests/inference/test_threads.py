"""Two threads: what one evaluates or fits, another neither sees nor changes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pyro
import pytest
import torch
from torch import Tensor, nn

from ppl_gen.inference import ais, collapse, hmc, log_evidence, svi_step
from ppl_gen.models import VAE, toy, vae

CALLS = 4  # of each thread


@pytest.fixture(autouse=True)
def _eager_switching() -> Iterator[None]:
    """Lets threads take turns thousands of times a second."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def made() -> VAE:
    """A VAE that gives other numbers in training mode."""
    program = vae((1, 4, 4), 2, hidden=(8,))
    program.encoder.net = nn.Sequential(program.encoder.net, nn.Dropout(0.5))
    return program


def at_once(*tasks: Callable[[], list[Tensor]]) -> list[list[Tensor]]:
    """What each task gives, each in a thread of its own."""
    found: list[list[Tensor]] = [[] for _ in tasks]
    together = threading.Barrier(len(tasks))

    def run(i: int) -> None:
        together.wait()
        found[i] = tasks[i]()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def many_times(call: Callable[[int], Tensor], first_seed: int) -> Callable[[], list[Tensor]]:
    return lambda: [call(first_seed + i) for i in range(CALLS)]


EVALUATORS: dict[str, Callable[[VAE, Tensor, int], Tensor]] = {
    "log_evidence": lambda p, x, i: log_evidence(p, None, x, particles=3, seed=i).value,
    "log_evidence, replayed": lambda p, x, i: (
        log_evidence(p, None, x, particles=3, chunk=4, seed=i, engine="fx").value
    ),
    "collapse": lambda p, x, i: collapse(p, None, x, seed=i).kl,
}
MARKS = {"log_evidence, replayed": pytest.mark.long}


@pytest.mark.parametrize("name", [pytest.param(n, marks=MARKS.get(n, ())) for n in EVALUATORS])
def test_two_threads_find_what_one_finds(name: str) -> None:
    program = made()
    x = torch.rand(6, 1, 4, 4).round()
    modes = [module.training for module in program.modules()]
    state = torch.get_rng_state()

    def call(seed: int) -> Tensor:
        return EVALUATORS[name](program, x, seed)

    alone = [many_times(call, 0)(), many_times(call, 100)()]
    together = at_once(many_times(call, 0), many_times(call, 100))
    assert [len(found) for found in together] == [CALLS, CALLS]
    for expected, got in zip(alone, together, strict=True):
        assert all(map(torch.equal, expected, got))
    assert [module.training for module in program.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert not pyro.get_param_store().keys()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:the draws of hmc")
def test_a_chain_beside_an_annealing() -> None:
    """Both patch Pyro while they run."""
    program = made()
    x = torch.rand(3, 1, 4, 4).round()
    schools = toy.EightSchools()

    def annealed(seed: int) -> Tensor:
        return ais(program, x, chains=2, temperatures=4, leapfrogs=1, seed=seed).value

    def sampled(seed: int) -> Tensor:
        options = {"draws": 4, "warmup": 4, "chains": 2, "engine": "eager"}
        drawn = hmc(schools.model, *schools.data, seed=seed, **options)
        return drawn.samples["mu"]

    alone = [[annealed(i) for i in range(2)], [sampled(i) for i in range(2)]]
    together = at_once(
        lambda: [annealed(i) for i in range(2)], lambda: [sampled(i) for i in range(2)]
    )
    for expected, got in zip(alone, together, strict=True):
        assert len(got) == 2
        assert all(map(torch.equal, expected, got))


def test_a_program_is_judged_while_another_is_fitted() -> None:
    program, other = made(), made()
    x = torch.rand(6, 1, 4, 4).round()
    step = svi_step(other, torch.optim.Adam(other.parameters()))

    def fitted(_: int) -> Tensor:
        return step(x)["elbo"]

    def judged(seed: int) -> Tensor:
        return log_evidence(program, None, x, particles=3, seed=seed).value

    alone = many_times(judged, 0)()
    losses, together = at_once(many_times(fitted, 0), many_times(judged, 0))
    assert all(map(torch.equal, alone, together))
    assert len(losses) == CALLS
    assert all(module.training for module in other.modules())
