"""Programs × laws, in one table."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs import PROGRAMS
from torch import Tensor, nn

from ppl_gen.likelihoods import Bernoulli
from ppl_gen.models import VAE, vae
from ppl_gen.program import register
from ppl_gen.protocols import Distribution
from ppl_gen.testing import LAWS, _Case, check_program


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_law(name: str, law: str) -> None:
    program, x, context = PROGRAMS[name]()
    LAWS[law](_Case.checked(program, program.guide, x, *context))


def test_all_laws_in_one_call_leave_the_generator_alone(binary: Tensor) -> None:
    program = vae((1, 8, 8), 2)
    state = torch.get_rng_state()
    check_program(program, binary)
    assert torch.equal(torch.get_rng_state(), state)


class _Idle(Bernoulli):
    """Has a parameter that nothing depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.zeros(3))


class _Leaky(Bernoulli):
    """Its logits depend on the other data of the batch."""

    def forward(self, logits: Tensor) -> Distribution:
        return super().forward(logits - logits.mean(-4, keepdim=True))


class _CountsAxes(Bernoulli):
    """Scores particles otherwise than a single draw."""

    def forward(self, logits: Tensor) -> Distribution:
        return super().forward(logits + logits.dim())


class _Forgetful(Bernoulli):
    """Keeps what it has learned where no state_dict finds it, and loses it in a copy."""

    offset = 1.0

    def __deepcopy__(self, memo: object) -> Bernoulli:
        return Bernoulli()

    def forward(self, logits: Tensor) -> Distribution:
        return super().forward(logits + self.offset)


class _Counting(Bernoulli):
    """Counts its calls in a buffer, in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, logits: Tensor) -> Distribution:
        self.calls += 1
        return super().forward(logits)


class _Unweighed(VAE):
    """A guide whose density grows with the number of particles, so that more of them are worse."""

    def guide(self, x: Tensor) -> Tensor:
        register(self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.encoder(x))
            excess = torch.full((x.shape[0],), float(z.shape[:-2].numel()))
            pyro.sample(
                "excess", dist.Delta(excess, log_density=excess), infer={"is_auxiliary": True}
            )
        return z


class _Transposed(VAE):
    """Hands out what it draws in another shape than it takes."""

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        drawn = super().model(x, n=n)
        return drawn.flatten(1) if x is None else drawn


def _clamped(logits: Tensor) -> Distribution:
    """Pyro's continuous Bernoulli, which clamps its probability before it normalises."""
    return dist.ContinuousBernoulli(logits=50 + logits)


def _parts(of: type[VAE]) -> VAE:
    made = vae((1, 8, 8), 2)
    return of(made.prior, made.decoder, made.likelihood, made.encoder)


BROKEN: dict[str, Callable[[], nn.Module]] = {
    "gradients reach every parameter": lambda: vae((1, 8, 8), 2, likelihood=_Idle()),
    "data do not see each other": lambda: vae((1, 8, 8), 2, likelihood=_Leaky()),
    "leading axes are a loop": lambda: vae((1, 8, 8), 2, likelihood=_CountsAxes()),
    "a copy with the state is the same": lambda: vae((1, 8, 8), 2, likelihood=_Forgetful()),
    "evaluation leaves no trace": lambda: vae((1, 8, 8), 2, likelihood=_Counting()),
    "more particles are a tighter bound": lambda: _parts(_Unweighed),
    "draws have the shape of data": lambda: _parts(_Transposed),
    "the likelihood is a density": lambda: vae((1, 8, 8), 2, likelihood=_clamped),
}


@pytest.mark.parametrize("law", LAWS)
def test_a_broken_program_is_named(law: str, binary: Tensor) -> None:
    with pytest.raises(AssertionError, match=f"law broken, '{law}'"):
        check_program(BROKEN[law](), binary)
